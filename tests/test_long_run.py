"""A benchmark that is cut off goes on where it was: nothing is measured twice, and nothing is lost."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks.long_run import LongRun, Note
from benchmarks.traces import Keystroke

HEAD = {"trace": "t"}
FILES = [[Keystroke("typed", path, "python", str(number), "", False) for number in range(4)] for path in "ab"]


class CutError(Exception):
    """Somebody pulled the plug."""


class System:
    """Answers, remembers what it was asked, and is cut off after so many answers."""

    def __init__(self, cut_after: int | None = None) -> None:
        self.cut_after, self.asked = cut_after, list[str]()

    def run(self, keystrokes: Sequence[Keystroke], note: Note) -> None:
        for keystroke in keystrokes:
            if self.cut_after == len(self.asked):
                raise CutError
            self.asked.append(keystroke.path + keystroke.prefix)
            note({"seconds": len(self.asked)})


def measure(file: Path, system: System, replays: int, minutes: float = 60.0) -> LongRun:
    run = LongRun(file, HEAD, minutes)
    for number, keystrokes in enumerate(FILES):
        run.measure("ours", 4 * number, keystrokes, system.run, replays=replays)
    return run


@pytest.mark.parametrize("cut_after", range(8))
def test_a_run_goes_on_where_it_was_cut_off(cut_after, tmp_path):
    file = tmp_path / "rows.jsonl"
    with pytest.raises(CutError):
        measure(file, System(cut_after), replays=1)
    rest = System()
    run = measure(file, rest, replays=1)
    assert sorted(run.rows) == [("ours", place) for place in range(8)]
    again = 1 if cut_after % 4 else 0  # in the middle of a file the last one is asked again, unmeasured
    assert len(rest.asked) == 8 - cut_after + again
    assert len(file.read_text().splitlines()) == 9


def test_what_must_be_known_is_asked_again_and_not_measured_anew(tmp_path):
    file = tmp_path / "rows.jsonl"
    with pytest.raises(CutError):
        measure(file, System(6), replays=4)
    with file.open("a") as kept:
        kept.write('{"system": "ours", "pla')  # the write was cut off too
    rest = System()
    run = measure(file, rest, replays=4)
    assert rest.asked == ["b0", "b1", "b2", "b3"]
    assert [run.rows["ours", place]["seconds"] for place in (5, 6)] == [6, 3]
    assert LongRun(file, HEAD, 1.0).rows == run.rows


def test_another_measurement_is_not_mixed_in(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"trace": "other"}) + "\n")
    with pytest.raises(SystemExit, match="another measurement"):
        LongRun(tmp_path / "rows.jsonl", HEAD, 1.0)


def test_pairs_are_what_both_answered():
    run = LongRun(None, HEAD, 60.0)
    run.measure("ours", 0, FILES[0], System().run, replays=4)
    with pytest.raises(CutError):
        run.measure("theirs", 0, FILES[0], System(2).run, replays=1)
    assert [ours["seconds"] for ours, _ in run.list_pairs("ours", "theirs")] == [1, 2]
