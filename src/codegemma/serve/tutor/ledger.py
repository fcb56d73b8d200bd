"""What each learner did with each exercise: attempts, rungs, code told; in a file where they are to outlive the server.

**In**: whose it is, and which exercise.
**Out**: `Record`s, and counts for a report. No attempt is kept, only what the tutor told of a solution.
**Not**: the page's own progress, which a browser keeps and exports.
"""

import json
import sqlite3
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma.errors import InputError, OutputError

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


_TABLE = (
    "CREATE TABLE IF NOT EXISTS records (owner TEXT, exercise TEXT, attempts INTEGER, is_solved INTEGER, rung INTEGER, "
    "told TEXT, PRIMARY KEY (owner, exercise))"
)
# A row that is kept again goes to the end.
_ROWS = "SELECT owner, exercise, attempts, is_solved, rung, told FROM records ORDER BY rowid"


class Ledger:
    """Records of all learners; the least recently used go first. A file belongs to one server at a time."""

    def __init__(self, file: Path | None = None) -> None:
        """Read what was kept.

        Raises:
            InputError: another server has the file, or it is none of these.
            OutputError: it cannot be written.
        """
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()
        self._file, self._kept = file, None
        if file is not None:
            self._kept, rows = _open(file)
            for owner, exercise, attempts, is_solved, rung, told in rows:
                self._records[owner, exercise] = Record(attempts, bool(is_solved), rung, json.loads(told))

    def find(self, owner: str, exercise: str) -> Record:
        """Find a record, or begin one."""
        record = self._records.setdefault((owner, exercise), Record())
        self._records.move_to_end((owner, exercise))
        while len(self._records) > _MAX_RECORDS:
            key, _ = self._records.popitem(last=False)
            self._write("DELETE FROM records WHERE owner = ? AND exercise = ?", *key)
        return record

    def keep(self, owner: str, exercise: str) -> None:
        """Write a record that has changed.

        Raises:
            OutputError: the file cannot be written.
        """
        record = self.find(owner, exercise)
        told = json.dumps(record.told)
        values = (owner, exercise, record.attempts, record.is_solved, record.rung, told)
        self._write("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)", *values)

    def close(self) -> None:
        """Let go of the file."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _write(self, statement: str, *values: object) -> None:
        if self._kept is None:
            return
        try:
            self._kept.execute(statement, values)
        except sqlite3.Error as error:
            raise OutputError(f"progress cannot be written to {self._file} ({error})") from error

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


def _open(file: Path) -> tuple[sqlite3.Connection, list[tuple[Any, ...]]]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)  # where it was there already
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror}); name another with --progress") from error
    # Each statement is a transaction. It is opened in one thread and used in the server's.
    kept = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        for statement in ("PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", _TABLE):
            kept.execute(statement)
        return kept, kept.execute(_ROWS).fetchall()
    except sqlite3.DatabaseError as error:
        kept.close()
        what = "is another server's" if "locked" in str(error) else "holds no progress of learners"
        raise InputError(f"{file} {what} ({error}); name another with --progress") from error
