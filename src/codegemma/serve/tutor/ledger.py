"""What each learner did with each exercise: attempts, rungs, code told; in a file where they are to outlive the server.

**In**: whose it is, and which exercise.
**Out**: `Record`s, and counts for a report. No attempt is kept, only what the tutor told of a solution. Of each learner
the exercises that were used last have a record; of older ones the sums remain, and of a teacher's tasks all is kept.
**Not**: the page's own progress, which a browser keeps and exports.
"""

import json
import sqlite3
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma.errors import InputError, OutputError

TASK_PREFIX = "task:"
_MAX_OF_ONE = 500
_MAX_RECORDS = 20_000
_MAX_LEARNERS = 5_000
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


@dataclass(slots=True)
class Sums:
    """What is left of the records of one learner that went."""

    exercises: int = 0
    attempts: int = 0
    solved: int = 0

    def add(self, record: Record) -> None:
        """Take in a record that goes."""
        self.exercises += 1
        self.attempts += record.attempts
        self.solved += record.is_solved


@dataclass(slots=True)
class _Learner:
    records: OrderedDict[str, Record] = field(default_factory=OrderedDict)
    sums: Sums = field(default_factory=Sums)


_TABLES = (
    "CREATE TABLE IF NOT EXISTS records (owner TEXT, exercise TEXT, attempts INTEGER, is_solved INTEGER, rung INTEGER, "
    "told TEXT, PRIMARY KEY (owner, exercise))",
    "CREATE TABLE IF NOT EXISTS sums (owner TEXT PRIMARY KEY, exercises INTEGER, attempts INTEGER, solved INTEGER)",
)
# A row that is kept again goes to the end.
_ROWS = "SELECT owner, exercise, attempts, is_solved, rung, told FROM records ORDER BY rowid"
_SUMS = "SELECT owner, exercises, attempts, solved FROM sums"
_KEEP = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)"
_KEEP_SUMS = "INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM records WHERE owner = ? AND exercise = ?"
_FORGET = ("DELETE FROM records WHERE owner = ?", "DELETE FROM sums WHERE owner = ?")


class Ledger:
    """Records of all learners, the least recently used first. A file belongs to one server at a time."""

    def __init__(self, file: Path | None = None) -> None:
        """Read what was kept.

        Raises:
            InputError: another server has the file, or it is none of these.
            OutputError: it cannot be written.
        """
        self._learners: OrderedDict[str, _Learner] = OrderedDict()
        self._count = 0
        self._file, self._kept = file, None
        if file is not None:
            self._kept, rows, sums = _open(file)
            for owner, *counts in sums:
                self._learners[owner] = _Learner(sums=Sums(*counts))
            for owner, exercise, attempts, is_solved, rung, told in rows:
                self._add(owner, exercise, Record(attempts, bool(is_solved), rung, json.loads(told)))

    def find(self, owner: str, exercise: str) -> Record:
        """Find a record, or begin one."""
        learner = self._learners.get(owner)
        record = learner.records.get(exercise) if learner is not None else None
        return self._add(owner, exercise, record or Record())

    def keep(self, owner: str, exercise: str) -> None:
        """Write a record that has changed.

        Raises:
            OutputError: the file cannot be written.
        """
        record = self.find(owner, exercise)
        told = json.dumps(record.told)
        self._write((_KEEP, (owner, exercise, record.attempts, record.is_solved, record.rung, told)))

    def close(self) -> None:
        """Let go of the file."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def report(self, owner: str) -> dict[str, Any]:
        """Count what a learner did; `earlier` are exercises of which the sums alone are left."""
        mine = self._learners.get(owner, _Learner())
        records, sums = mine.records, mine.sums
        return {
            "attempts": sums.attempts + sum(record.attempts for record in records.values()),
            "solved": sums.solved + sum(record.is_solved for record in records.values()),
            "exercises": [
                {"exercise": name, "attempts": r.attempts, "solved": r.is_solved, "highest_hint": r.rung}
                for name, r in records.items()
                if r.attempts or r.rung
            ],
            "earlier": {"exercises": sums.exercises, "attempts": sums.attempts, "solved": sums.solved},
        }

    def _add(self, owner: str, exercise: str, record: Record) -> Record:
        """Put a record last, and have the oldest go: of a learner with too many, of whoever was longest away."""
        records = self._learners.setdefault(owner, _Learner()).records
        self._learners.move_to_end(owner)
        self._count += exercise not in records
        records[exercise] = record
        records.move_to_end(exercise)
        if len(records) > _MAX_OF_ONE:
            generated = (name for name in records if not name.startswith(TASK_PREFIX))
            self._fold(owner, next(generated, exercise))
        while self._count > _MAX_RECORDS:
            longest_away, learner = next(item for item in self._learners.items() if item[1].records)
            self._fold(longest_away, next(iter(learner.records)))
        while len(self._learners) > _MAX_LEARNERS:
            gone, learner = self._learners.popitem(last=False)
            self._count -= len(learner.records)
            self._write(*((statement, (gone,)) for statement in _FORGET))
        return record

    def _fold(self, owner: str, exercise: str) -> None:
        """Add a record to its learner's sums and drop it."""
        learner = self._learners[owner]
        if owner == next(reversed(self._learners)) and exercise == next(reversed(learner.records)):
            return  # it is in use, and all others are a teacher's tasks
        learner.sums.add(learner.records.pop(exercise))
        self._count -= 1
        sums = learner.sums
        kept = (owner, sums.exercises, sums.attempts, sums.solved)
        self._write((_DROP, (owner, exercise)), (_KEEP_SUMS, kept))

    def _write(self, *changes: tuple[str, tuple[object, ...]]) -> None:
        """Make all changes or none."""
        if self._kept is None:
            return
        try:
            with self._kept:  # ends the transaction, either way
                self._kept.execute("BEGIN IMMEDIATE")
                for statement, values in changes:
                    self._kept.execute(statement, values)
        except sqlite3.Error as error:
            raise OutputError(f"progress cannot be written to {self._file} ({error})") from error


def _open(file: Path) -> tuple[sqlite3.Connection, list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)  # where it was there already
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror}); name another with --progress") from error
    # Transactions are begun by hand. It is opened in one thread and used in the server's.
    kept = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        for statement in ("PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", *_TABLES):
            kept.execute(statement)
        return kept, kept.execute(_ROWS).fetchall(), kept.execute(_SUMS).fetchall()
    except sqlite3.DatabaseError as error:
        kept.close()
        what = "is another server's" if "locked" in str(error) else "holds no progress of learners"
        raise InputError(f"{file} {what} ({error}); name another with --progress") from error
