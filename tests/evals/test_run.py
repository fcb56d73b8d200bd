"""An evaluation leaves figures and every hole on disk, asks for what is missing, and says what was not run."""

import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.evals.byte_completer import ByteCompleter
from tests.evals.subjects import find_benchmarks, make_subject, write_data

from codegemma.errors import InputError, OutputError
from codegemma.evals.card import fill_card, spell_card
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import compare
from codegemma.evals.results import Results, read_results
from codegemma.evals.run import evaluate, read_hole_results
from codegemma.evals.suites import SUITES
from codegemma.records import Completion, InfillMode, Request, Score

CHOICES = EvalChoices(limit=24, generated_holes=8)


def _run(data: Path, out: Path, **changes: object) -> Results:
    choices = dataclasses.replace(CHOICES, **changes)  # type: ignore[arg-type]
    return evaluate(make_subject(), ["heldout"], data=[data], out=out, model="bytes", choices=choices)


def test_all_systems_answer_the_same_holes(tmp_path: Path) -> None:
    results = _run(write_data(tmp_path), tmp_path / "out")
    (suite,) = results.suites
    rows = read_hole_results(tmp_path / "out" / suite.holes_file)
    by_system: dict[tuple[str, str | None], set[str]] = {}
    for row in rows:
        by_system.setdefault((row.system, row.mode), set()).add(row.hole_id)
    assert set(by_system) == {
        ("model", InfillMode.PSM),
        ("model", InfillMode.SPM),
        ("n-gram", None),
        ("nearest line", None),
    }
    assert len({frozenset(holes) for holes in by_system.values()}) == 1
    assert suite.items == 24 == len(next(iter(by_system.values())))
    assert sum(r.generated_text is not None for r in rows if r.mode is InfillMode.PSM) == 8
    assert any("bytes of context" in note for note in suite.notes)


def test_summary_on_disk_is_what_is_returned(tmp_path: Path) -> None:
    results = _run(write_data(tmp_path), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["model"] == "bytes"
    assert written["suites"][0]["choices"]["limit"] == 24
    first, row = results.suites[0].measurements[0], written["suites"][0]["measurements"][0]
    assert (row["metric"], row["mode"]) == ("exact_match", "psm")
    assert row["interval"]["mean"] == first.interval.mean
    assert row["interval"]["items"] == 12
    assert row["interval"]["clusters"] > 1


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    for name in ("one", "two"):
        _run(data, tmp_path / name, has_baselines=False)
    for file in ("results.json", "holes-heldout.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_run_compared_with_itself_shows_no_difference(tmp_path: Path) -> None:
    _run(write_data(tmp_path), tmp_path / "out", has_baselines=False)
    rows = read_hole_results(tmp_path / "out" / "holes-heldout.jsonl")
    differences = compare(rows, rows)
    assert differences
    for difference in differences:
        interval = difference.interval
        assert interval.mean == 0.0
        # Of shares, nothing seen is not nothing there: the bound is that of so many holes without one.
        assert interval.low is not None
        assert interval.low == -(interval.high or 0.0)
        assert (interval.low < 0) == (difference.unit == "share")


def test_completer_that_cannot_score_is_reported_as_not_run(tmp_path: Path) -> None:
    class Remote(ByteCompleter):
        def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
            raise NotImplementedError

    subject = make_subject()
    assert isinstance(subject.completer, ByteCompleter)
    remote = dataclasses.replace(subject, completer=Remote(subject.completer.model))
    data, choices = write_data(tmp_path), dataclasses.replace(CHOICES, has_baselines=False)
    results = evaluate(remote, ["heldout"], data=[data], out=tmp_path / "out", model="remote", choices=choices)
    (suite,) = results.suites
    assert {m.metric for m in suite.measurements} == {"generated_match", "edit_similarity"}
    assert any("not run" in note for note in suite.notes)


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ("humanoid", "unknown suite 'humanoid'; known: heldout, humaneval, infilling-single"),
        ("heldout", r"no packs-heldout\.parquet in --data .*codegemma build"),
        ("infilling-single", "no HumanEval-SingleLineInfilling.jsonl.gz .*openai/human-eval-infilling"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(tmp_path: Path, suite: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(make_subject(), [suite], data=[tmp_path], out=tmp_path / "out", model="m", choices=CHOICES)
    assert list(tmp_path.rglob("*.json*")) == []


def test_all_stands_for_what_data_is_at_hand_for_and_tells_what_was_not_run(tmp_path: Path) -> None:
    choices = dataclasses.replace(CHOICES, has_baselines=False, generated_holes=0, limit=2)
    data = write_data(tmp_path)
    (data / "mbpp_sanitized.jsonl.gz").write_bytes(gzip.compress(b'{"task_id": 1}\n')[:-4])
    results = evaluate(make_subject(), ["all"], data=[data], out=tmp_path / "out", model="m", choices=choices)
    assert [suite.suite for suite in results.suites] == list(SUITES)
    reasons = {suite.suite: suite.not_run.get("") for suite in results.suites}
    assert reasons["heldout"] is None
    assert "no HumanEval.jsonl.gz in --data" in (reasons["humaneval"] or "")
    assert "mbpp_sanitized.jsonl.gz is not the benchmark" in (reasons["mbpp-sanitized"] or "")
    assert read_results(tmp_path / "out") == results
    assert "\n- MBPP: not run: no mbpp.jsonl.gz in --data" in spell_card(fill_card([results]))


def test_unwritable_folder_is_found_out_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    reports: list[str] = []
    with pytest.raises(OutputError, match="choose another --out"):
        evaluate(
            make_subject(),
            ["heldout"],
            data=[write_data(tmp_path)],
            out=tmp_path / "out",
            model="m",
            choices=CHOICES,
            on_progress=lambda *report: reports.append(str(report)),
        )
    assert reports == []


def test_interrupted_run_leaves_what_was_whole_and_nothing_of_what_was_not(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    _run(data, tmp_path / "out", has_baselines=False)

    class Dying(ByteCompleter):
        def complete_all(self, requests: Sequence[Request]) -> list[Completion]:  # noqa: ARG002
            raise KeyboardInterrupt

    subject = make_subject()
    assert isinstance(subject.completer, ByteCompleter)
    dying = dataclasses.replace(subject, completer=Dying(subject.completer.model))
    choices = dataclasses.replace(CHOICES, generated_holes=0, has_baselines=False)
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            dying,
            ["heldout", "humaneval"],
            data=[data, find_benchmarks()],
            out=tmp_path / "out",
            model="bytes",
            choices=choices,
        )
    (suite,) = read_results(tmp_path / "out").suites
    assert (suite.suite, suite.choices) == ("heldout", choices)
    assert sorted(file.name for file in (tmp_path / "out").glob("holes-*")) == ["holes-heldout.jsonl"]


@pytest.mark.parametrize("content", [None, "not json\n", '{"hole": 1}\n'])
def test_foreign_results_are_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "holes.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"holes\.jsonl"):
        read_hole_results(path)
