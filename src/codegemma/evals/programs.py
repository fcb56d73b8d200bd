"""Problems answered by a model, and its answers run: generation and judging side by side.

**In**: a subject, problems, the mode they are asked in, the policies by which answers are cut.
**Out**: `ProgramResult`s, one for each problem, sample and policy.
**Not**: a score where a problem is missing: every problem has its results, or the run fails.
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import xxhash

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.problems import Problem
from codegemma.evals.scoring import CHUNK_HOLES, Subject
from codegemma.evals.truncation import POLICIES
from codegemma.recipe import to_plain
from codegemma.records import InfillMode, Request, Sampling
from codegemma.runner import Progress, ignore_progress
from codegemma.sandbox.judge import Outcome, Verdict
from codegemma.text.window import fit_request


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How one answer did under one policy. `text` is what was run; `reason` says in a line why it did not pass."""

    task_id: str
    group: str
    kind: str
    mode: InfillMode | None
    policy: str
    sample: int
    text: str
    outcome: Outcome
    reason: str

    @property
    def has_passed(self) -> bool:
        """Tell whether the program passed its tests."""
        return self.outcome is Outcome.PASSED


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


class Answerer:
    """Writes answers and has them judged while it writes the next ones."""

    def __init__(self, subject: Subject, judge: Judge, choices: EvalChoices) -> None:
        """Hold who answers and who judges."""
        self._subject, self._judge, self._choices = subject, judge, choices
        self._pool = ThreadPoolExecutor(judge.boxes)
        self._known: dict[bytes, Future[Verdict]] = {}

    def answer(
        self, problems: Sequence[Problem], asking: Asking, on_progress: Progress = ignore_progress
    ) -> list[ProgramResult]:
        """Answer all problems `choices.samples` times; equal programs are run once."""
        stage = f"generate {asking.mode or 'on'}"
        waiting: list[tuple[Problem, int, str, str, Future[Verdict]]] = []
        asked = [(problem, sample) for problem in problems for sample in range(self._choices.samples)]
        on_progress(stage, 0, len(asked))
        for start in range(0, len(asked), CHUNK_HOLES):
            chunk = asked[start : start + CHUNK_HOLES]
            texts = self._write([self._ask(problem, asking, sample) for problem, sample in chunk])
            for (problem, sample), text in zip(chunk, texts, strict=True):
                for policy in asking.policies:
                    cut = POLICIES[policy](problem, text)
                    waiting.append((problem, sample, policy, cut, self._examine(problem.pose(cut))))
            on_progress(stage, start + len(chunk), len(asked))
        return list(self._collect(waiting, asking, on_progress))

    def close(self) -> None:
        """Let go of programs that nobody waits for."""
        self._pool.shutdown(cancel_futures=True)

    def _ask(self, problem: Problem, asking: Asking, sample: int) -> Request:
        choices = self._choices
        return Request(
            asking.shots + problem.prefix,
            problem.suffix if asking.mode else "",
            path=asking.path,
            mode=asking.mode,
            # A small window gives a quarter, so that the prompt keeps its room.
            max_new_tokens=min(asking.max_new_tokens, self._subject.max_context_tokens // 4),
            sampling=Sampling(temperature=choices.temperature, top_p=choices.top_p, seed=choices.seed + sample),
        )

    def _write(self, requests: Sequence[Request]) -> list[str]:
        """Write all answers; equal requests, as greedy ones of many samples are, once."""
        window = self._subject.max_context_tokens
        asked = [_drop_seed(request) for request in requests]
        fitted: dict[Request, Request] = {}
        for request in dict.fromkeys(asked):
            # One that does not fit the window is answered by nothing, and runs as such.
            with contextlib.suppress(InputError):
                fitted[request] = fit_request(request, self._subject.tokenizer, window - request.max_new_tokens)
        written = dict(zip(fitted, self._subject.completer.complete_all(list(fitted.values())), strict=True))
        return [written[request].text if request in written else "" for request in asked]

    def _examine(self, examinee: Any) -> Future[Verdict]:
        # By a hash: thousands of programs with their tests would fill the memory twice.
        key = xxhash.xxh3_128_digest(json.dumps(to_plain(examinee)).encode())
        if key not in self._known:
            self._known[key] = self._pool.submit(self._judge.examine, examinee)
        return self._known[key]

    def _collect(
        self,
        waiting: Sequence[tuple[Problem, int, str, str, Future[Verdict]]],
        asking: Asking,
        on_progress: Progress,
    ) -> Iterator[ProgramResult]:
        on_progress("run", 0, len(waiting))
        for done, (problem, sample, policy, text, future) in enumerate(waiting, 1):
            verdict = future.result()
            asked = (problem.task_id, problem.group, asking.kind, asking.mode, policy, sample)
            yield ProgramResult(*asked, text, verdict.outcome, verdict.reason)
            on_progress("run", done, len(waiting))


def _drop_seed(request: Request) -> Request:
    """A greedy answer hangs on no seed."""
    is_greedy = request.sampling.temperature == 0
    return dataclasses.replace(request, sampling=Sampling()) if is_greedy else request


def estimate_pass_at_k(samples: int, passed: int, k: int) -> float:
    """Estimate the chance that one of `k` samples passes, without bias (Chen et al., 2107.03374, equation 1).

    >>> estimate_pass_at_k(4, 1, 1), estimate_pass_at_k(10, 3, 8), estimate_pass_at_k(3, 0, 3)
    (0.25, 1.0, 0.0)

    Raises:
        ValueError: fewer samples than `k`, or more that passed than there are.
    """
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise ValueError(
            f"pass@{k} of {passed} in {samples} samples: wanted 1 <= k <= samples and 0 <= passed <= samples"
        )
    if samples - passed < k:
        return 1.0
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)
