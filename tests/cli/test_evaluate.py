"""`codegemma evaluate` measures a real model folder, prints a table or JSON, and refuses what it cannot use."""

import json
import re
import sys
from pathlib import Path

import jax
import pytest
from rich.console import Console
from tests.evals.subjects import find_benchmarks, train_packs, write_data

from codegemma.cli.evaluate import print_suite, print_summary
from codegemma.cli.main import main
from codegemma.evals.card import fill_card, spell_card
from codegemma.evals.measure import Measurement
from codegemma.evals.results import SuiteResults, read_results
from codegemma.evals.run import read_hole_results
from codegemma.evals.statistics import Interval, count_share
from codegemma.evals.suites import SUITES
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.model.weights import save_model
from codegemma.records import InfillMode
from codegemma.sandbox.box import Sandbox
from codegemma.text.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Gemma with random weights and a tokenizer of its own, as a folder."""
    tokenizer = train_tokenizer([file.text for pack in train_packs() for file in pack.files], vocab_size=512)
    config = GemmaConfig(
        tokenizer.vocab_size, 16, 1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=32, max_positions=128
    )
    folder = tmp_path_factory.mktemp("run") / "model"
    params = init_params(config, jax.random.key(0))
    save_model(folder, params, config, extra_files={"tokenizer.json": tokenizer.to_json().encode()})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["codegemma", "evaluate", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as exit_info:
        main()
    code = exit_info.value.code
    assert isinstance(code, int)
    return code


def test_table_shows_every_system_with_intervals(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures"
    monkeypatch.setenv("COLUMNS", "80")
    assert _run(monkeypatch, model, "--suite", "heldout", "--data", data, "--out", out, "--limit", 16) == 0
    shown = capsys.readouterr().out
    for wanted in ("heldout: line", "heldout: rest of line", "PSM", "SPM", "n-gram", "nearest line", "bits per byte"):
        assert wanted in shown
    # Each kind: bits of two modes and the n-gram, similarity of two modes and retrieval. Nothing is cut off.
    assert len(re.findall(r"\d\.\d{3}–\d\.\d{3}", shown)) == 12
    assert str(out / "results.json") in shown.replace("\n", "")
    rows = read_hole_results(out / "holes-heldout.jsonl")
    assert all(r.bits is not None and r.bits > 0 for r in rows if r.system == "model")


def test_json_is_the_whole_of_standard_output(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (model, "--suite", "heldout", "--data", data, "--out", tmp_path, "--limit", 4, "--json")
    assert _run(monkeypatch, *arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize(
    ("name", "suite", "message"),
    [
        ("http://127.0.0.1:9", "heldout", "http://127.0.0.1:9 does not answer"),
        ("nowhere", "heldout", "nowhere"),
        ("nowhere", "humanoid", "unknown suite 'humanoid'; known: heldout, humaneval, infilling-single"),
    ],
)
def test_unusable_input_ends_with_a_message_and_code_3(
    name: str,
    suite: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, name, "--suite", suite, "--out", tmp_path / "out") == 3
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "out").exists()


def test_missing_data_is_asked_for(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, model, "--suite", "heldout", "--out", tmp_path) == 3
    assert "no packs-heldout.parquet in --data (no --data given)" in capsys.readouterr().err


def test_80_columns_hold_a_repository_s_figures_and_their_differences(capsys: pytest.CaptureFixture[str]) -> None:
    units = {"tests_passed": "share", "exact_match": "share", "line_match": "share", "edit_similarity": "similarity",
             "bits_per_byte": "bits/byte"}  # fmt: skip
    system, interval = "with other files - without", Interval(-0.2, -0.278, -0.1, 9, 9)
    measured = tuple(Measurement(system, "cross_file", InfillMode.SPM1, m, u, interval) for m, u in units.items())
    print_suite(SuiteResults("repository", "text", 9, measured, (), ""), Console(width=80))
    printed = capsys.readouterr().out
    assert printed.count("-27.8–-10.0") == 2 and printed.count("-0.278–-0.100") == 2
    assert "…" not in printed


def test_summary_has_a_line_for_each_suite_and_says_why_others_were_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = tuple(
        Measurement(f"model, {policy}", "mbpp", None, "pass_at_1", "share", count_share(3, 12))
        for policy in ("done", "all")
    )
    kinds = ("all", "by class")
    over_all = [Measurement("model", kind, None, "insecure", "share", count_share(1, 4)) for kind in kinds]
    suites = [
        SuiteResults("mbpp", "tests", 12, measured, (), "holes-mbpp.jsonl"),
        SuiteResults("insecure", "rules", 4, tuple(over_all), (), "holes-insecure.jsonl", {"python": "no [bandit]"}),
        SuiteResults("boolq", "", 0, (), (), "", {"": "no boolq/validation*"}),
    ]
    print_summary(suites, Console(width=80))
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert printed[2:] == [
        "mbpp pass@1 25.0 % (8.9 to 53.2) 12",
        "insecure insecure 25.0 % (4.6 to 69.9) 4",
        "insecure, python: not run: no [bandit]",
        "boolq: not run: no boolq/validation*",
    ]


def test_no_title_of_a_figure_is_broken_within_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    measured = (Measurement("model", "x", None, "prefers_stereotype", "share", count_share(1, 3)),)
    print_suite(SuiteResults("crows-pairs", "text", 3, measured, (), ""), Console(width=80))
    assert "stereotype," in capsys.readouterr().out


def test_what_a_server_said_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_suite(SuiteResults("mbpp", "", 0, (), (), "", {"": "refused: [/INST] [b]no[/b]"}), Console())
    assert "mbpp: not run: refused: [/INST] [b]no[/b]" in " ".join(capsys.readouterr().out.split())


def test_help_shows_an_example_and_names_every_suite(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert "codegemma evaluate my-model/model --suite heldout" in shown
    for suite in SUITES:
        assert suite in shown


@pytest.mark.slow
def test_one_command_makes_the_whole_card_and_says_what_was_not_run(
    sandbox: Sandbox, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "figures"
    arguments = ("--suite", "all", "--data", data, "--data", find_benchmarks(), "--limit", 1)
    assert _run(monkeypatch, model, *arguments, "--out", out) == 0
    found = read_results(out)
    assert [suite.suite for suite in found.suites] == list(SUITES)
    for suite in found.suites:
        assert suite.measurements or suite.not_run, suite.suite
        assert all(m.interval.items >= 1 for m in suite.measurements)
    measured = {suite.suite for suite in found.suites if suite.measurements}
    assert measured >= {"heldout", "humaneval", "mbpp", "infilling-multi", "babelcode-mbpp", "memorization", "insecure"}
    page = (out / "report.html").read_text()
    assert "Beside the model card" in page and "Not run" in page and "no boolq/validation*" in page
    card = spell_card(fill_card([found]))
    assert "| HumanEval | 164 | 0.0 (0.0-79.3), on 1 of 164 tasks | 31.1 |" in card
    assert "| MATH | 5,000 | not run |" in card
    capsys.readouterr()
