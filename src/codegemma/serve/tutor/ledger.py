"""What each learner did with each exercise: attempts, rungs, code told. In memory; no text of a learner's is kept.

**In**: whose it is, and which exercise.
**Out**: `Record`s, and counts for a report.
**Not**: the page's own progress, which a browser keeps and exports.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

_MAX_RECORDS = 20_000
_MAX_TOLD = 200


@dataclass(slots=True)
class Record:
    """One learner and one exercise. `told` is code that the tutor showed: no solution is told in slices."""

    attempts: int = 0
    is_solved: bool = False
    rung: int = 0
    told: list[str] = field(default_factory=list)

    def tell(self, lines: list[str]) -> None:
        """Remember what was shown."""
        self.told = [*self.told, *lines][-_MAX_TOLD:]


class Ledger:
    """Records of all learners; the least recently used go first."""

    def __init__(self) -> None:
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()

    def find(self, owner: str, exercise: str) -> Record:
        """Find a record, or begin one."""
        record = self._records.setdefault((owner, exercise), Record())
        self._records.move_to_end((owner, exercise))
        while len(self._records) > _MAX_RECORDS:
            self._records.popitem(last=False)
        return record

    def report(self, owner: str) -> dict[str, Any]:
        """Count what a learner did."""
        mine = {name: record for (whose, name), record in self._records.items() if whose == owner}
        return {
            "attempts": sum(record.attempts for record in mine.values()),
            "solved": sum(record.is_solved for record in mine.values()),
            "exercises": [
                {"exercise": name, "attempts": r.attempts, "solved": r.is_solved, "highest_hint": r.rung}
                for name, r in mine.items()
                if r.attempts or r.rung
            ],
        }
