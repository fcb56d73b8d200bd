"""Examines drafts: whether they parse and run, and whether their tests hold the solution and nothing broken.

**In**: a `Draft`.
**Out**: `Examined`: why it goes, or what its functions were called with and gave.
**Not**: a defence against tests that are written to deceive: they run in a box, as the program does, but it is they
who say that they passed. What this filter promises is that tests notice broken programs.

Imports of the solution under whatever name of a module are taken out of the tests, and functions named `test_...` that
nobody calls are called.
"""

import ast
from dataclasses import dataclass
from itertools import takewhile
from sys import stdlib_module_names

from codegemma.errors import InputError
from codegemma.evals.babelcode.record import Source, record_calls
from codegemma.sandbox.box import Limits, Program, Sandbox, name_python
from codegemma.sandbox.inside.wire import WireError
from codegemma.sandbox.judge import Examinee, Outcome, PythonJudge, Verdict
from codegemma.synthesis.choices import ExaminationChoices
from codegemma.synthesis.outcomes import Draft, Drop, Reason
from codegemma.synthesis.problem_file import SpelledCase, spell_case
from codegemma.synthesis.variants import break_program
from codegemma.text.python_source import parse_python

# Raised whenever the same draft may be found otherwise than before: findings are kept.
EXAMINATION_VERSION = 1
# Shorter words ask for nothing that could be solved without guessing.
_MIN_PROBLEM_CHARS = 40
# A program that waits for a processor is not slow; its limit is what it computes.
_WALL_SHARE = 6


@dataclass(frozen=True, slots=True)
class Examined:
    """What an examination found. `function` is what the tests call most, `cases` what they call it with and get."""

    drop: Drop | None
    function: str = ""
    cases: tuple[SpelledCase, ...] = ()
    caught: int = 0
    variants: int = 0


@dataclass(frozen=True, slots=True)
class Parsed:
    """A draft whose program and tests parse, tests as they are run."""

    solution: str
    tests: str
    function: str


class Examiner:
    """Runs drafts in boxes; from any number of threads.

    The first run of the tests is out of the program's reach; that a program that passed it deceives the others is no
    loss.
    """

    def __init__(self, sandbox: Sandbox, choices: ExaminationChoices) -> None:
        """Use boxes that somebody else closes."""
        self._sandbox, self._choices = sandbox, choices
        wall_s = float(_WALL_SHARE * choices.seconds)
        self._limits = Limits(wall_s=wall_s, cpu_s=choices.seconds, processes=32)
        self._judge = PythonJudge(sandbox, self._limits)
        self._python, self._shown = name_python()
        self.boxes = sandbox.boxes

    def describe(self) -> dict[str, str]:
        """Tell what a finding hangs on besides the draft and the choices."""
        return {**self._judge.describe(), "examination": str(EXAMINATION_VERSION)}

    def close(self) -> None:
        """End the box of the tests."""
        self._judge.close()

    def examine(self, draft: Draft) -> Examined:
        """Put a draft to the test, cheapest first."""
        try:
            parsed = parse_draft(draft)
            variants = [] if isinstance(parsed, Drop) else break_program(parsed.solution, self._choices.variants)
        except (RecursionError, ValueError, MemoryError) as error:
            parsed = Drop(Reason.SOLUTION_UNPARSABLE, f"cannot be spelled again ({type(error).__name__})")
        if isinstance(parsed, Drop):
            return Examined(parsed)
        loaded = self._run(parsed.solution, "")
        if not loaded.has_passed:
            return Examined(Drop(Reason.DOES_NOT_RUN, _describe(loaded)))
        if drop := self._find_fault(parsed):
            return Examined(drop)
        caught = [not self._run(variant, parsed.tests).has_passed for variant in variants]
        drop = self._rate(caught)
        cases = () if drop else self._record(parsed)
        return Examined(drop, parsed.function, cases, sum(caught), len(caught))

    def _find_fault(self, parsed: Parsed) -> Drop | None:
        """Run the tests again and again: what passes sometimes is flaky."""
        verdict = self._run(parsed.solution, parsed.tests)
        if verdict.outcome in (Outcome.TIME, Outcome.MEMORY, Outcome.OUTPUT):
            return Drop(Reason.TOO_SLOW, _describe(verdict))
        again = [self._passes_alone(parsed) for _ in range(self._choices.runs - 1)]
        passed = verdict.has_passed + sum(again)
        if passed == self._choices.runs:
            return None
        if passed:
            return Drop(Reason.FLAKY, f"passed {passed} times of {self._choices.runs}")
        return Drop(Reason.FAILS_ITS_TESTS, _describe(verdict))

    def _passes_alone(self, parsed: Parsed) -> bool:
        """Run both as people do, in an interpreter of its own: a copied one orders sets as the last did."""
        text = f"{parsed.solution}\n{parsed.tests}\n".encode()
        program = Program([*self._python, "-"], stdin=text, read_only=self._shown)
        return self._sandbox.run(program, self._limits).exit_code == 0

    def _rate(self, caught: list[bool]) -> Drop | None:
        """Say whether enough of the broken variants fail; the first is the emptied one."""
        if not caught or not caught[0]:
            return Drop(Reason.BROKEN_PASSES, "functions that give None pass all tests")
        if sum(caught) < self._choices.min_caught * len(caught):
            return Drop(Reason.BROKEN_PASSES, f"only {sum(caught)} of {len(caught)} broken variants fail")
        return None

    def _run(self, program: str, tests: str) -> Verdict:
        verdict = self._judge.examine(Examinee(program, tests))
        if verdict.outcome is Outcome.NOT_RUN:  # no finding, and none to keep
            raise InputError(f"a draft cannot be examined: {verdict.reason}; the same command goes on from here")
        # The tests of another draft may have taken their common box down: that says nothing of this one.
        return self._judge.examine(Examinee(program, tests)) if verdict.outcome is Outcome.GONE else verdict

    def _record(self, parsed: Parsed) -> tuple[SpelledCase, ...]:
        """Find out what the tests call; nothing where that cannot be told as plain data."""
        source = Source("", parsed.solution, parsed.tests, parsed.function, "")
        try:
            calls = record_calls(self._sandbox, [source], self._limits)[0]
        except (InputError, WireError, ValueError, TypeError, KeyError):  # a program may print what it likes
            return ()
        return tuple(case for call in calls if (case := spell_case(call.arguments, call.expected)))


