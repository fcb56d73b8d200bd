"""What is chosen for synthesis: how many snippets, how a model is asked, what an answer must stand.

**In**: nothing.
**Out**: `SynthesisChoices` and `Price`.
**Not**: addresses and keys; those are the job's (`run.py`).
"""

from dataclasses import dataclass, field

BEST_SCORE = 5


@dataclass(frozen=True, slots=True)
class AskChoices:
    """How a model is asked: up to `tries` times until its answer can be read, each time with another sampling seed."""

    temperature: float = 0.7
    max_new_tokens: int = 2048
    tries: int = 3

    def __post_init__(self) -> None:
        """Refuse what asks for nothing."""
        if self.tries < 1 or self.max_new_tokens < 1 or self.temperature < 0:
            raise ValueError("tries and max_new_tokens are at least 1, temperature at least 0")


@dataclass(frozen=True, slots=True)
class ExaminationChoices:
    """What a draft must stand in the sandbox.

    Its solution passes its tests `runs` times of `runs`. Of up to `variants` broken variants, the emptied one and at
    least `min_caught` of all must fail them. A program may compute for `seconds`.
    """

    runs: int = 3
    variants: int = 8
    min_caught: float = 0.5
    seconds: int = 5

    def __post_init__(self) -> None:
        """Refuse an examination that finds nothing out."""
        if self.runs < 2 or self.variants < 1 or self.seconds < 1:
            raise ValueError("runs is at least 2, else nothing flaky shows; variants and seconds at least 1")
        if not 0 <= self.min_caught <= 1:
            raise ValueError(f"min_caught is a share between 0 and 1, got {self.min_caught}")


@dataclass(frozen=True, slots=True)
class SynthesisChoices:
    """`seeds` snippets of up to `snippet_lines` lines, at most `per_file` of a file, chosen by `seed`.

    A draft stays with at least `min_score` of 5 for helpfulness and for correctness (0: no judge is asked), unlike all
    before it by a Jaccard index of `min_jaccard`.
    """

    seeds: int = 1000
    per_file: int = 1
    snippet_lines: int = 15
    min_score: int = 4
    min_jaccard: float = 0.7
    seed: int = 0
    generator: AskChoices = field(default_factory=AskChoices)
    judge: AskChoices = field(default_factory=lambda: AskChoices(temperature=0.0, max_new_tokens=512))
    examination: ExaminationChoices = field(default_factory=ExaminationChoices)

    def __post_init__(self) -> None:
        """Refuse numbers that choose nothing."""
        if min(self.seeds, self.per_file, self.snippet_lines) < 1:
            raise ValueError("seeds, per_file and snippet_lines are at least 1")
        if not 0 <= self.min_score <= BEST_SCORE:
            raise ValueError(f"min_score is between 0 and {BEST_SCORE}, got {self.min_score}")
        if not 0.5 <= self.min_jaccard <= 1:
            raise ValueError(f"min_jaccard is between 0.5 and 1, got {self.min_jaccard}: less is not found reliably")


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, read and written, in whichever currency.

    >>> Price.parse("0.15,0.60").add_up(2_000_000, 500_000)
    0.6
    """

    read: float = 0.0
    written: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Price":
        """Read `READ,WRITTEN`.

        Raises:
            ValueError: it is something else.
        """
        read, comma, written = text.partition(",")
        if not comma:
            raise ValueError(f"{text!r}: wanted READ,WRITTEN for a million tokens, such as 0.15,0.60")
        return cls(float(read), float(written))

    def add_up(self, prompt_tokens: int, new_tokens: int) -> float:
        """Give the cost of so many tokens."""
        return (prompt_tokens * self.read + new_tokens * self.written) / 1e6
