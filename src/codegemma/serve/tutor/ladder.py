"""The hints of an exercise, rung by rung: each is computed from how the exercise was made, and none skips a rung.

**In**: an exercise, what the learner did so far, the teacher's policy.
**Out**: the next hint, or why there is none.
**Not**: hints by a model, which `tutor.py` asks for about code of the learner's own.
"""

from dataclasses import dataclass

from codegemma.serve.tutor.exercises import Exercise
from codegemma.serve.tutor.ledger import Record
from codegemma.serve.tutor.policy import Policy, Rung


@dataclass(frozen=True, slots=True)
class Hint:
    """A hint at a rung; without a rung, the reason why there is none. `code` is shown as code."""

    rung: Rung | None
    text: str
    code: str = ""


def give_hint(exercise: Exercise, record: Record, policy: Policy) -> Hint:
    """Climb one rung, as far as the policy lets; a rung once reached can be seen again at the top.

    >>> from codegemma.serve.tutor.exercises import make_exercise
    >>> give_hint(make_exercise("write-beginner-numbers-1"), Record(), Policy()).rung.label
    'nudge'
    """
    wanted = Rung(min(record.rung + 1, Rung.CODE))
    if wanted > policy.highest:
        if record.rung:
            return Hint(None, f"the teacher's policy ends hints at {policy.highest.label}; try with what you have")
        return Hint(None, "the teacher's policy gives no hints for this exercise")
    if wanted is Rung.CODE and not record.is_solved and record.attempts < policy.code_after_attempts:
        missing = policy.code_after_attempts - record.attempts
        return Hint(
            None, f"code is shown after {missing} more attempt{'s' if missing > 1 else ''}; have one checked first"
        )
    record.rung = wanted
    return _spell(exercise, wanted)


def _spell(exercise: Exercise, rung: Rung) -> Hint:
    if rung is Rung.NUDGE:
        return Hint(rung, _nudge(exercise))
    if rung is Rung.CONCEPT:
        return Hint(rung, " ".join(exercise.concepts))
    if rung is Rung.PSEUDO_CODE:
        steps = exercise.pseudo
        return Hint(rung, "In words, step by step:", "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)))
    if exercise.kind == "predict":
        return Hint(rung, "It gives:", repr(exercise.cases[0].expected))
    return Hint(rung, "One way to write it:", exercise.solution)


def _nudge(exercise: Exercise) -> str:
    if exercise.kind == "predict":
        return (
            "Play Python: write each variable on paper, and follow the loop round by round. What is it after the first?"
        )
    case = exercise.examples[0]
    if exercise.kind == "repair":
        value = f"{case.given!r}: it should give {case.expected!r}"
        return f"Call it with a value that you can follow, such as {value}. Where does it leave that way?"
    steps = len(exercise.pseudo)
    parts = "one step" if steps == 1 else f"{steps} steps, one after the other"
    return f"Do it by hand first: how do you get from {case.given!r} to {case.expected!r}? It is {parts}."
