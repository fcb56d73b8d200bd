"""What a generated problem is: a question, steps that a reader can follow one by one, and the answer.

**In**: nothing.
**Out**: `Problem`, and its two turns.
**Not**: how problems are drawn; each family has its function (`families.py`).

Formulas are plain text that a person reads and a program can: `3(x - 2)^2 = 12`, with `^` for powers and a product
without a sign. `or` divides solutions, a comma the equations of a system.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from codegemma.instruct.answers import end_as_math
from codegemma.records import Turn


class Relation(StrEnum):
    """How each formula follows from the one before: the same value whatever the letters are, or the same solutions."""

    EQUAL = "equal"
    EQUIVALENT = "equivalent"


class Step(NamedTuple):
    """What is done, and what is there afterwards. Without words it is what the question gives."""

    words: str
    formula: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its steps, and the answer in LaTeX. With a `modulus` the steps hold up to multiples of it."""

    question: str
    relation: Relation
    steps: tuple[Step, ...]
    answer: str
    modulus: int | None = None
    closing: str = ""

    def spell_solution(self) -> str:
        """Spell the steps, one a line, and the answer."""
        mark = f" (mod {self.modulus})" if self.modulus else ""
        lines = [f"{step.words}: {step.formula}{mark}" for step in self.steps if step.words]
        return end_as_math("\n".join(filter(None, [*lines, self.closing])), self.answer)

    def tell_turns(self) -> tuple[Turn, Turn]:
        """Tell it as a conversation."""
        return Turn("user", self.question), Turn("model", self.spell_solution())


class Work:
    """Steps under way; one that changes nothing is left out."""

    def __init__(self, given: str, words: str = "") -> None:
        """Begin with what is given; with `words`, where the question says it otherwise than as a formula."""
        self._steps = [Step(words, given)]

    def then(self, words: str, formula: str) -> "Work":
        """Add a step."""
        if formula != self._steps[-1].formula:
            self._steps.append(Step(words, formula))
        return self

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them."""
        return tuple(self._steps)
