"""Measures keystroke by keystroke, so that a long run can be watched, cut off and gone on with.

**In**: keystrokes, and systems that answer them one after the other.
**Out**: rows, in memory and, with a file, one JSON object a line as they come; the next run with that file goes on.
**Not**: what a row says: that is its benchmark's.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.traces import Keystroke

Row = Mapping[str, Any]
Note = Callable[[Row], None]


class TimeUpError(Exception):
    """The minutes that a run was given are over."""


class LongRun:
    """Rows by system and place in the trace."""

    def __init__(self, file: Path | None, head: Row, minutes: float) -> None:
        """Read what an earlier run measured of the same thing, which `head` describes; the clock runs from now."""
        self.rows: dict[tuple[str, int], Row] = {}
        self._file, self._until = file, time.monotonic() + minutes * 60
        if file is None:
            return
        text = file.read_text() if file.exists() else ""
        lines = text.splitlines()
        if text and not text.endswith("\n"):  # the last was cut off
            del lines[-1]
            file.write_text("".join(f"{line}\n" for line in lines))
        if not lines:
            file.write_text(json.dumps(dict(head)) + "\n")
        elif json.loads(lines[0]) != dict(head):
            raise SystemExit(f"{file} holds another measurement: {lines[0]}; wanted {json.dumps(dict(head))}")
        for line in lines[1:]:
            row = json.loads(line)
            self.rows[row.pop("system"), row.pop("place")] = row

    def measure(
        self,
        system: str,
        first: int,
        keystrokes: Sequence[Keystroke],
        run: Callable[[Sequence[Keystroke], Note], object],
        *,
        replays: int,
    ) -> None:
        """Have a system answer a file's keystrokes that it did not yet; it notes a row for each.

        After a cut it is first asked the last `replays` again, unmeasured, so that it knows what it knew.

        Raises:
            TimeUpError: the time is over; what was measured is kept.
        """
        known = 0
        while known < len(keystrokes) and (system, first + known) in self.rows:
            known += 1
        if known == len(keystrokes):
            return
        place = max(known - replays, 0)

        def note(row: Row) -> None:
            nonlocal place
            if place >= known:
                self._add(system, first + place, row)
            place += 1
            if time.monotonic() > self._until and place < len(keystrokes):
                raise TimeUpError

        if time.monotonic() > self._until:
            raise TimeUpError
        run(keystrokes[place:], note)

    def list_pairs(self, ours: str, theirs: str) -> list[tuple[Row, Row]]:
        """List what both answered, in the trace's order."""
        places = sorted(place for system, place in self.rows if system == ours and (theirs, place) in self.rows)
        return [(self.rows[ours, place], self.rows[theirs, place]) for place in places]

    def _add(self, system: str, place: int, row: Row) -> None:
        self.rows[system, place] = row
        if self._file is not None:
            with self._file.open("a") as kept:
                kept.write(json.dumps({"system": system, "place": place, **row}) + "\n")
