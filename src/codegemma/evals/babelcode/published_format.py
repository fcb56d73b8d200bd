"""Reads questions in BabelCode's own published format, prompts included where they are there.

**In**: JSON lines, gzipped or not: its converted questions (`schema`, `test_list`), its `testing_code.jsonl`, or
rows of the published data sets, one for each language and without a schema.
**Out**: `Question`s, in the file's order.
**Not**: its drivers and commands: a program that prints its own verdict is not run here.

JSON has texts for keys: keys of a map that has integers for keys are read as such.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegemma.errors import InputError
from codegemma.evals.babelcode.questions import Parameter, Question, agree_on_types
from codegemma.evals.babelcode.record import Call
from codegemma.evals.babelcode.types import Type, parse_type, settle

_LANGUAGES = {
    "C++": "cpp", "CSharp": "csharp", "Go": "go", "Java": "java", "Javascript": "javascript", "Kotlin": "kotlin",
    "Python": "python", "Rust": "rust",
}  # fmt: skip


def read_published_questions(path: Path) -> list[Question]:
    """Read a file; rows of one question in several languages become one.

    Raises:
        InputError: it is damaged, holds a question twice, or is of another format.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if row.get("language", "Python") in _LANGUAGES:
                group = groups.setdefault(str(row.get("qid", row.get("question_id"))), [])
                if any(other.get("language") == row.get("language") for other in group):
                    raise ValueError(f"question {row.get('qid', row.get('question_id'))} is there twice")
                group.append(row)
        return [_read_question(found) for found in groups.values()]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not BabelCode's ({type(error).__name__}: {error}); wanted JSON lines with qid, test_list and "
            "schema or arguments"
        ) from error


def _read_question(rows: Sequence[Mapping[str, Any]]) -> Question:
    row = rows[0]
    names = [p["name"] for p in row["schema"]["params"]] if "schema" in row else list(row["arguments"])
    tests = row["test_list"] if "test_list" in row else row["test_cases"]
    tests = json.loads(tests) if isinstance(tests, str) else tests
    calls = [Call(tuple(test["inputs"][name] for name in names), test["outputs"]) for test in tests]
    if "schema" in row:
        types = [parse_type(t["type"]) for t in (*row["schema"]["params"], row["schema"]["return"])]
        kept = [call for call in calls if not _has_none(call)]
    else:
        kept, types = agree_on_types([Call(tuple(map(_read_keys, c.arguments)), _read_keys(c.expected)) for c in calls])
        types = [settle(found) for found in types]
    if not kept:
        raise ValueError(f"no test of {row['qid']} has values of its types")
    kept = [Call(tuple(map(_retype, c.arguments, types)), _retype(c.expected, types[-1])) for c in kept]
    return Question(
        task_id=str(row.get("title") or row["qid"]),
        name=str(row["entry_fn_name"]),
        text=str(row.get("text") or ""),
        parameters=tuple(map(Parameter, names, types)),
        returns=types[-1],
        calls=tuple(kept),
        solution=str(row.get("solution_python") or row.get("solutions", {}).get("Python", "")),
        left_out=len(calls) - len(kept),
        prompts=_read_prompts(rows),
    )


def _read_prompts(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {
        _LANGUAGES[row["language"]]: str(row["signature_with_docstring"]).rstrip("\n") + "\n"
        for row in rows
        if row.get("signature_with_docstring")
    }


def _has_none(call: Call) -> bool:
    return any(value is None for value in (*call.arguments, call.expected))


def _retype(value: Any, found: Type) -> Any:
    """Give a map that JSON has carried the keys of its type."""
    if found.kind == "map":
        key, item = found.items
        integers = key.kind in ("integer", "long")
        return {int(k) if integers else k: _retype(v, item) for k, v in value.items()}
    if found.kind in ("list", "set"):
        return [_retype(item, found.items[0]) for item in value]
    return value


def _read_keys(value: Any) -> Any:
    """Without a schema, take keys that are all whole numbers for such."""
    if isinstance(value, list):
        return [_read_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    are_numbers = bool(value) and all(key.lstrip("-").isdecimal() for key in value)
    return {int(key) if are_numbers else key: _read_keys(item) for key, item in value.items()}
