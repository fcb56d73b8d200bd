"""Problems answered by a model, and its answers run: generation and judging side by side, neither waiting.

**In**: an examination, problems, the mode they are asked in, the policies by which answers are cut, a judge.
**Out**: a `Sample` for each problem and sample, in their order, as soon as it is judged.
**Not**: figures (`samples.py`).

Both walk the same order, that of asking: who writes keeps answers in the store, on disk, and who judges takes each from
there as soon as it is. So a slow judge never stops the writing, a slow model never idles more judges than it must, and
no more than a few programs are in memory, however many samples there are.
"""

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from codegemma.errors import InputError, UserError
from codegemma.evals.examination import Examination
from codegemma.evals.keeping import drop_seed, order_requests
from codegemma.evals.problems import Problem
from codegemma.evals.samples import Judged, Sample, name_kind
from codegemma.evals.store import hash_parts
from codegemma.evals.truncation import POLICIES
from codegemma.evals.verdicts import read_verdict, shorten_verdict, spell_verdict
from codegemma.records import Completion, InfillMode, Request, Sampling, StopReason, Turn
from codegemma.runner import prefix_stages
from codegemma.sandbox.judge import Verdict
from codegemma.text.window import fit_request

# Answers that wait for a verdict, for each box: a slow program does not hold up the boxes beside it.
_AHEAD_PER_BOX = 16
# A small window gives a quarter to the answer, so that the prompt keeps its room.
_ANSWER_SHARE = 4
_NOTHING = Completion("", (), StopReason.CONTEXT_FULL, 0)


@dataclass(frozen=True, slots=True)
class Asking:
    """How problems of one kind are asked: what stands before each, how much may be written, which policies cut it."""

    kind: str
    mode: InfillMode | None
    policies: tuple[str, ...]
    max_new_tokens: int
    shots: str = ""
    path: str | None = None


class Judge(Protocol):
    """Whoever runs an answer with its tests: `sandbox.judge.PythonJudge`, or one of another language."""

    boxes: int

    def examine(self, examinee: Any) -> Verdict:
        """Run what a problem's `pose` made of an answer; called from as many threads as there are boxes."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Tell what verdicts hang on, such as versions and limits: results carry it."""
        ...


Examine = Callable[[Any], Verdict]
NO_OTHERS: Mapping[str, Examine] = MappingProxyType({})