def parse_draft(draft: Draft) -> Parsed | Drop:
    """Parse a draft's program and tests, and find the function that is tested.

    >>> parse_draft(Draft("?", "x = 1", "assert x")).reason
    <Reason.SHORT_PROBLEM: 'short_problem'>
    """
    if len(draft.problem) < _MIN_PROBLEM_CHARS:
        return Drop(Reason.SHORT_PROBLEM, f"{len(draft.problem)} characters, wanted {_MIN_PROBLEM_CHARS}")
    solution, tests = parse_python(draft.solution), parse_python(draft.tests)
    if solution is None:
        return Drop(Reason.SOLUTION_UNPARSABLE)
    if tests is None:
        return Drop(Reason.TESTS_UNPARSABLE)
    defined = {node.name for node in solution.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    if not defined:
        return Drop(Reason.NO_FUNCTION)
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tests)):
        return Drop(Reason.NO_ASSERTION)
    called = _count_calls(tests, defined)
    if not called:
        return Drop(Reason.NOTHING_TESTED, f"no test calls {', '.join(sorted(defined))}")
    function = max(called, key=lambda name: (called[name], name))
    return Parsed(draft.solution, prepare_tests(tests, defined), function)


def prepare_tests(tests: ast.Module, defined: set[str]) -> str:
    r"""Take imports of the solution out, copies of its functions too, and call what only a test runner would call.

    >>> tests = ast.parse("from solution import f\ndef test_f():\n    assert f(1) == 1\n")
    >>> print(prepare_tests(tests, {"f"}))
    def test_f():
        assert f(1) == 1
    test_f()
    """
    kept = [node for node in tests.body if not _is_foreign_import(node) and not _defines(node, defined)]
    called = {
        n.func.id
        for node in kept if not isinstance(node, ast.FunctionDef)
        for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }  # fmt: skip
    waiting = [
        node.name
        for node in kept
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test")
        and not node.args.args
        and node.name not in called
    ]
    return "\n".join([ast.unparse(ast.Module(kept, [])), *(f"{name}()" for name in waiting)])


def _is_foreign_import(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").partition(".")[0] not in stdlib_module_names
    return isinstance(node, ast.Import) and all(
        name.name.partition(".")[0] not in stdlib_module_names for name in node.names
    )


def _defines(node: ast.stmt, defined: set[str]) -> bool:
    """Tell a copy of the solution: tests of a copy would pass whatever the solution is."""
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in defined


def _count_calls(tests: ast.Module, defined: set[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in ast.walk(tests):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in defined:
            counts[node.func.id] = counts.get(node.func.id, 0) + 1
    return counts


def _describe(verdict: Verdict) -> str:
    line = "".join(takewhile(lambda char: char != "\n", verdict.reason)) or "an assertion does not hold"
    return f"{verdict.outcome}: {line}"
