"""Problems answered by a model, and its answers run: generation and judging side by side, neither waiting.

**In**: an examination, problems, the mode they are asked in, the policies by which answers are cut, a judge.
**Out**: a `Sample` for each problem and sample, in their order, as soon as it is judged.
**Not**: figures (`samples.py`).

Both walk the same order: who writes keeps answers in the store, on disk, and who judges takes them from there. So
a slow judge never stops the writing, a slow model never idles more judges than it must, and no more than a few programs
are in memory, however many samples there are.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from codegemma.errors import InputError, UserError
from codegemma.evals.examination import Examination
from codegemma.evals.keeping import CHUNK_REQUESTS, drop_seed
from codegemma.evals.problems import Problem
from codegemma.evals.samples import Judged, Sample
from codegemma.evals.store import hash_parts
from codegemma.evals.truncation import POLICIES
from codegemma.records import Completion, InfillMode, Request, Sampling, StopReason
from codegemma.runner import prefix_stages
from codegemma.sandbox.judge import Outcome, Verdict
from codegemma.text.window import fit_request

# Answers that wait for a verdict, for each box: a slow program does not hold up the boxes beside it.
_AHEAD_PER_BOX = 16
# Of what a program printed; the rest explains nothing more.
_SHOWN_BYTES = 2000
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
        self._exam, self._judge = exam, judge
        self._examine_all = {"": judge.examine, **others}
        self._judged_by = [dict(judge.describe()), list(self._examine_all)]
        self._pool = ThreadPoolExecutor(judge.boxes)
        self._running: dict[bytes, Future[tuple[Verdict, ...]]] = {}

    def answer(self, problems: Sequence[Problem], asking: Asking, on_sample: Callable[[Sample], None]) -> None:
        """Answer all problems `choices.samples` times; equal programs are run once.

        Raises:
            UserError: the model cannot be asked any more; what was answered is kept.
        """
        written = _Written()
        with ThreadPoolExecutor(1) as judging:
            judged = judging.submit(self._judge_all, problems, asking, written, on_sample)
            try:
                self._write_all(problems, asking, written, judged)
                judged.result()
            finally:
                written.stop()

    def close(self) -> None:
        """Let go of programs that nobody waits for."""
        self._pool.shutdown(cancel_futures=True)

    def _list_asked(self, problems: Sequence[Problem], asking: Asking) -> Iterator[tuple[Problem, int, Request, bool]]:
        """List every problem and sample with its request, and whether that fits the window."""
        choices, subject = self._exam.choices, self._exam.subject
        window = subject.max_context_tokens
        for problem in problems:
            request = Request(
                asking.shots + problem.prefix,
                problem.suffix if asking.mode else "",
                path=asking.path,
                mode=asking.mode,
                # A small window gives a quarter, so that the prompt keeps its room.
                max_new_tokens=min(asking.max_new_tokens, window // 4),
            )
            fits = True
            try:
                request = fit_request(request, subject.tokenizer, window - request.max_new_tokens)
            except InputError:
                fits = False
            for sample in range(choices.samples):
                sampling = Sampling(temperature=choices.temperature, top_p=choices.top_p, seed=choices.seed + sample)
                yield problem, sample, drop_seed(replace(request, sampling=sampling)), fits

    def _write_all(
        self, problems: Sequence[Problem], asking: Asking, written: "_Written", judged: "Future[None]"
    ) -> None:
        stage, total = f"generate {asking.mode or asking.kind}", len(problems) * self._exam.choices.samples
        self._exam.on_progress(stage, 0, total)
        chunk: list[Request | None] = []
        for *_, request, fits in self._list_asked(problems, asking):
            chunk.append(request if fits else None)
            if len(chunk) + written.count < total and len(chunk) < CHUNK_REQUESTS:
                continue
            if judged.done():  # it can only have failed
                return
            asked = list(dict.fromkeys(request for request in chunk if request is not None))
            answers = dict(zip(asked, self._exam.kept.complete_each(asked), strict=True))
            failed = {request: error for request, error in answers.items() if isinstance(error, UserError)}
            written.advance(len(chunk), {request: str(error) for request, error in failed.items()})
            self._exam.on_progress(stage, written.count, total)
            chunk = []

    def _judge_all(
        self, problems: Sequence[Problem], asking: Asking, written: "_Written", on_sample: Callable[[Sample], None]
    ) -> None:
        on_progress, total = prefix_stages(self._exam.on_progress, "run "), len(problems) * self._exam.choices.samples
        on_progress(asking.kind, 0, total)
        waiting: deque[_Waiting] = deque()
        for number, (problem, sample, request, fits) in enumerate(self._list_asked(problems, asking), 1):
            if not written.wait(number):
                return
            answer = (self._exam.kept.find(request) if fits else _NOTHING) if request not in written.failed else None
            missing = written.failed.get(request, "")
            asked = (asking.kind, asking.mode, sample, hash_parts(request).hex())
            about = (problem.task_id, problem.group, *asked, problem.before, problem.after)
            runs = [] if answer is None else [self._run(problem, policy, answer.text) for policy in asking.policies]
            waiting.append(_Waiting(about, answer, missing, runs))
            while len(waiting) > _AHEAD_PER_BOX * self._judge.boxes or (waiting and waiting[0].is_done):
                on_sample(waiting.popleft().conclude())
                on_progress(asking.kind, number - len(waiting), total)
        while waiting:
            on_sample(waiting.popleft().conclude())
            on_progress(asking.kind, total - len(waiting), total)

    def _run(self, problem: Problem, policy: str, text: str) -> "_Run":
        cut = POLICIES[policy](problem, text)
        examinee = problem.pose(cut)
        # By a hash: thousands of programs with their tests would fill the memory.
        key = hash_parts("verdict", self._judged_by, problem.tests, examinee)
        running = self._running.get(key)
        if running is None:
            kept = self._exam.store.find(key)
            if kept is not None:
                return _Run(policy, cut, list(self._examine_all), tuple(map(_read_verdict, kept)))
            running = self._running[key] = self._pool.submit(self._examine, key, examinee)
            if running.done():  # before it was listed
                self._running.pop(key, None)
        return _Run(policy, cut, list(self._examine_all), running)

    def _examine(self, key: bytes, examinee: Any) -> tuple[Verdict, ...]:
        # One after the other: the second finds what the program did, and need not run it.
        verdicts = tuple(_shorten(examine(examinee)) for examine in self._examine_all.values())
        self._exam.store.keep(key, [_spell_verdict(verdict) for verdict in verdicts])
        # Kept first: whoever does not find it under way finds it kept.
        self._running.pop(key, None)
        return verdicts


class _Written:
    """How many answers there are, for one who waits for them in order."""

    def __init__(self) -> None:
        self.count, self.failed = 0, dict[Request, str]()
        self._stopped, self._changed = False, threading.Condition()

    def advance(self, by: int, failed: Mapping[Request, str]) -> None:
        with self._changed:
            self.count += by
            self.failed.update(failed)
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


def _shorten(verdict: Verdict) -> Verdict:
    stdout, stderr = verdict.stdout[:_SHOWN_BYTES], verdict.stderr[-_SHOWN_BYTES:]
    return replace(verdict, seconds=round(verdict.seconds, 3), stdout=stdout, stderr=stderr)


def _spell_verdict(verdict: Verdict) -> list[Any]:
    return [verdict.outcome, verdict.reason, verdict.seconds, verdict.stdout.hex(), verdict.stderr.hex()]


def _read_verdict(kept: list[Any]) -> Verdict:
    outcome, reason, seconds, stdout, stderr = kept
    return Verdict(Outcome(outcome), reason, seconds, bytes.fromhex(stdout), bytes.fromhex(stderr))
