"""Each filter drops its own sample; an ill server is borne with; a run that was killed ends as if it had not been."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from tests.synthesis.scripts import DRAFTS, ITEM, Script, serve, write_corpus

from codegemma.align.chats import read_chats
from codegemma.cli.main import cli
from codegemma.engine.remote import RemoteCompleter
from codegemma.errors import InputError
from codegemma.pace import Pace
from codegemma.sandbox.box import Sandbox
from codegemma.synthesis.asking import GoneError
from codegemma.synthesis.choices import AskChoices, ExaminationChoices, Price, SynthesisChoices
from codegemma.synthesis.outcomes import Reason
from codegemma.synthesis.problem_file import read_problem_file
from codegemma.synthesis.run import Model, SynthesisJob, SynthesisResult, count_failures, synthesize
from codegemma.synthesis.written import write_result
from codegemma.wire import Wire

# Flaky tests have their own examiner (test_examination.py): how often one passes is chance.
CHOICES = SynthesisChoices(
    generator=AskChoices(tries=2), judge=AskChoices(0.0, 512, 2), examination=ExaminationChoices(2, 4, 0.5, 3)
)
SETTINGS = (
    "generator.tries=2", "judge.tries=2", "examination.runs=2", "examination.variants=4", "examination.seconds=3",
)  # fmt: skip
FILES = ("chats.jsonl", "problems.jsonl", "kept.jsonl", "dropped.jsonl")


def run(address: str, data: Path, out: Path, sandbox: Sandbox, **changed: Any) -> SynthesisResult:
    """Run a job with a server that is asked again at once."""
    pace = Pace()
    remote = RemoteCompleter(address, wire=Wire(address, timeout_s=5.0, tries=3, wait=lambda _: None, pace=pace))
    model = Model(remote, f"scripted at {address}", 4, Price(1.0, 10.0), pace)
    job = SynthesisJob((data,), out, model, **{"judge": model, "choices": CHOICES, **changed})
    result = synthesize(job, sandbox)
    write_result(job, result)
    return result


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks") / "guarded.jsonl"
    path.write_text(json.dumps(ITEM))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, guarded: Path) -> tuple[SynthesisResult, Path]:
    folder = tmp_path_factory.mktemp("whole")
    with serve(Script()) as address:
        data = write_corpus(folder / "data", list(DRAFTS))
        result = run(address, data, folder / "made", sandbox, benchmarks=(guarded,))
    return result, folder / "made"


@pytest.mark.parametrize("name", list(DRAFTS))
def test_each_draft_goes_for_its_reason_or_stays(whole: tuple[SynthesisResult, Path], name: str) -> None:
    outcome = next(outcome for outcome in whole[0].outcomes if outcome.seed.path == f"{name}.py")
    assert (outcome.drop.reason if outcome.drop else None) == DRAFTS[name][1], outcome.drop


def test_kept_and_dropped_are_all_and_written_with_reason_and_origin(whole: tuple[SynthesisResult, Path]) -> None:
    result, made = whole
    kept, dropped = read_lines(made / "kept.jsonl"), read_lines(made / "dropped.jsonl")
    assert len(kept) + len(dropped) == len(DRAFTS) == len(result.outcomes)
    assert {row["reason"] for row in dropped} == {reason for _, reason in DRAFTS.values() if reason}
    assert all(row["stage"] == Reason(row["reason"]).stage for row in dropped)
    origin = kept[0]["provenance"]
    assert (origin["repo"], origin["commit"], origin["license"], origin["line"]) == ("seeds", "c0ffee", "MIT", 1)
    assert origin["model"].startswith("scripted at http") and origin["prompt_version"] == 1


def test_conversations_and_problems_are_what_tuning_reads(whole: tuple[SynthesisResult, Path]) -> None:
    made = whole[1]
    chats = list(read_chats(made / "chats.jsonl"))
    assert len(chats) == len(whole[0].kept)
    assert all(not isinstance(chat, str) and [turn.role for turn in chat] == ["user", "model"] for chat in chats)
    problems = {problem.function: problem for problem in read_problem_file(made / "problems.jsonl")}
    assert "double" in problems and "turn" not in problems  # three calls leave too few for tests and audits
    assert "`count_vowels`" in problems["count_vowels"].problem
    given = {(case.given, case.wanted) for case in (*problems["double"].tests, *problems["double"].audits)}
    assert ("([1, 2],)", "[2, 4]") in given


def test_failures_are_counted_and_garbage_is_paid_for(whole: tuple[SynthesisResult, Path]) -> None:
    result = whole[0]
    (failures,) = result.failures.values()
    # How many of each, a slow machine may change: a try that is too slow counts as another kind.
    assert all(failures[kind] for kind in ("429", "500", "no JSON", "time-out"))
    spent = result.spent["generator"]
    # Two for each that nobody could read, and for the one that thought first.
    assert spent.replies >= len(DRAFTS) - 3 + 4
    assert spent.cost == pytest.approx(spent.replies * (100 * 1.0 + 10 * 10.0) / 1e6)
    figures = json.loads((whole[1] / "synthesis.json").read_text())
    assert figures["seeds"] == figures["kept"] + sum(figures["dropped"].values())
    assert (whole[1] / "report.html").exists()


def test_the_same_again_asks_nothing_and_another_judge_asks_for_no_draft(tmp_path: Path, sandbox: Sandbox) -> None:
    names = ["good", "other", "incorrect", "moody"]
    data, script = write_corpus(tmp_path / "data", names), Script()
    with serve(script) as address:
        first = run(address, data, tmp_path / "made", sandbox)
        written = {name: (tmp_path / "made" / name).read_bytes() for name in FILES}
        asked, judged = sum(script.asked.values()), script.judged
        again = run(address, data, tmp_path / "made", sandbox)
        assert (sum(script.asked.values()), script.judged) == (asked, judged)
        assert again.spent["generator"].known == again.spent["generator"].replies == first.spent["generator"].replies
        assert again.spent["generator"].now == 0
        assert written == {name: (tmp_path / "made" / name).read_bytes() for name in FILES}
        lenient = SynthesisChoices(
            min_score=1, generator=CHOICES.generator, judge=CHOICES.judge, examination=CHOICES.examination
        )
        assert len(run(address, data, tmp_path / "made", sandbox, choices=lenient).kept) == 3
        assert (sum(script.asked.values()), script.judged) == (asked, judged)
        other = Model(RemoteCompleter(address), "another judge", 2)
        assert len(run(address, data, tmp_path / "made", sandbox, judge=other).kept) == len(first.kept)
        assert (sum(script.asked.values()), script.judged) == (asked, 2 * judged)


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path, sandbox: Sandbox) -> None:
    names = ["good", "same", "garbage", "wrong", "incorrect", "moody", "unjudged"]
    data = write_corpus(tmp_path / "data", names)
    with serve(script := Script()) as address:
        run(address, data, tmp_path / "whole", sandbox)
        script.asked.clear()
        script.free_drafts = 4
        child = start(address, data, tmp_path / "killed")
        try:
            while sum(script.asked.values()) <= 4 and child.poll() is None:
                time.sleep(0.05)
        finally:
            child.kill()
            assert child.wait() == -9
        assert not (tmp_path / "killed" / "chats.jsonl").exists()
        script.free_drafts = 10**9
        script.gate.set()
        result = run(address, data, tmp_path / "killed", sandbox)
    assert result.spent["generator"].known > 0
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def start(address: str, data: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Start the command as a process of its own."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "codegemma", "synthesize", str(data), "--url", address, "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, "--in-flight", "4", *settings], env={**os.environ}, **quiet)  # type: ignore[call-overload,no-any-return]


def test_a_server_that_is_gone_ends_the_run_and_keeps_what_it_said(tmp_path: Path, sandbox: Sandbox) -> None:
    with serve(script := Script()) as address:
        run(address, write_corpus(tmp_path / "data", ["good"]), tmp_path / "made", sandbox)
        asked = script.asked["good"]
        more = write_corpus(tmp_path / "more", ["good", *["refused"] * 12])
        with pytest.raises(GoneError, match="the same command goes on"):
            run(address, more, tmp_path / "made", sandbox)
        assert script.asked["good"] == asked


def test_the_command_tells_what_became_of_the_seeds(tmp_path: Path, sandbox: Sandbox) -> None:
    data = write_corpus(tmp_path / "data", ["other", "garbage"])
    with serve(Script()) as address:
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        call = ["synthesize", str(data), "--url", address, "--out", str(tmp_path / "made"), "--price", "1,2", *settings]
        told = CliRunner().invoke(cli, call)
        figures = json.loads(CliRunner().invoke(cli, [*call, "--json"]).stdout)
    assert told.exit_code == 0, told.output
    for part in ("2 seeds: 1 kept", "write/unreadable", "codegemma align --base tiny"):
        assert part in told.stdout
    assert (figures["kept"], figures["dropped"]) == (1, {"write/unreadable": 1})
    assert figures["spent"]["generator"]["now"] == 0 < figures["spent"]["generator"]["cost"]


def test_help_teaches_without_loading_what_asks() -> None:
    told = CliRunner().invoke(cli, ["synthesize", "--help"]).output
    for word in ("OSS-Instruct", "429", "goes on", "Example", "--problems"):
        assert word in told


def test_a_judge_that_cannot_be_read_is_asked_again_less_cold(tmp_path: Path, sandbox: Sandbox) -> None:
    with serve(script := Script()) as address:
        run(address, write_corpus(tmp_path / "data", ["unjudged"]), tmp_path / "made", sandbox)
    assert script.judge_temperatures[0] == 0.0 < script.judge_temperatures[-1]


def test_what_cannot_be_a_corpus_is_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    with serve(Script()) as address:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="codegemma build REPO"):
            run(address, tmp_path / "empty", tmp_path / "made", sandbox)


def test_models_of_one_server_share_its_pace_and_count_its_failures_once() -> None:
    shared, own, answerer = Pace(), Pace(), cast("Any", None)
    shared.count("429")
    writer, judge = (Model(answerer, name, pace=shared) for name in ("writer", "judge"))
    assert count_failures((writer, writer)) == {"writer": {"429": 1}}
    assert count_failures((writer, judge)) == {"writer and judge": {"429": 1}}
    assert count_failures((writer, replace(judge, pace=own))) == {"writer": {"429": 1}, "judge": {}}
