"""Problems with executable tests, thousands of them, correct by construction: compositions of small operations.

**In**: `ExerciseChoices`, with a seed.
**Out**: `Problem`s to train on and held-out ones, of compositions that no trained one has; demonstrations as people
write them, some of them careless.
**Not**: running anything (`rewards.py`): what tests expect is computed by `operations.py`'s own `right`, here.

A composition is an ordered list of operations; single ones are always trained. The same seed gives the same problems.
"""

import itertools
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from codegemma.align.choices import ExerciseChoices
from codegemma.align.operations import NOUNS, OPERATIONS, Kind, Operation
from codegemma.records import Split
from codegemma.text.chat_format import Turn

FUNCTION = "f"
_LARGEST_PARAMETER = 5
# One composition in so many is held out.
_HELDOUT_IN = 5
# Where an operation is mostly written carelessly, and where mostly with care.
_CARELESS_SHARES = (0.7, 0.3)
_WORDS = ("a", "Ann", "bee", "an", "Oak", "apple", "Ivy", "tea", "bee", "Zoo", "echo", "yes")


class Case(NamedTuple):
    """One call of the function: what it is given, and what it must give."""

    given: Any
    wanted: Any


@dataclass(frozen=True, slots=True)
class Problem:
    """What is asked, in words; `tests` decide rewards, `audits` are kept from them, to see what rewards miss.

    A problem that somebody gave has no `steps`, a `function` of its own name, and cases that give all its arguments.
    """

    number: int
    words: str
    steps: tuple[tuple[str, int], ...]
    tests: tuple[Case, ...]
    audits: tuple[Case, ...]
    demonstration: str | None = None
    function: str = FUNCTION

    @property
    def turn(self) -> Turn:
        """The question, as the user's turn."""
        return Turn("user", self.words)

    @property
    def is_given(self) -> bool:
        """Whether somebody gave it: it is none of this family."""
        return not self.steps

    @property
    def calls(self) -> tuple[tuple[Any, ...], ...]:
        """The arguments of each call, of tests and then of audits."""
        cases = (*self.tests, *self.audits)
        return tuple(case.given if self.is_given else (case.given,) for case in cases)

    @property
    def composition(self) -> tuple[str, ...]:
        """The operations' names in their order: what the split goes by."""
        return tuple(name for name, _ in self.steps)


Steps = Sequence[tuple[Operation, int]]


def make_problems(choices: ExerciseChoices, split: Split) -> list[Problem]:
    """Make the problems of one side; of the trained ones the first `demonstrated` have a demonstration."""
    rng = random.Random(f"{choices.seed}/{split}")
    compositions = [c for c in list_compositions(choices.max_operations) if choose_split(c) is split]
    wanted = choices.problems if split is Split.TRAIN else choices.heldout
    by_length = [[c for c in compositions if len(c) == n] for n in range(1, choices.max_operations + 1)]
    lengths = [group for group in by_length if group]
    shares = share_careless(choices)
    problems: list[Problem] = []
    seen: set[tuple[tuple[str, int], ...]] = set()
    for _ in range(50 * wanted):
        if len(problems) == wanted:
            break
        steps = [
            (op, rng.randint(1, _LARGEST_PARAMETER) if op.has_number else 0) for op in rng.choice(rng.choice(lengths))
        ]
        key = tuple((op.name, n) for op, n in steps)
        # Single operations are few; they come again, with other tests and another hand.
        if key in seen and (len(steps) > 1 or split is Split.HELDOUT):
            continue
        seen.add(key)
        is_shown = split is Split.TRAIN and len(problems) < choices.demonstrated
        problems.append(_make_problem(len(problems), steps, choices, rng, shares if is_shown else None))
    return problems


def list_compositions(longest: int) -> Iterator[tuple[Operation, ...]]:
    """List the compositions of up to so many different operations, of which each takes what the one before gives."""
    followers = {op.name: [other for other in OPERATIONS if op.gives == other.takes] for op in OPERATIONS}
    ways: list[tuple[Operation, ...]] = [(operation,) for operation in OPERATIONS]
    for _ in range(longest):
        yield from ways
        # By identity: records compare field by field, which for thousands of ways is slow.
        ways = [(*way, op) for way in ways for op in followers[way[-1].name] if all(op is not one for one in way)]


def choose_split(composition: Sequence[Operation]) -> Split:
    """Say on which side a composition lies, by its operations alone.

    >>> choose_split([OPERATIONS[0]])
    <Split.TRAIN: 'train'>
    """
    if len(composition) == 1:
        return Split.TRAIN
    number = zlib.crc32("/".join(op.name for op in composition).encode())
    return Split.HELDOUT if number % _HELDOUT_IN == 0 else Split.TRAIN


