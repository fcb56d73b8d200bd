"""Keeps verdicts on programs: one that was judged before is not run again.

**In**: a `Store`, a judge, programs with their tests.
**Out**: `Verdict`s, from the store where they are there.
**Not**: a judge; what a verdict hangs on is what the judge says of itself, the program and its tests.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from codegemma.evals.store import Store, hash_parts
from codegemma.sandbox.judge import Examinee, Outcome, Verdict

# Of what a program printed; the rest explains nothing more.
_SHOWN_BYTES = 2000


class Examiner(Protocol):
    """Whoever judges many programs: `sandbox.judge.PythonJudge`."""

    def examine_all(self, examinees: Sequence[Examinee]) -> Iterator[Verdict]:
        """Judge, in order."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Tell what verdicts hang on."""
        ...


def examine_kept(store: Store, judge: Examiner, examinees: Sequence[Examinee]) -> list[Verdict]:
    """Judge programs, several at once; each verdict is kept as soon as it is there."""
    judged_by = dict(judge.describe())
    keys = [hash_parts("verdict of one program", judged_by, examinee) for examinee in examinees]
    found = {key: read_verdict(kept) for key in dict.fromkeys(keys) if (kept := store.find(key)) is not None}
    missing = {key: examinee for key, examinee in zip(keys, examinees, strict=True) if key not in found}
    for key, verdict in zip(missing, judge.examine_all(list(missing.values())), strict=True):
        found[key] = shorten_verdict(verdict)
        if not verdict.is_mishap:
            store.keep(key, spell_verdict(found[key]))
    return [found[key] for key in keys]


def shorten_verdict(verdict: Verdict) -> Verdict:
    """Keep the head of what was printed, and the tail of the errors."""
    stdout, stderr = verdict.stdout[:_SHOWN_BYTES], verdict.stderr[-_SHOWN_BYTES:]
    return replace(verdict, seconds=round(verdict.seconds, 3), stdout=stdout, stderr=stderr)


def spell_verdict(verdict: Verdict) -> list[Any]:
    """Spell a verdict as plain data."""
    return [verdict.outcome, verdict.reason, verdict.seconds, verdict.stdout.hex(), verdict.stderr.hex()]


def read_verdict(kept: list[Any]) -> Verdict:
    """Read a verdict back."""
    outcome, reason, seconds, stdout, stderr = kept
    return Verdict(Outcome(outcome), reason, seconds, bytes.fromhex(stdout), bytes.fromhex(stderr))
