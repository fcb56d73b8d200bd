"""Suites run as they should: nothing is done twice, a kill loses little, nobody waits, and no answer is no zero."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.evals.small_suite import (
    ASKING,
    PROBLEMS,
    Model,
    TextJudge,
    make_gate,
    make_problem,
    make_subject,
    make_suite,
    write_answer,
)
from tests.evals.small_suite import make_subject as make_small
from tests.serve_ill import serve_ill

from codegemma.engine.remote import RemoteCompleter
from codegemma.errors import InputError, OutputError, UserError
from codegemma.evals import keeping
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import AbsentError, Answers, Examination, Suite
from codegemma.evals.keeping import KeptCompleter, mend_ends
from codegemma.evals.measure import Measurement
from codegemma.evals.programs import Answerer
from codegemma.evals.results import RESULTS_FILE, Results, read_results
from codegemma.evals.run import evaluate
from codegemma.evals.samples import Sample, read_samples
from codegemma.evals.scoring import Subject
from codegemma.evals.statistics import count_share
from codegemma.evals.store import STORE_FILE, Store, hash_parts
from codegemma.evals.suites import SUITES
from codegemma.evals.verdicts import examine_kept
from codegemma.records import Completion, Request, StopReason
from codegemma.runner import ignore_progress
from codegemma.sandbox.judge import Examinee, Verdict
from codegemma.wire import ServerError, Wire

CHOICES = EvalChoices()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> TextJudge:
    """Register the small suite, asked four at a time."""
    judge = TextJudge()
    monkeypatch.setitem(SUITES, "small", make_suite(judge))
    monkeypatch.setattr(keeping, "CHUNK_REQUESTS", 4)
    return judge


def run_small(subject: Subject, out: Path, choices: EvalChoices = CHOICES) -> Results:
    return evaluate(subject, ["small"], data=[], out=out, model="m", choices=choices)


def read_records(out: Path) -> list[Sample]:
    """Read the records without their times, which differ from run to run."""
    return [
        dataclasses.replace(s, judged=tuple(dataclasses.replace(j, seconds=0.0) for j in s.judged))
        for s in read_samples(out / "holes-small.jsonl")
    ]


def test_a_suite_is_one_record_and_leaves_a_sample_for_every_problem(small: TextJudge, tmp_path: Path) -> None:
    results = run_small(make_subject(Model()), tmp_path)
    shares = {m.system: m.interval.mean for m in results.suites[0].measurements}
    assert shares == {"model, all": 8 / 12, "model, first_line": 8 / 12}
    records = read_records(tmp_path)
    assert [r.task_id for r in records] == [p.task_id for p in PROBLEMS]
    first = records[1]
    assert (first.generated, first.stop_reason) == (write_answer("def f1("), StopReason.CONTROL_TOKEN)
    assert [(j.policy, j.text, j.outcome, j.stdout) for j in first.judged] == [
        ("all", write_answer("def f1("), "passed", "said"),
        ("first_line", "    return x + 1\n", "passed", "said"),
    ]
    assert first.before + first.judged[0].text + first.after == "def f1(x):\n    return x + 1\n    # and more\n"
    assert len({r.prompt for r in records}) == 12


def test_killed_midway_and_run_again_it_equals_a_run_in_one_go(small: TextJudge, tmp_path: Path) -> None:
    whole = run_small(make_subject(Model()), tmp_path / "whole")

    def die(count: int) -> None:
        if count == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_small(make_subject(Model(die)), tmp_path / "cut")
    assert not (tmp_path / "cut" / RESULTS_FILE).exists()
    later = Model()
    assert run_small(make_subject(later), tmp_path / "cut") == whole
    assert [r.prefix for r in later.asked] == [p.prefix for p in PROBLEMS[8:]]
    assert read_records(tmp_path / "cut") == read_records(tmp_path / "whole")


def test_a_second_run_asks_and_runs_nothing_and_gives_the_same_bytes(small: TextJudge, tmp_path: Path) -> None:
    run_small(make_subject(Model()), tmp_path)
    records, seen = (tmp_path / "holes-small.jsonl").read_bytes(), len(small.seen)
    model = Model()
    run_small(make_subject(model), tmp_path)
    assert (model.asked, len(small.seen)) == ([], seen)
    assert (tmp_path / "holes-small.jsonl").read_bytes() == records


def test_other_weights_or_settings_are_asked_anew(small: TextJudge, tmp_path: Path) -> None:
    run_small(make_subject(Model()), tmp_path)
    for fingerprint, choices in (("other", EvalChoices()), ("model", EvalChoices(temperature=0.5))):
        model = Model()
        (tmp_path / RESULTS_FILE).unlink()
        run_small(make_subject(model, fingerprint), tmp_path, choices)
        assert len(model.asked) == 12
    # Without a name for the weights nothing is taken for theirs, not even of a run before.
    model = Model()
    (tmp_path / RESULTS_FILE).unlink()
    run_small(make_subject(model, ""), tmp_path)
    assert len(model.asked) == 12


def test_equal_programs_are_run_once(small: TextJudge, tmp_path: Path) -> None:
    run_small(make_subject(Model()), tmp_path, EvalChoices(samples=5))
    # Wrong answers are one line, so both policies run the same; of the others they run two.
    assert len(small.seen) == len(set(small.seen)) == 4 + 2 * 8


def ask(model: Model, judge: TextJudge, on_sample: Callable[[Sample], None], choices: EvalChoices = CHOICES) -> None:
    answerer = Answerer(Examination(make_small(model), (), choices, ignore_progress), judge)
    try:
        answerer.answer(PROBLEMS, ASKING, on_sample)
    finally:
        answerer.close()


def test_generation_goes_on_while_every_judge_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "CHUNK_REQUESTS", 4)
    all_written, wait = make_gate()
    waited: list[bool] = []
    model = Model(lambda count: all_written.set() if count == 8 else None)
    samples: list[Sample] = []
    ask(model, TextJudge(before=lambda: waited.append(wait())), samples.append)
    assert len(samples) == 12 and all(waited)


def test_judging_goes_on_while_the_model_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "CHUNK_REQUESTS", 4)
    one_judged, wait = make_gate()
    waited: list[bool] = []
    model = Model(lambda count: waited.append(wait()) if count == 8 else None)
    samples: list[Sample] = []
    ask(model, TextJudge(before=one_judged.set), samples.append)
    assert len(samples) == 12 and waited == [True]


def test_a_judge_that_fails_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        ask(Model(), TextJudge(before=fail), lambda _: None)


def test_memory_does_not_grow_with_the_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "CHUNK_REQUESTS", 16)

    class Forgetful(Model):
        def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
            answers = super().complete_all(requests)
            self.asked.clear()
            return answers

    peaks = []
    # The first run loads modules, which stay.
    for samples in (24, 24, 120):
        tracemalloc.start()
        ask(Forgetful(), TextJudge(), lambda _: None, EvalChoices(samples=samples, temperature=0.7))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]


def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from codegemma.evals.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for i in range(100): store.keep(bytes([i]), i)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    with Store(tmp_path) as store:
        assert [store.find(bytes([i])) for i in range(101)] == [*range(100), None]


def test_an_answer_of_another_version_is_asked_for_again() -> None:
    model, request = Model(), Request(PROBLEMS[1].prefix, "", mode=None)
    with Store() as store:
        kept = KeptCompleter(model, store, "m")
        store.keep(hash_parts("answer", "m", request), {"text": "no such field"})
        for _ in range(2):
            (answer,) = kept.complete_all([request])
            assert answer.text == write_answer(request.prefix)
    assert model.asked == [request]


def test_a_store_is_held_by_one_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as held:
        held.keep(b"k", 1)
        with pytest.raises(OutputError, match="another process holds it"):
            Store(tmp_path).find(b"k")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / STORE_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(OutputError, match="if it is damaged, remove it"):
        Store(tmp_path / "other")


def test_ratings_are_kept_as_they_were(tmp_path: Path) -> None:
    class Counted(Model):
        calls = 0

        def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list:  # type: ignore[type-arg]
            self.calls += len(items)
            return super().score(items)

    model, items = Counted(), [([256, 300], [310, 311, 312]), ([256], [320])]
    for _ in range(2):
        with Store(tmp_path) as store:
            scores = KeptCompleter(model, store, "m").score(items)
        for found, wanted in zip(scores, Model().score(items), strict=True):
            assert (found.logprobs == wanted.logprobs).all() and (found.argmax_ids == wanted.argmax_ids).all()
    assert model.calls == 2


def make_remote(address: str) -> Subject:
    remote = RemoteCompleter(address, wire=Wire(address, timeout_s=5.0, tries=2, wait=lambda _: None))
    subject = make_small(Model())
    return dataclasses.replace(subject, completer=remote, fingerprint="server", at_once=2)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_server_that_fails_half_way_is_resumed_and_never_a_zero(
    small: TextJudge, tmp_path: Path, hangs_up: bool
) -> None:
    whole = run_small(make_subject(Model()), tmp_path / "whole")
    with serve_ill(write_answer) as server:
        server.hangs_up = hangs_up
        server.is_well_until(3)
        with pytest.raises(ServerError, match="no answer in 2 tries"):
            run_small(make_remote(server.address), tmp_path / "out")
        assert not (tmp_path / "out" / RESULTS_FILE).exists()
        answered = server.answered
        assert 0 < answered < len(PROBLEMS)
        server.is_well_until(None)
        assert run_small(make_remote(server.address), tmp_path / "out").suites == whole.suites
        assert server.answered == len(PROBLEMS)
    assert read_records(tmp_path / "out") == read_records(tmp_path / "whole")


def test_a_problem_that_the_server_refuses_leaves_no_score_but_its_name(small: TextJudge, tmp_path: Path) -> None:
    with serve_ill(write_answer, refused=make_problem(5).prefix) as server:
        results = run_small(make_remote(server.address), tmp_path)
    (suite,) = results.suites
    assert suite.measurements == ()
    assert suite.not_run["k"].startswith("no score, 1 of 12 problems lack an answer or a verdict (t/5): ")
    assert "400" in suite.not_run["k"]
    lacking = [r for r in read_records(tmp_path) if r.generated is None]
    assert [(r.task_id, r.judged) for r in lacking] == [("t/5", ())]


def test_what_cannot_be_asked_for_is_an_error_and_no_empty_answer(tmp_path: Path) -> None:
    with serve_ill(write_answer) as server, Store() as store:
        subject = make_remote(server.address)
        kept = KeptCompleter(subject.completer, store, "m", subject.at_once)
        spm, plain = Request("a", "b", mode="spm"), Request(PROBLEMS[1].prefix, "", mode=None)  # type: ignore[arg-type]
        refused, answer = kept.complete_each([spm, plain])
    assert isinstance(refused, Exception)
    assert isinstance(answer, Completion) and answer.text == write_answer("def f1(")


def test_a_verdict_is_there_while_the_next_answer_is_written() -> None:
    """No chunk is waited for: the second answer is begun only when the first one is judged."""
    judged, wait = make_gate()
    waited: list[bool] = []
    model = Model(lambda count: waited.append(wait()) if count == 1 else None)
    ask(model, TextJudge(before=judged.set), lambda _: None)
    assert waited == [True]


def test_samples_are_told_in_the_order_of_the_problems_however_they_are_asked() -> None:
    problems = [make_problem(number) for number in range(8)]
    order = (3, 0, 7, 1, 6, 2, 5, 4)
    long = [dataclasses.replace(p, prefix=p.prefix + "#" * 2 ** (4 + n)) for p, n in zip(problems, order, strict=True)]
    samples: list[Sample] = []
    model = Model()
    answerer = Answerer(Examination(make_small(model), (), CHOICES, ignore_progress), TextJudge())
    answerer.answer(long, ASKING, samples.append)
    answerer.close()
    assert [s.task_id for s in samples] == [p.task_id for p in problems]
    assert [len(r.prefix) for r in model.asked] == sorted((len(p.prefix) for p in long), reverse=True)


def make_questions(refused: str) -> Suite:
    """A suite whose answers are texts and no programs."""

    def run(exam: Examination) -> Answers:
        requests = {p.task_id: Request(p.prefix, "", mode=None) for p in PROBLEMS}
        answers, lacking = exam.ask(requests)
        assert len(answers) == len(PROBLEMS) - bool(refused)
        measured = (Measurement("model", "k", None, "solved", "share", count_share(len(answers), 12)),)
        return Answers("text", 12, (), (), measured, lacking=lacking)

    return Suite("small", "a few questions", run)


@pytest.mark.parametrize("refused", ["", PROBLEMS[5].prefix])
def test_a_refused_question_of_any_suite_leaves_the_others_and_no_score(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "small", make_questions(refused))
    with serve_ill(write_answer, refused=refused or None) as server:
        (suite,) = run_small(make_remote(server.address), tmp_path).suites
        assert server.answered == len(PROBLEMS) - bool(refused)
    if not refused:
        assert (len(suite.measurements), suite.not_run) == (1, {})
        return
    assert suite.measurements == ()
    assert suite.not_run[""].startswith("no score, 1 of 12 problems lack an answer (t/5): ")
    (record,) = map(json.loads, (tmp_path / suite.holes_file).read_text().splitlines())
    assert record["item_id"] == "t/5" and "400" in record["missing"]


def test_a_server_that_refuses_all_is_not_taken_for_gone(tmp_path: Path) -> None:
    with serve_ill(write_answer) as server, Store() as store:
        subject = make_remote(server.address)
        kept = KeptCompleter(subject.completer, store, "m", subject.at_once)
        spm = [Request(str(number), "b", mode="spm") for number in range(20)]  # type: ignore[arg-type]
        assert all(isinstance(found, UserError) for found in kept.complete_each(spm))


def test_suites_of_several_runs_stand_together_each_with_its_own_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("small", "other"):
        suite = dataclasses.replace(make_suite(TextJudge()), name=name)
        monkeypatch.setitem(SUITES, name, suite)
    run_small(make_subject(Model()), tmp_path)
    choices = EvalChoices(samples=2)
    evaluate(make_subject(Model()), ["other"], data=[], out=tmp_path, model="m", choices=choices)
    suites = {suite.suite: suite.choices for suite in read_results(tmp_path).suites}
    assert suites == {"small": CHOICES, "other": choices}
    run_small(make_subject(Model()), tmp_path, choices)
    assert {suite.choices for suite in read_results(tmp_path).suites} == {choices}
    assert [suite.suite for suite in read_results(tmp_path).suites] == ["small", "other"]


def test_results_of_another_model_are_refused_before_anything_is_asked(small: TextJudge, tmp_path: Path) -> None:
    before = run_small(make_subject(Model()), tmp_path)
    model = Model()
    with pytest.raises(InputError, match=r"holds results of other weights .*; take another --out"):
        run_small(make_subject(model, "other"), tmp_path)
    assert model.asked == [] and read_results(tmp_path) == before


def test_what_cannot_be_run_again_leaves_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = make_suite(TextJudge())
    monkeypatch.setitem(SUITES, "small", suite)
    before = run_small(make_subject(Model()), tmp_path)

    def fail(exam: Examination) -> Answers:
        raise AbsentError("its data is gone")

    monkeypatch.setitem(SUITES, "small", dataclasses.replace(suite, run=fail))
    evaluate(make_subject(Model()), [], data=[], out=tmp_path, model="m", choices=CHOICES, optional=["small"])
    assert read_results(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "reason", "mended"),
    [
        ("caf\u00e9 \ufffd", StopReason.MAX_NEW_TOKENS, "caf\u00e9 "),
        ("a \ud83d", StopReason.CONTEXT_FULL, "a "),
        ("a \ufffd", StopReason.CONTROL_TOKEN, "a \ufffd"),
        ("\ud83d\ude00 \ud83d!", StopReason.MAX_NEW_TOKENS, "\U0001f600 \ufffd!"),
    ],
)
def test_half_a_character_is_no_part_of_an_answer(text: str, reason: StopReason, mended: str) -> None:
    assert mend_ends(Completion(text, (), reason, 1)).text == mended


def test_verdicts_outside_of_the_program_suites_are_kept_one_by_one(tmp_path: Path) -> None:
    class Many(TextJudge):
        def examine_all(self, examinees: Sequence[Examinee]) -> Iterator[Verdict]:
            yield from map(self.examine, examinees)

    examinees = [Examinee(f"x + {number}", "tests") for number in range(4)]
    judge = Many()
    with Store(tmp_path) as store:
        verdicts = examine_kept(store, judge, examinees[:3])
    with Store(tmp_path) as store:
        assert examine_kept(store, judge, examinees)[:3] == verdicts
    assert judge.seen == [f"x + {number}" for number in range(4)]
