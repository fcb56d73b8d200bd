"""What became of each answer: a record for every problem and sample, and counts from which pass@k is estimated.

**In**: answers and verdicts.
**Out**: `Sample`s, a JSON line each beside the results; `Tally`, their figures.
**Not**: a figure where an answer is missing: it says which instead.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import Measurement
from codegemma.evals.statistics import Interval, bootstrap_mean, bootstrap_share, count_share
from codegemma.recipe import from_plain
from codegemma.records import InfillMode, StopReason
from codegemma.sandbox.judge import Outcome

_KS = (1, 10, 100)
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer under one policy: what was run of it, how that ended and in how many seconds, and what it printed."""

    policy: str
    text: str
    outcome: Outcome
    reason: str
    seconds: float
    stdout: str
    stderr: str

    @property
    def has_passed(self) -> bool:
        """Tell whether the program passed its tests."""
        return self.outcome is Outcome.PASSED

    @property
    def was_run(self) -> bool:
        """Tell whether there is a verdict: without one an answer neither passed nor failed."""
        return self.outcome is not Outcome.NOT_RUN


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to one problem. `prompt` is a digest of all that was asked, equal for equal questions.

    `generated` is the whole answer, and `None` where there is none: then `missing` says why, and nothing was judged.
    `before` and `after` stand around what is run of it, where a program is written so.
    """

    task_id: str
    group: str
    kind: str
    mode: InfillMode | None
    sample: int
    prompt: str
    before: str
    after: str
    generated: str | None
    stop_reason: StopReason | None
    missing: str
    judged: tuple[Judged, ...]

    def tell_lacking(self) -> str:
        """Tell why there is no answer or no verdict on it; nothing where there are both."""
        if self.generated is None:
            return self.missing
        return next((judged.reason for judged in self.judged if not judged.was_run), "")


def read_samples(path: Path) -> Iterator[Sample]:
    """Read the records of a suite.

    Raises:
        InputError: no such file, or not written by an evaluation of this version.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield from_plain(Sample, json.loads(line))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `codegemma evaluate --out` writes it") from error
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} does not hold samples ({error}); run the evaluation again") from error


def is_samples(path: Path) -> bool:
    """Tell whether the records of a suite are samples, by the first of them."""
    try:
        with path.open(encoding="utf-8") as lines:
            return '"judged"' in lines.readline()
    except OSError:
        return False


@dataclass(slots=True)
class _Count:
    group: str
    samples: int = 0
    passed: int = 0


@dataclass(slots=True)
class Tally:
    """Counts for each kind, mode and policy: as much memory as there are problems, however many samples of each."""

    counts: dict[tuple[str, InfillMode | None, str], dict[str, _Count]] = field(default_factory=dict)
    missing: dict[tuple[str, InfillMode | None], dict[str, str]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Count an answer, or that it or its verdict is missing."""
        if lacking := sample.tell_lacking():
            self.missing.setdefault((sample.kind, sample.mode), {})[sample.task_id] = lacking
        for judged in sample.judged:
            problems = self.counts.setdefault((sample.kind, sample.mode, judged.policy), {})
            count = problems.setdefault(sample.task_id, _Count(sample.group))
            count.samples += 1
            count.passed += judged.has_passed

    def measure(self, choices: EvalChoices, problems: int) -> Iterator[Measurement]:
        """Estimate pass@k of what is whole, for every `k` that the number of samples allows.

        Raises:
            RuntimeError: fewer verdicts than there are problems and samples, and nothing is known to be missing.
        """
        for (kind, mode, policy), counts in self.counts.items():
            if (kind, mode) in self.missing:
                continue
            if len(counts) != problems or any(count.samples != choices.samples for count in counts.values()):
                raise RuntimeError(f"{kind}: not {choices.samples} verdicts on each of {problems} problems: no score")
            for k in _KS:
                if k <= choices.samples:
                    interval = _estimate(list(counts.values()), k, choices.seed)
                    yield Measurement(f"model, {policy}", kind, mode, f"pass_at_{k}", "share", interval)

    def tell_missing(self, problems: int) -> dict[str, str]:
        """Tell of each kind and mode without a score how many of the problems lack something, which, and why."""
        return {
            name_kind(kind, mode): f"no score, {spell_lacking(reasons, problems, 'an answer or a verdict')}"
            for (kind, mode), reasons in self.missing.items()
        }


def spell_lacking(reasons: Mapping[str, str], asked: int, wanted: str = "an answer") -> str:
    """Spell how many problems lack what is wanted, which, and why the first does.

    >>> spell_lacking({"t/5": "refused"}, 12)
    '1 of 12 problems lack an answer (t/5): refused'
    """
    named = ", ".join(list(reasons)[:_NAMED]) + (", ..." if len(reasons) > _NAMED else "")
    why = next(iter(reasons.values()))
    return f"{len(reasons):,} of {asked:,} problems lack {wanted} ({named}): {why}"


def name_kind(kind: str, mode: InfillMode | None) -> str:
    """Name a kind with its mode, as `not_run` does."""
    return f"{kind} {mode}" if mode else kind


def _estimate(problems: Sequence[_Count], k: int, seed: int) -> Interval:
    groups = [count.group for count in problems]
    rates = [estimate_pass_at_k(count.samples, count.passed, k) for count in problems]
    if len(set(groups)) == len(groups) and all(rate in (0.0, 1.0) for rate in rates):
        return count_share(int(sum(rates)), len(rates))
    # Where all pass, or none, drawing groups again shows no spread: a share has a bound there.
    is_share = all(rate in (0.0, 1.0) for rate in rates)
    return (bootstrap_share if is_share else bootstrap_mean)(rates, groups, seed=seed)


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