def share_careless(choices: ExerciseChoices) -> dict[str, float]:
    """Say how often each operation is written carelessly: some mostly, the others seldom."""
    rng = random.Random(f"{choices.seed}/careless")
    names = [operation.name for operation in OPERATIONS if operation.careless is not None]
    rng.shuffle(names)
    often = round(len(names) * choices.mostly_careless)
    return {name: _CARELESS_SHARES[place >= often] for place, name in enumerate(names)}


def write_program(steps: Steps, careless: Sequence[bool] = ()) -> str:
    """Spell the function, with care but where `careless` says otherwise.

    >>> print(write_program([(OPERATIONS[0], 2), (OPERATIONS[3], 0)]))
    def f(x):
        x = x[2:]
        x = x.upper()
        return x
    """
    lines = [f"def {FUNCTION}(x):"]
    for (operation, number), is_careless in itertools.zip_longest(steps, careless[: len(steps)], fillvalue=False):  # type: ignore[misc]
        spelled = operation.careless if is_careless and operation.careless is not None else operation.careful
        lines.append(f"    x = {spelled.replace('{n}', str(number))}")
    return "\n".join([*lines, "    return x"])


def answer_rightly(steps: Steps, given: Any) -> Any:
    """Compute what is right, by other means than the spelled program."""
    for operation, number in steps:
        given = operation.right(given, number)
    return given


def _make_problem(
    number: int, steps: Steps, choices: ExerciseChoices, rng: random.Random, shares: dict[str, float] | None
) -> Problem:
    takes = steps[0][0].takes
    givens = draw_givens(takes, choices.tests + choices.audits, rng)
    tests = [Case(given, answer_rightly(steps, given)) for given in givens]
    shown = None
    if shares is not None:
        shown = write_program(steps, [rng.random() < shares.get(op.name, 0.0) for op, _ in steps])
    words = "; ".join(op.words.replace("{n}", str(n)) for op, n in steps)
    key = tuple((op.name, n) for op, n in steps)
    # Edges come first and in pairs: both halves get some.
    return Problem(
        number, f"Write {FUNCTION}(x) for {NOUNS[takes]}: {words}.", key, tuple(tests[::2]), tuple(tests[1::2]), shown
    )


def draw_givens(kind: Kind, count: int, rng: random.Random) -> list[Any]:
    """Draw what functions are called with: the edges twice, for tests and audits, then ordinary values."""
    edges: list[Any] = []
    for make in _EDGES[kind]:
        edges += [make(rng), make(rng)]
    ordinary = [_ORDINARY[kind](rng) for _ in range(max(0, count - len(edges)))]
    return (edges + ordinary)[:count]


def _draw_text(rng: random.Random) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 3)))


def _draw_numbers(rng: random.Random) -> list[int]:
    return [rng.randint(-9, 9) for _ in range(rng.randint(3, 6))]


# The edges, most telling first: nothing, capitals and gaps, one thing, ties, zero and below.
_EDGES: dict[Kind, tuple[Any, ...]] = {
    "text": (
        lambda rng: "",  # noqa: ARG005
        lambda rng: (
            f" {rng.choice(('eA', 'Ua', 'oI'))}  {rng.choice(_WORDS)} {rng.choice('AEIOU')}{rng.choice('xyz')} B"
        ),
        lambda rng: rng.choice("aBcE"),
    ),
    "words": (
        lambda rng: [],  # noqa: ARG005
        lambda rng: ["bee", "Zoo", rng.choice(_WORDS), "an", "bee", "Ann", "", "a", "apple"],
        lambda rng: [rng.choice(_WORDS)],
    ),
    "numbers": (
        lambda rng: [],  # noqa: ARG005
        lambda rng: [rng.choice((3, 5)), -3, 0, 5, -1, 4, 3, rng.choice((2, 1)), 1, 2, -3],
        lambda rng: [rng.randint(-9, -1)],
    ),
    "number": (
        lambda rng: rng.choice((-7, -13, -25)),
        lambda rng: 0,  # noqa: ARG005
        lambda rng: rng.randint(10, 99),
    ),
}
_ORDINARY: dict[Kind, Any] = {
    "text": _draw_text,
    "words": lambda rng: [rng.choice(_WORDS) for _ in range(rng.randint(2, 5))],
    "numbers": _draw_numbers,
    "number": lambda rng: rng.randint(-99, 99),
}
