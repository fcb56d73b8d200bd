"""Tells whether a program in one of eight languages gives what its question expects; the program never holds that.

**In**: `Attempt`s: a program's files and the question they answer.
**Out**: `Verdict`s, by the published comparison and by the fixed one, from one run.
**Not**: Python's own suites; their tests are code, and `sandbox/judge.py` runs them.

A program is given a word that nobody could know, and tells with it what its calls give. The comparison is here. To
print success, to leave early or to tell a value twice gains nothing.
"""

import functools
import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from codegemma.evals.babelcode.compare import Scorer, UntoldError, are_equal, decode_told, read_told
from codegemma.evals.babelcode.languages import Target, read_preludes
from codegemma.evals.babelcode.questions import Question
from codegemma.sandbox.box import Ended, Limits, Ran, Sandbox
from codegemma.sandbox.judge import Outcome, Verdict, tell_not_run
from codegemma.sandbox.toolchains import Toolchain
from codegemma.sandbox.warm_compiler import BuildError
from codegemma.sandbox.workshop import Workshop

# BabelCode gives 10 seconds to most; of processor time, so that a busy machine decides nothing.
RUN_LIMITS = Limits(wall_s=60, cpu_s=10, output_bytes=4 * 2**20)
# So many wait for the compiler that takes what waits together.
_WAITING = 24
_REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class Attempt:
    """A program: its files, and with fixes where those differ. Equal ones are run once."""

    task_id: str
    language: str
    files: Mapping[str, str]
    fixed_files: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Told:
    """What one run told: a value for each call, or what went wrong."""

    outcome: Outcome | None
    reason: str
    values: tuple[Any, ...]
    seconds: float
    stdout: bytes = b""
    stderr: bytes = b""
    is_built: bool = True


class BabelJudge:
    """Judges the programs of one language, from any number of threads."""

    def __init__(self, sandbox: Sandbox, toolchain: Toolchain, target: Target, questions: Sequence[Question]) -> None:
        """Make the workshop ready.

        Raises:
            InputError: the toolchain is not there, is too old, or does not work.
        """
        self._sandbox, self._target = sandbox, target
        self._questions = {question.task_id: question for question in questions}
        self._workshop = Workshop(sandbox, toolchain, read_preludes(target.key))
        self.boxes = sandbox.boxes + (_WAITING if toolchain.warm == "kotlin" else 0)
        self._known: dict[bytes, _Told] = {}
        self._lock = threading.Lock()

    def describe(self) -> Mapping[str, str]:
        """Tell what verdicts hang on."""
        found = self._workshop.found
        return {**self._sandbox.describe(), found.toolchain.name: found.version or ""}

    def examine(self, examinee: Attempt) -> Verdict:
        """Run a program and compare as published."""
        return self.examine_by(examinee, Scorer.PUBLISHED)

    def examine_by(self, attempt: Attempt, scorer: Scorer) -> Verdict:
        """Run a program, unless it is known, and compare."""
        told = self._ask(attempt.files)
        if scorer is Scorer.FIXED and not told.is_built and attempt.fixed_files not in (None, attempt.files):
            told = self._ask(attempt.fixed_files or {})
        return self._conclude(told, self._questions[attempt.task_id], scorer)

    def close(self) -> None:
        """Remove everything."""
        self._workshop.close()

    def __enter__(self) -> "BabelJudge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, files: Mapping[str, str]) -> _Told:
        text = "\0".join(f"{name}\0{content}" for name, content in sorted(files.items()))
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            told = self._known.get(key)
        if told is None or told.outcome is Outcome.NOT_RUN:
            told = self._run(files)
            with self._lock:
                self._known[key] = told
        return told

    def _run(self, files: Mapping[str, str]) -> _Told:
        try:
            built = self._workshop.build(files)
        except BuildError as error:
            return _Told(Outcome.ERROR, f"does not compile: {error}"[:_REASON_CHARS], (), 0.0, is_built=False)
        except OSError as error:
            return _tell_not_run(error)
        mark = secrets.token_hex(16)
        try:
            ran = self._workshop.run(built, f"{mark}\n".encode(), RUN_LIMITS)
        except OSError as error:
            return _tell_not_run(error)
        finally:
            self._workshop.discard(built)
        return _read_run(ran, mark)

    def _conclude(self, told: _Told, question: Question, scorer: Scorer) -> Verdict:
        verdict = functools.partial(Verdict, seconds=told.seconds, stdout=told.stdout, stderr=told.stderr)
        for index, (value, call) in enumerate(zip(told.values, question.calls, strict=False)):
            if not are_equal(value, call.expected, question.returns, self._target, scorer):
                reason = f"call {index} of {len(question.calls)} gives {value!r}, wanted {call.expected!r}"
                return verdict(Outcome.FAILED, reason[:_REASON_CHARS])
        if told.outcome is not None:
            return verdict(told.outcome, told.reason)
        if len(told.values) != len(question.calls):
            return verdict(Outcome.GONE, f"told {len(told.values)} of {len(question.calls)} values, then ended with 0")
        return verdict(Outcome.PASSED, "")


def _tell_not_run(error: OSError) -> _Told:
    verdict = tell_not_run(error)
    return _Told(verdict.outcome, verdict.reason, (), 0.0)


def _read_run(ran: Ran, mark: str) -> _Told:
    """Take the values in their order, up to the first that is missing."""
    values: list[Any] = []
    outcome, reason = _explain(ran)
    try:
        found = read_told(ran.stdout, mark)
        values += (decode_told(found[index]) for index in takewhile(found.__contains__, range(len(found))))
    except UntoldError as error:
        outcome, reason = Outcome.ERROR, str(error)
    return _Told(outcome, reason[:_REASON_CHARS], tuple(values), ran.seconds, ran.stdout[:4096], ran.stderr[:4096])


def _explain(ran: Ran) -> tuple[Outcome | None, str]:
    if ran.ended in (Ended.TIME, Ended.OUTPUT, Ended.MEMORY):
        return Outcome(ran.ended.value), f"met its limit of {ran.ended.value}"
    if ran.exit_code == 0:
        return None, ""
    if ran.exit_code is not None and ran.exit_code in (-9, -24, 137, 152):
        return Outcome.TIME, "met its limit of processor time"
    said = ran.stderr.decode("utf-8", "replace").strip()
    lines = [line for line in said.splitlines() if "VM warning" not in line]
    return Outcome.ERROR, f"ended with {ran.exit_code}: {' '.join(lines[:3])}"