class Answerer:
    """Writes answers and has them judged meanwhile."""

    def __init__(self, exam: Examination, judge: Judge, others: Mapping[str, Examine] = NO_OTHERS) -> None:
        """Hold who answers and who judges; `others` judge the same program again, by their names."""
        self._exam, self._judge_by = exam, judge
        self._examine_all = {"": judge.examine, **others}
        self._judged_by = [dict(judge.describe()), list(self._examine_all)]
        self._pool = ThreadPoolExecutor(judge.boxes)
        self._running: dict[bytes, Future[tuple[Verdict, ...]]] = {}
        self._losses: dict[str, Counter[str]] = defaultdict(Counter)
        self._shortened: dict[int, None] = {}

    def answer(self, problems: Sequence[Problem], asking: Asking, on_sample: Callable[[Sample], None]) -> None:
        """Answer all problems `choices.samples` times; equal programs are run once.

        Raises:
            UserError: the model cannot be asked any more; what was answered is kept.
        """
        written = _Written()
        if self._exam.subject.max_context_tokens // _ANSWER_SHARE < asking.max_new_tokens:
            self._shortened[asking.max_new_tokens] = None
        with ThreadPoolExecutor(1) as judging:
            judged = judging.submit(self._judge_all, problems, asking, written, on_sample)
            try:
                self._write_all(problems, asking, written, judged)
                judged.result()
            finally:
                written.stop()

    def tell_window(self) -> Iterator[str]:
        """Tell what a small window took from questions and answers, where it took something."""
        window, told = self._exam.subject.max_context_tokens, list[str]()
        if self._shortened:
            meant = " or ".join(map(str, self._shortened))
            told.append(f"answers have at most {window // _ANSWER_SHARE} tokens, where {meant} are meant")
        for kind, counts in self._losses.items():
            if counts["cut"] or counts["unfit"]:
                lost = f"; {counts['unfit']:,} did not fit and count as answered by nothing" * bool(counts["unfit"])
                told.append(
                    f"{kind.replace('_', ' ')}: {counts['cut']:,} of {counts['all']:,} questions were cut{lost}"
                )
        if told:
            yield f"the model's window of {window:,} tokens is small for this: {'. '.join(told)}"

    def close(self) -> None:
        """Let go of programs that nobody waits for."""
        self._pool.shutdown(cancel_futures=True)

    def _list_asked(self, problems: Sequence[Problem], asking: Asking) -> "Iterator[_Asked]":
        """List every problem and sample with its request, in the order of asking."""
        return order_requests(self._list_all(problems, asking), lambda asked: asked.request)

    def _list_all(self, problems: Sequence[Problem], asking: Asking) -> "Iterator[_Asked]":
        choices = self._exam.choices
        for number, problem in enumerate(problems):
            request, fits, is_cut = self._fit(problem, asking)
            for sample in range(choices.samples):
                sampling = Sampling(temperature=choices.temperature, top_p=choices.top_p, seed=choices.seed + sample)
                place = number * choices.samples + sample
                yield _Asked(place, problem, sample, drop_seed(replace(request, sampling=sampling)), fits, is_cut)

    def _fit(self, problem: Problem, asking: Asking) -> tuple[Request, bool, bool]:
        """Make the request, and say whether the window holds it at all, and whether only a part of it."""
        subject = self._exam.subject
        most = min(asking.max_new_tokens, subject.max_context_tokens // _ANSWER_SHARE)
        if problem.question:
            turns = (Turn("user", problem.question),)
            request = Request("", "", mode=None, max_new_tokens=most, turns=turns)
            return request, subject.holds(turns, most), False
        prefix, suffix = asking.shots + problem.prefix, problem.suffix if asking.mode else ""
        request = Request(prefix, suffix, path=asking.path, mode=asking.mode, max_new_tokens=most)
        try:
            fitted = fit_request(request, subject.tokenizer, subject.max_context_tokens - most)
        except InputError:
            return request, False, False
        return fitted, True, (fitted.prefix, fitted.suffix) != (prefix, suffix)

    def _write_all(
        self, problems: Sequence[Problem], asking: Asking, written: "_Written", judged: "Future[None]"
    ) -> None:
        stage, total = f"generate {asking.mode or asking.kind}", len(problems) * self._exam.choices.samples
        self._exam.on_progress(stage, 0, total)
        fitting = (asked.request for asked in self._list_asked(problems, asking) if asked.fits)
        for request, found in self._exam.kept.answer(fitting):
            if judged.done():  # it can only have failed
                return
            written.add(request, str(found) if isinstance(found, UserError) else None)
            self._exam.on_progress(stage, written.count, total)
        self._exam.on_progress(stage, total, total)

    def _judge_all(
        self, problems: Sequence[Problem], asking: Asking, written: "_Written", on_sample: Callable[[Sample], None]
    ) -> None:
        on_progress, total = prefix_stages(self._exam.on_progress, "run "), len(problems) * self._exam.choices.samples
        on_progress(asking.kind, 0, total)
        waiting: deque[_Waiting] = deque()
        in_order, expected = _InOrder(on_sample), 0
        for asked in self._list_asked(problems, asking):
            expected += asked.fits
            self._losses[name_kind(asking.kind, asking.mode)] += Counter(cut=asked.is_cut, unfit=not asked.fits, all=1)
            if not written.wait(expected):
                return
            waiting.append(self._judge(asking, asked, written.failed.get(asked.request, "")))
            while len(waiting) > _AHEAD_PER_BOX * self._judge_by.boxes or (waiting and waiting[0].is_done):
                in_order.take(waiting.popleft())
                on_progress(asking.kind, in_order.count, total)
        while waiting:
            in_order.take(waiting.popleft())
            on_progress(asking.kind, in_order.count, total)

    def _judge(self, asking: Asking, asked: "_Asked", missing: str) -> "_Waiting":
        """Put the programs of an answer under way, one for each policy."""
        problem, request = asked.problem, asked.request
        answer = None if missing else self._exam.kept.find(request) if asked.fits else _NOTHING
        named = (problem.task_id, problem.group, asking.kind, asking.mode, asked.sample, hash_parts(request).hex())
        runs = [] if answer is None else [self._run(problem, policy, answer.text) for policy in asking.policies]
        return _Waiting(asked.place, (*named, problem.before, problem.after), answer, missing, runs)

    def _run(self, problem: Problem, policy: str, text: str) -> "_Run":
        cut = POLICIES[policy](problem, text)
        examinee = problem.pose(cut)
        # By a hash: thousands of programs with their tests would fill the memory.
        key = hash_parts("verdict", self._judged_by, problem.tests, examinee)
        running = self._running.get(key)
        if running is None:
            kept = self._exam.store.find(key)
            if kept is not None:
                return _Run(policy, cut, list(self._examine_all), tuple(map(read_verdict, kept)))
            running = self._running[key] = self._pool.submit(self._examine, key, examinee)
            if running.done():  # before it was listed
                self._running.pop(key, None)
        return _Run(policy, cut, list(self._examine_all), running)

    def _examine(self, key: bytes, examinee: Any) -> tuple[Verdict, ...]:
        # One after the other: the second finds what the program did, and need not run it.
        verdicts = tuple(shorten_verdict(examine(examinee)) for examine in self._examine_all.values())
        if not any(verdict.is_mishap for verdict in verdicts):
            self._exam.store.keep(key, [spell_verdict(verdict) for verdict in verdicts])
            # Kept first: whoever does not find it under way finds it kept.
            self._running.pop(key, None)
        return verdicts


@dataclass(frozen=True, slots=True)
class _Asked:
    """A problem and sample as it is asked; `place` is where its record stands, `fits` whether the window holds it at
    all, `is_cut` whether only a part of it."""

    place: int
    problem: Problem
    sample: int
    request: Request
    fits: bool
    is_cut: bool


class _InOrder:
    """Hands samples on in the order of their places, whatever the order in which they were asked."""

    def __init__(self, on_sample: Callable[[Sample], None]) -> None:
        self._on_sample, self._early = on_sample, dict[int, Sample]()
        self.count, self._next = 0, 0

    def take(self, waiting: "_Waiting") -> None:
        self.count += 1
        self._early[waiting.place] = waiting.conclude()
        while self._next in self._early:
            self._on_sample(self._early.pop(self._next))
            self._next += 1


class _Written:
    """How many answers there are, for one who waits for them in order."""

    def __init__(self) -> None:
        self.count, self.failed = 0, dict[Request, str]()
        self._stopped, self._changed = False, threading.Condition()

    def add(self, request: Request, failure: str | None) -> None:
        with self._changed:
            self.count += 1
            if failure is not None:
                self.failed[request] = failure
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, count: int) -> bool:
        """Wait for so many; `False` where they will never come."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self.count >= count)
            return self.count >= count and not self._stopped


@dataclass(slots=True)
class _Run:
    policy: str
    text: str
    scorers: list[str]
    verdicts: "tuple[Verdict, ...] | Future[tuple[Verdict, ...]]"

    @property
    def is_done(self) -> bool:
        return isinstance(self.verdicts, tuple) or self.verdicts.done()

    def conclude(self) -> Iterator[Judged]:
        verdicts = self.verdicts if isinstance(self.verdicts, tuple) else self.verdicts.result()
        for scorer, verdict in zip(self.scorers, verdicts, strict=True):
            policy = f"{self.policy}, {scorer}" if scorer else self.policy
            printed = (verdict.stdout.decode("utf-8", "replace"), verdict.stderr.decode("utf-8", "replace"))
            yield Judged(policy, self.text, verdict.outcome, verdict.reason, verdict.seconds, *printed)


@dataclass(slots=True)
class _Waiting:
    place: int
    about: tuple[str, str, str, InfillMode | None, int, str, str, str]
    answer: Completion | None
    missing: str
    runs: list[_Run]

    @property
    def is_done(self) -> bool:
        return all(run.is_done for run in self.runs)

    def conclude(self) -> Sample:
        judged = tuple(judged for run in self.runs for judged in run.conclude())
        if self.answer is None:
            return Sample(*self.about, None, None, self.missing or "no answer was kept", judged)
        return Sample(*self.about, self.answer.text, self.answer.stop_reason, "", judged)
