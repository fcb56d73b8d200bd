"""Makes exercises at a level, correct by construction: steps put one after the other, with their words, code and tests.

**In**: a kind, a level, a topic and a seed; the name that they make up is all that is needed to make it again.
**Out**: `Exercise`: what is asked, examples, the reference solution, cases with what is right.
**Not**: a model. What is right is computed by each step's function, and never by the code that a learner would write.

Three kinds: write a function; repair one that has a mistake in it; predict what one gives.
"""

import ast
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from codegemma.errors import InputError
from codegemma.serve.tutor.operations import OPERATIONS, Operation
from codegemma.serve.tutor.policy import LEVELS

KINDS = ("write", "repair", "predict")
TOPICS = ("numbers", "words", "text")
# How many steps an exercise of a level has, and how difficult the most difficult must be and may be.
_STEPS = {"beginner": (1, 1, 1), "intermediate": (2, 1, 2), "advanced": (3, 2, 3)}
_WORDS = (
    "apple", "egg", "cat", "tree", "ant", "river", "umbrella", "code", "loop", "owl", "stack", "queue", "set", "tuple",
    "edge", "node", "idea", "oak", "list",
)  # fmt: skip
_EXAMPLES, _CASES = 2, 12
_MAX_TRIES = 200


@dataclass(frozen=True, slots=True)
class Step:
    """An operation with its number."""

    operation: Operation
    k: int

    def apply(self, value: Any) -> Any:
        """Compute what it gives."""
        return self.operation.apply(value, self.k)


