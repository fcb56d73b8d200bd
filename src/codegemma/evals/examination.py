"""What every suite is given, and what it gives back.

**In**: a subject, the folders that hold data, the choices.
**Out**: `Answers`: results hole by hole, with what must be said beside them.
**Not**: any suite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import Measurement
from codegemma.evals.programs import ProgramResult
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.runner import Progress
from codegemma.shards import find_output


@dataclass(frozen=True, slots=True)
class Examination:
    """What every suite is given."""

    subject: Subject
    data: tuple[Path, ...]
    choices: EvalChoices
    on_progress: Progress

    def find(self, name: str, wanted: str) -> Path:
        """Find a data file in the given folders, or given itself.

        Raises:
            InputError: it is in none of them; the message says what is wanted.
        """
        for place in self.data:
            path = find_output(place, name)
            if path.stem == Path(name).stem and path.exists():
                return path
        where = ", ".join(map(str, self.data)) or "no --data given"
        raise InputError(f"no {name} in --data ({where}); wanted {wanted}")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a suite returns: results hole by hole or program by program, and what must be said beside them.

    `measurements` are a suite's own; without them, those of holes are made of the results.
    """

    scored_by: str
    items: int
    results: Sequence[HoleResult] | Sequence[ProgramResult]
    notes: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] | None = None
