"""Two results side by side: what one answers and the other does not, how sure that is, and a page that shows it."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evals.small_suite import PROBLEMS, Model, TextJudge, make_subject, make_suite, write_answer

from codegemma.cli.main import main
from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.conduct.judges import Stance
from codegemma.evals.conduct.suite import ConductResult
from codegemma.evals.format_suite import FormatResult
from codegemma.evals.insecure.suite import InsecureResult
from codegemma.evals.memorization import RecallResult
from codegemma.evals.offence.challenge import Kind
from codegemma.evals.offence.suite import OffenceResult
from codegemma.evals.page import write_comparison, write_page
from codegemma.evals.pairing import compare_results, read_items
from codegemma.evals.repair_suite import RepairResult, RepairTurn
from codegemma.evals.results import RESULTS_FILE, read_results
from codegemma.evals.run import evaluate, spell_record
from codegemma.evals.scoring import HoleResult
from codegemma.evals.statistics import weigh_discordant
from codegemma.evals.suites import SUITES
from codegemma.recipe import to_plain
from codegemma.records import Completion, Request, Split, StopReason
from codegemma.sandbox.judge import Outcome

HOLE = HoleResult("h", "one", "setup.py", "line", "model", None, middle_bytes=3, exact_match=True)


class Better(Model):
    """Answers two more problems, and one that the other answers not."""

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        texts = {PROBLEMS[0].prefix: "    return x + 1  # <b>&\n", PROBLEMS[3].prefix: "    return x + 1\n"}
        texts[PROBLEMS[1].prefix] = "    return 2\n"
        found = [texts.get(r.prefix, write_answer(r.prefix)) for r in requests]
        return [Completion(text, (), StopReason.CONTROL_TOKEN, 1) for text in found]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setitem(SUITES, "small", make_suite(TextJudge()))
    for name, model in (("first", Model()), ("second", Better())):
        subject, choices = make_subject(model, name), EvalChoices()
        evaluate(subject, ["small"], data=[], out=tmp_path / name, model=name, choices=choices)
    return tmp_path / "first", tmp_path / "second"


def test_difference_is_taken_problem_by_problem(folders: tuple[Path, Path]) -> None:
    found = compare_results(*folders)
    change = found.changes[0]
    assert (change.suite, change.kind, change.system, change.metric) == ("small", "k", "model, all", "pass_at_1")
    assert (change.gained, change.lost, change.chance) == (2, 1, 1.0)
    assert (change.first, change.second) == (8 / 12, 9 / 12)
    assert math.isclose(change.difference.mean, 1 / 12)
    assert change.difference.low is not None and change.difference.low < 0 < (change.difference.high or 0)
    assert found.notes == ()
    same = compare_results(folders[0], folders[0]).changes[0]
    assert (same.difference.mean, same.gained, same.lost, same.chance) == (0.0, 0, 0, 1.0)


@given(st.integers(0, 40), st.integers(0, 40))
def test_chance_is_that_of_a_fair_coin(gained: int, lost: int) -> None:
    total, fewer = gained + lost, min(gained, lost)
    tail = sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    assert math.isclose(weigh_discordant(gained, lost), min(1.0, 2 * tail), rel_tol=1e-9)


def test_what_only_one_has_is_said_and_left_out(folders: tuple[Path, Path]) -> None:
    records = folders[1] / "holes-small.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    other = json.loads(lines[2])
    other["prompt"] = "0"
    records.write_text("".join([*lines[:2], json.dumps(other) + "\n", *lines[3:-2]]))
    found = compare_results(*folders)
    assert found.changes[0].difference.items == 10
    assert "small, k: 2 items are in one of the two only and left out" in found.notes
    assert "small, k: 1 of 10 were asked otherwise (window, settings or template)" in found.notes


def test_records_of_any_suite_with_items_and_metrics_are_read(tmp_path: Path) -> None:
    path = tmp_path / "holes-x.jsonl"
    path.write_text('{"item_id": "a", "task": "boolq", "metrics": {"acc": 1.0}}\n{"judge": 1}\n')
    ((figure, items),) = read_items(path).items()
    assert (figure, items["a"].value) == (("boolq", "", "model", "acc"), 1.0)
    path.write_text("no json\n")
    with pytest.raises(InputError, match="does not hold records"):
        read_items(path)


RECORDS = [
    ConductResult("c/1", "child safety", True, "Do it.", "No.", Stance.REFUSED),
    InsecureResult("i/1", "go", "sql", 89, 2, "x", True, ("sql",)),
    OffenceResult("o/1", Kind.DECODING, True, 3, 0, ()),
    RecallResult("p", "r", "a.py", "python", "code", Split.TRAIN, "start", None, 0, True, True, "x"),
    RepairResult("t/1", (RepairTurn("x", "all", Outcome.FAILED, ""), RepairTurn("x", "all", Outcome.PASSED, ""))),
    FormatResult("f/1", "Write.", "x", ("a", "b"), ("a", "b"), ("a", "b")),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_of_every_suite_of_its_own_kind_are_paired_by_item(record: Any, tmp_path: Path) -> None:
    path = tmp_path / "holes-x.jsonl"
    path.write_text(json.dumps(spell_record(record)) + "\n")
    values = {figure[3]: items[record.item_id].value for figure, items in read_items(path).items()}
    assert values == record.metrics
    assert values and {0.0, 1.0} >= set(values.values())


def test_a_suite_that_cannot_be_paired_is_named(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        results = read_results(folder)
        other = replace(results.suites[0], suite="content-safety", holes_file="holes-content-safety.jsonl")
        (folder / other.holes_file).write_text('{"prompt_id": "a", "stance": "refused"}\n')
        (folder / RESULTS_FILE).write_text(json.dumps(to_plain(replace(results, suites=(*results.suites, other)))))
    found = compare_results(*folders)
    assert {change.suite for change in found.changes} == {"small"}
    assert "content-safety: its records hold no figures to pair item by item" in found.notes


def test_files_of_one_path_in_two_repositories_are_two_groups(tmp_path: Path) -> None:
    path = tmp_path / "holes-x.jsonl"
    holes = [replace(HOLE, hole_id=repo, repo=repo) for repo in ("one", "two")]
    path.write_text("".join(f"{json.dumps(to_plain(hole))}\n" for hole in holes))
    ((_, items),) = read_items(path).items()
    assert {item.group for item in items.values()} == {"one/setup.py", "two/setup.py"}


def test_page_of_an_evaluation_shows_failures_with_program_and_output(folders: tuple[Path, Path]) -> None:
    shown = write_page(folders[0]).read_text()
    assert shown.count("<details>") == 4
    assert "<code>t/3</code>: failed" in shown
    assert "<pre>def f3(x):\n    return x\n</pre>" in shown
    assert "<pre>said</pre>" in shown
    assert "<h2" in shown and shown.index("Summary</h2>") < shown.index("small</h2>")
    assert "66.7 % (39.1 to 86.2)" in shown
    assert "http" not in shown.split("</style>")[1].replace("http://www.w3.org", "")


def test_page_of_two_shows_both_answers_escaped(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_comparison(compare_results(*folders), *folders, tmp_path / "page.html")
    shown = (tmp_path / "page.html").read_text()
    assert shown.count("<details>") == 3
    assert "<code>t/1</code>: only by the first" in shown
    assert "return x + 1  # &lt;b&gt;&amp;" in shown
    assert "<b>" not in shown


def test_command_prints_the_table_and_writes_the_page(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["codegemma", "compare", *map(str, folders), "--out", str(page)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "+0.083" in printed and "…" not in printed
    assert "  model, all " in printed and "  pass_at_1 " in printed
    assert page.is_file()