@dataclass(frozen=True, slots=True)
class Case:
    """An input and what is right for it."""

    given: Any
    expected: Any


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise. `starter` is what the learner begins with; `cases` are hidden, `examples` are shown."""

    name: str
    kind: str
    level: str
    topic: str
    statement: str
    starter: str
    examples: tuple[Case, ...]
    cases: tuple[Case, ...]
    concepts: tuple[str, ...]
    pseudo: tuple[str, ...]
    solution: str
    function: str = "solve"


def name_exercise(kind: str, level: str, topic: str, seed: int) -> str:
    """Spell the name under which an exercise is made again.

    >>> name_exercise("write", "beginner", "numbers", 7)
    'write-beginner-numbers-7'

    Raises:
        InputError: an unknown kind, level or topic.
    """
    for what, value, known in (("kind", kind, KINDS), ("level", level, LEVELS), ("topic", topic, TOPICS)):
        if value not in known:
            raise InputError(f"{what} is {value!r}; known: {', '.join(known)}")
    return f"{kind}-{level}-{topic}-{seed}"


def make_exercise(name: str, secret: str = "") -> Exercise:
    """Make the exercise of a name; `secret` draws its hidden cases, so that nobody can look them up.

    Raises:
        InputError: no name of an exercise.
    """
    parts = name.split("-")
    if len(parts) != 4 or not parts[3].isdecimal() or len(parts[3]) > 12:
        raise InputError(f"{name[:60]!r} names no exercise; ask for one and use the name that it has")
    kind, level, topic, seed = parts
    name_exercise(kind, level, topic, int(seed))
    draw = _make_random(name)
    steps, wrong = _draw_with_slip(draw, level, topic) if kind == "repair" else (_draw_steps(draw, level, topic), None)
    hidden = _make_random(name, secret)
    inputs = _draw_inputs(hidden, topic, _CASES)
    if wrong is not None:
        inputs += [given for given in _draw_inputs(hidden, topic, 200) if _differ(steps, wrong, [given])][:2]
    return _spell(name, steps, wrong, draw, tuple(Case(given, _run(steps, given)) for given in inputs))


def spell_code(steps: Sequence[Step]) -> str:
    r"""Write the function that does the steps.

    >>> print(spell_code([Step(OPERATIONS["double"], 0), Step(OPERATIONS["sum"], 0)]))
    def solve(values):
        doubled = []
        for number in values:
            doubled.append(number * 2)
        result = 0
        for number in doubled:
            result = result + number
        return result
    """
    lines, before = ["def solve(values):"], "values"
    for place, step in enumerate(steps):
        is_last = place == len(steps) - 1
        after = "result" if is_last else _NAMES.get(step.operation.name, f"step{place + 1}")
        code = step.operation.code.format(a=before, b=after, k=step.k)
        lines += [f"    {line}" for line in code.split("\n")]
        before = after
    return "\n".join([*lines, "    return result"])


_NAMES = {"double": "doubled", "square": "squares", "split": "words", "lengths": "lengths", "upper": "capitals"}


def _make_random(*parts: str) -> random.Random:
    return random.Random(hashlib.sha256("\0".join(parts).encode()).digest())


def _run(steps: Sequence[Step], value: Any) -> Any:
    for step in steps:
        value = step.apply(value)
    return value


def _draw_steps(draw: random.Random, level: str, topic: str) -> list[Step]:
    """Draw steps that fit together and all matter: none of them may leave what it gets as it is on every input."""
    count, least, most = _STEPS[level]
    for _ in range(_MAX_TRIES):
        steps, kind = list[Step](), topic
        for _ in range(count):
            used = {step.operation.name for step in steps}
            fitting = [
                o for o in OPERATIONS.values() if o.takes == kind and o.difficulty <= most and o.name not in used
            ]
            if not fitting:
                break
            # Cutting a text that was just put together is no exercise.
            operation = draw.choice([o for o in fitting if not steps or o.name != "split"] or fitting)
            steps.append(Step(operation, draw.choice(operation.k) if operation.k else 0))
            kind = operation.gives
        hardest = max((step.operation.difficulty for step in steps), default=0)
        if len(steps) == count and hardest >= least and _all_matter(steps, topic):
            return steps
    raise AssertionError(f"no exercise of {level} about {topic}")  # pragma: no cover (a test draws all)


def _all_matter(steps: Sequence[Step], topic: str) -> bool:
    inputs = _draw_inputs(random.Random(1), topic, 20)
    if any(_differ(steps, [*steps[:i], *steps[i + 1 :]], inputs) < 5 for i in range(len(steps)) if len(steps) > 1):
        return False
    return len({repr(_run(steps, given)) for given in inputs}) >= 6


def _differ(one: Sequence[Step], other: Sequence[Step], inputs: Sequence[Any]) -> int:
    different = 0
    for given in inputs:
        try:
            different += _run(one, given) != _run(other, given)
        except (TypeError, AttributeError, IndexError, KeyError):
            different += 1  # without this step the next one cannot work
    return different


def _draw_inputs(draw: random.Random, topic: str, count: int) -> list[Any]:
    """Draw inputs: an empty one and a single one among them, where mistakes hide."""
    makers: dict[str, Callable[[int], Any]] = {
        "numbers": lambda size: [draw.randint(-4, 12) for _ in range(size)],
        "words": lambda size: [draw.choice(_WORDS) for _ in range(size)],
        "text": lambda size: " ".join(draw.choice(_WORDS) for _ in range(size)),
    }
    make = makers[topic]
    return [make(0), make(1), *(make(draw.randint(3, 8)) for _ in range(count - 2))]


def _spell(
    name: str, steps: Sequence[Step], wrong: Sequence[Step] | None, draw: random.Random, cases: tuple[Case, ...]
) -> Exercise:
    kind, level, topic, _ = name.split("-")
    says = [step.operation.says.format(k=step.k) for step in steps]
    what = {"numbers": "a list of whole numbers", "words": "a list of words", "text": "a text"}[topic]
    order = f"First {says[0]}; then " + "; then ".join(says[1:]) if len(says) > 1 else _capitalize(says[0])
    statement = f"The function `solve(values)` gets {what}. {order}. It returns the result."
    examples = tuple(Case(given, _run(steps, given)) for given in _draw_inputs(draw, topic, _EXAMPLES + 2)[2:])
    solution, starter = spell_code(steps), "def solve(values):\n    ...\n"
    concepts = tuple(dict.fromkeys(step.operation.concept for step in steps))
    if wrong is not None:
        starter = spell_code(wrong) + "\n"
        statement = f"This function has one mistake. Find and repair it. {statement}"
    if kind == "predict":
        case = examples[0]
        statement = f"What does `solve({case.given!r})` give? Read the function; write the value as Python writes it."
        starter, cases, examples = solution + "\n", (case,), ()
    return Exercise(
        name, kind, level, topic, statement, starter, examples, cases, concepts,
        tuple(_capitalize(step.operation.pseudo.format(k=step.k)) for step in steps), solution,
    )  # fmt: skip


def _draw_with_slip(draw: random.Random, level: str, topic: str) -> tuple[list[Step], list[Step]]:
    """Draw steps, and the same with one wrong: one that a person might take for the right one."""
    for _ in range(_MAX_TRIES):
        steps = _draw_steps(draw, level, topic)
        wrong = _list_slips(steps, topic)
        if wrong:
            return steps, draw.choice(wrong)
    raise AssertionError(f"no exercise of {level} about {topic}")  # pragma: no cover (a test draws all)


def _list_slips(steps: Sequence[Step], topic: str) -> list[list[Step]]:
    inputs = _draw_inputs(random.Random(2), topic, 20)
    slips = []
    for place, step in enumerate(steps):
        operation = step.operation
        others = [Step(operation, step.k + 1)] if operation.k else []
        if operation.slip:
            other = OPERATIONS[operation.slip]
            others.append(Step(other, step.k if other.k else 0))
        slips += [[*steps[:place], other, *steps[place + 1 :]] for other in others]
    return [slip for slip in slips if _can_run(slip, inputs) and _differ(steps, slip, inputs) >= 3]


def _can_run(steps: Sequence[Step], inputs: Sequence[Any]) -> bool:
    try:
        for given in inputs:
            _run(steps, given)
    except (TypeError, AttributeError, IndexError, KeyError, ZeroDivisionError):
        return False
    return True


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def read_prediction(text: str) -> Any:
    """Read a value as a learner writes it.

    Raises:
        InputError: no value of Python.
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError("that is no value of Python; write it as Python would, such as [1, 2] or 'ab'") from error
