"""Questions: a function described in words, with types and with calls whose values are known.

**In**: HumanEval and sanitized MBPP as published, whose solutions are run with their tests in a box.
**Out**: `Question`s of a suite's named list of problems.
**Not**: any programming language but Python, which the sources are in.

A call is what a published test calls with and what the published solution gives. Calls with values that no type covers,
such as `None`, are left out, and counted.
"""

import ast
import gzip
import inspect
import json
import tomllib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from codegemma.errors import InputError
from codegemma.evals.babelcode.record import Call, Source, record_calls
from codegemma.evals.babelcode.types import Type, infer_type, join_types, settle
from codegemma.evals.store import Store
from codegemma.sandbox.box import Sandbox
from codegemma.text.python_source import parse_quietly


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, named as in the source."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Question:
    """A function that is asked for. `solution` is Python; `left_out` calls have values that no type covers.

    `prompts` are those published, by language; where there is none it is made (`translate.py`).
    """

    task_id: str
    name: str
    text: str = field(repr=False)
    parameters: tuple[Parameter, ...]
    returns: Type
    calls: tuple[Call, ...] = field(repr=False)
    solution: str = field(repr=False)
    left_out: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict, repr=False)


def list_problems(suite: str) -> list[str]:
    """Name the problems that a suite asks, from `problems.toml`."""
    text = resources.files("codegemma.evals.babelcode").joinpath("problems.toml").read_text(encoding="utf-8")
    row = tomllib.loads(text)[suite]
    numbers = row.get("only") or range(row["first"], row["last"] + 1)
    return [f"{row['prefix']}{number}" for number in sorted(set(numbers) - set(row.get("without", ())))]


def read_humaneval_source(row: Mapping[str, Any]) -> Source:
    """Read a row of HumanEval; its text is the docstring of the function that is asked for."""
    name = str(row["entry_point"])
    solution = str(row["prompt"]) + str(row["canonical_solution"])
    text = _find_docstring(_find_function(parse_quietly(solution), name))
    return Source(str(row["task_id"]), solution, f"{row['test']}\ncheck({name})\n", name, text)


def read_mbpp_source(row: Mapping[str, Any]) -> Source:
    """Read a row of MBPP; the function that is asked for is the one of the solution's that a test calls first."""
    solution = str(row["code"]).replace("\r\n", "\n")
    tests = "\n".join(map(str, row["test_list"]))
    defined = {node.name for node in parse_quietly(solution).body if isinstance(node, ast.FunctionDef)}
    called = (
        n.func.id for n in ast.walk(parse_quietly(tests)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    )
    name = next((name for name in called if name in defined), "")
    # The copy of the sanitized set that is about has lost its imports.
    return Source(
        f"MBPP/{row['task_id']}", solution, f"import math\n{tests}\n", name, str(row.get("text") or row["prompt"])
    )


def ask_problems(
    sandbox: Sandbox, published: Iterable[Source], suite: str, store: Store | None = None
) -> list[Question]:
    """Make questions of a suite's problems, in its order; `store` keeps the calls, of which one problem's take seconds.

    Raises:
        InputError: not all of them are there, or a solution fails its own tests.
    """
    found = {source.task_id: source for source in published}
    wanted = list_problems(suite)
    missing = [task_id for task_id in wanted if task_id not in found]
    if missing:
        raise InputError(f"{len(missing)} of the {len(wanted)} problems of {suite} are missing, such as {missing[0]}")
    sources = [found[task_id] for task_id in wanted]
    return [make_question(*pair) for pair in zip(sources, record_calls(sandbox, sources, store=store), strict=True)]


def make_question(source: Source, calls: Sequence[Call]) -> Question:
    """Give a problem its types, by the values of its calls.

    Raises:
        InputError: no call has values of types that all languages share.
    """
    function = _find_function(parse_quietly(source.solution), source.name)
    names = [argument.arg for argument in function.args.args][: len(calls[0].arguments)]
    annotations = [*(argument.annotation for argument in function.args.args[: len(names)]), function.returns]
    kept, types = agree_on_types([_spell_mixed(call) for call in calls if len(call.arguments) == len(names)])
    if not kept:
        raise InputError(f"{source.task_id}: no call has values of types that all languages share")
    *parameters, returns = (_widen(settle(t), a) for t, a in zip(types, annotations, strict=True))
    return Question(
        source.task_id,
        source.name,
        source.text,
        tuple(map(Parameter, names, parameters)),
        returns,
        tuple(kept),
        source.solution,
        len(calls) - len(kept),
    )


def _spell_mixed(call: Call) -> Call:
    """Take a tuple of several types, which not all languages have, for a list of texts, as BabelCode does."""
    value = call.expected
    is_mixed = isinstance(value, tuple) and infer_type(value) is None
    if is_mixed and all(isinstance(item, bool | int | float | str) for item in value):
        return Call(call.arguments, [str(item) for item in value])
    return call


def agree_on_types(calls: Sequence[Call]) -> tuple[list[Call], list[Type]]:
    """Find the most calls whose values have types in common, and these types."""
    typed = [(call, [infer_type(value) for value in (*call.arguments, call.expected)]) for call in calls]
    plain = [(call, [t for t in types if t is not None]) for call, types in typed if None not in types]
    best: tuple[list[Call], list[Type]] = ([], [])
    for _, first in plain:
        kept: list[Call] = []
        agreed = first
        for call, types in plain:
            joined = [join_types(one, other) for one, other in zip(agreed, types, strict=True)]
            if None not in joined:
                kept.append(call)
                agreed = [t for t in joined if t is not None]
        if len(kept) > len(best[0]):
            best = (kept, agreed)
        if len(kept) == len(plain):
            break
    return best


def _widen(found: Type, annotation: ast.expr | None) -> Type:
    """Take a character for a string where the source says that it is one."""
    is_string = annotation is not None and any(
        isinstance(node, ast.Name) and node.id == "str" for node in ast.walk(annotation)
    )
    if found.kind == "character" and is_string:
        return Type("string")
    return Type(found.kind, tuple(_widen(item, annotation) for item in found.items))


def _find_docstring(function: ast.FunctionDef) -> str:
    """Find what describes a function; in one problem an import stands before it."""
    texts = (n.value.value for n in function.body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
    return inspect.cleandoc(next((text for text in texts if isinstance(text, str)), ""))


def _find_function(tree: ast.Module, name: str) -> ast.FunctionDef:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise ValueError(f"defines no function {name}")


_READERS = {"babelcode-humaneval": read_humaneval_source, "babelcode-mbpp": read_mbpp_source}


def read_sources(path: Path, suite: str) -> list[Source]:
    """Read a published file of gzipped JSON lines.

    Raises:
        InputError: it is not the benchmark's, or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [_READERS[suite](json.loads(line)) for line in lines if line.strip()]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, SyntaxError) as error:
        raise InputError(
            f"{path} is not the benchmark ({type(error).__name__}: {error}); wanted gzipped JSON lines as published"
        ) from error
