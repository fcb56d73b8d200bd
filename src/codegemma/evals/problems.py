"""Problems whose answer is a program: read as published, posed as prompts, and handed on with their tests.

**In**: the files of HumanEval, of its four infilling sets and of MBPP (all and sanitized), as published.
**Out**: `Problem`s.
**Not**: running anything; what a model wrote becomes an `Examinee`, and a box judges it.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash

from codegemma.errors import InputError
from codegemma.sandbox.judge import Examinee


@dataclass(frozen=True, slots=True)
class Problem:
    """What is asked, and how an answer is put to the test.

    A model sees `prefix` and, where there is a hole, `suffix`. `before` and `after` stand around its text in the
    program. `group` names what problems share: several holes of one solution are not independent. `solution` is the
    published answer. `trusted` and `names` are those of `Examinee`. `stops` are words at which others cut an answer in
    its `language`; where `keeps_stop` the word belongs to the answer. A `question` is put in a conversation and seen
    instead of `prefix` and `suffix`.
    """

    task_id: str
    group: str
    prefix: str = field(repr=False)
    suffix: str = field(repr=False)
    before: str = field(repr=False)
    after: str = field(repr=False)
    solution: str = field(repr=False)
    tests: str = field(repr=False)
    trusted: str = field(default="", repr=False)
    names: tuple[str, ...] | None = None
    language: str = "python"
    stops: tuple[str, ...] = ()
    keeps_stop: bool = False
    question: str = field(default="", repr=False)

    def write_program(self, text: str) -> str:
        """Put an answer in its place."""
        return self.before + text + self.after

    def pose(self, text: str) -> Any:
        """Make what a judge runs of an answer: of Python an `Examinee`."""
        return Examinee(self.write_program(text), self.tests, self.trusted, self.names)


def read_problems(path: Path, read: Callable[[Mapping[str, Any]], Problem], origin: str, tasks: int) -> list[Problem]:
    """Read a published file of gzipped JSON lines.

    Raises:
        InputError: no such file, cut off, other fields than the benchmark's, a problem twice, or not all of them.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            problems = [read(json.loads(line)) for line in lines if line.strip()]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; get it from {origin}") from error
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not the benchmark ({type(error).__name__}: {error}); wanted gzipped JSON lines as published; "
            f"get it again from {origin}"
        ) from error
    distinct = {problem.task_id for problem in problems}
    if len(distinct) != len(problems) or len(problems) != tasks:
        raise InputError(
            f"{path} holds {len(problems):,} problems, {len(distinct):,} of them different, where {tasks:,} were "
            f"published; a score over others would not be the benchmark's: get the file again from {origin}"
        )
    return problems


def choose_problems(problems: Sequence[Problem], limit: int | None) -> list[Problem]:
    """Take at most `limit` problems, spread by a keyed hash, in the file's order; fewer are among more."""
    chosen = sorted(range(len(problems)), key=lambda i: xxhash.xxh3_64_intdigest(problems[i].task_id.encode()))[:limit]
    return [problems[i] for i in sorted(chosen)]


def read_humaneval(row: Mapping[str, Any]) -> Problem:
    """Read a row of HumanEval: a function's head is given, its body is asked for (Chen et al., 2107.03374)."""
    return _read_function(row, row["prompt"], "", row["task_id"])


def read_infilling(row: Mapping[str, Any]) -> Problem:
    """Read a row of an infilling set: a part of a true solution is missing (Bavarian et al., 2207.14255)."""
    group = "/".join(row["task_id"].split("/")[1:3])
    return _read_function(row, row["prompt"], row["suffix"], group)


def _read_function(row: Mapping[str, Any], prefix: str, suffix: str, group: str) -> Problem:
    solution = str(row["canonical_solution"])
    return Problem(
        task_id=str(row["task_id"]),
        group=str(group),
        prefix=prefix,
        suffix=suffix,
        before=prefix,
        after=suffix,
        solution=solution,
        tests=f"{row['test']}\ncheck({row['entry_point']})\n",
        # Tests call helpers of the prompt: they get the true program's, not what an answer made of them.
        trusted=prefix + solution + suffix,
        names=(str(row["entry_point"]),),
    )


def ask_in_conversation(problem: Problem) -> Problem:
    """Ask for the whole program in a conversation: in MBPP's own words, or by the head of HumanEval's function.

    What stands before the asked function in HumanEval's prompt (imports, helpers) stands before the answer again.
    """
    if not problem.before:
        task = problem.prefix.removesuffix("[BEGIN]\n").strip()
        return replace(problem, question=f"{task}\n\nAnswer with one Python code block that holds the whole program.")
    name = problem.names[0] if problem.names else ""
    question = (
        "Complete this Python function. Answer with one Python code block that holds the whole function.\n\n"
        f"```python\n{problem.prefix.rstrip()}\n```"
    )
    head = problem.before[: max(problem.before.rfind(f"def {name}("), 0)]
    return replace(problem, question=question, before=f"{head}\n", after="\n")


# The copy of the sanitized set that is about has lost `test_imports`: these tests call `math`.
_NEED_MATH = frozenset({98, 124, 137, 139, 163, 233, 246, 248, 276, 300})
# Tasks 2, 3 and 4 are the three shots of the paper (Austin et al., 2108.07732, section 2.1), 11 to 510 the test split.
MBPP_SHOTS = (2, 3, 4)
MBPP_TEST = range(11, 511)


def read_mbpp(row: Mapping[str, Any]) -> Problem:
    """Read a row of MBPP. What sets tests up uses a class of the solution, so it runs after it (tasks 367 and 927)."""
    number, text = int(row["task_id"]), row.get("text") or row["prompt"]
    # Published with the line ends of another system.
    solution, tests = str(row["code"]).replace("\r\n", "\n"), [str(test) for test in row["test_list"]]
    imports = row.get("test_imports", ["import math"] if "text" in row and _is_sanitized(row, number) else [])
    return Problem(
        task_id=f"MBPP/{number}",
        group=f"MBPP/{number}",
        prefix=ask_in_words(str(text), tests),
        suffix="",
        before="",
        after="\n",
        solution=solution,
        tests="\n".join([*imports, row.get("test_setup_code", ""), *tests]),
    )


def _is_sanitized(row: Mapping[str, Any], number: int) -> bool:
    return "challenge_test_list" not in row and number in _NEED_MATH


def ask_in_words(text: str, tests: Sequence[str]) -> str:
    """Spell a problem as the paper's prompt does, up to where the answer begins."""
    listed = "\n".join(tests)
    return (
        f"You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n"
        f"{listed}\n[BEGIN]\n"
    )


def join_shots(shots: Sequence[Problem]) -> str:
    """Spell solved problems, to stand before an unsolved one."""
    return "".join(f"{shot.prefix}{shot.solution}\n[DONE]\n\n" for shot in shots)
