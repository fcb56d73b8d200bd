"""Explains a line, an error message and a diff by what can be computed: parsing, looking up, comparing.

**In**: a program and a line of it; the words of an error; a unified diff.
**Out**: facts, one sentence each, every one true of this very text.
**Not**: what somebody meant: that is for a model, which is asked afterwards where there is one that can talk.
"""

import ast
import builtins
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources

from codegemma.errors import InputError
from codegemma.text.python_source import parse_quietly

_ERROR = re.compile(
    r"^[ \t]*(?:Uncaught[ \t]+)?(?:[\w.]+\.)?([A-Z]\w*(?:Error|Exception|Interrupt))\b:?[ \t]*(.*)$", re.MULTILINE
)
_PLACE = re.compile(r'File "([^"]+)", line (\d{1,9})\b(?:, in (\S+))?')
_SUGGESTED = re.compile(r"Did you mean:? '?([\w.]+)'?")
_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@\s*(.*)")
_DEFINITION = re.compile(r"\s*(?:async\s+)?(?:def|class|function|fn|func)\s+(\w+)")
_MAX_CHARS = 200_000


@functools.cache
def _read_reasons() -> Mapping[str, Mapping[str, str]]:
    text = resources.files("codegemma.serve.tutor").joinpath("error_reasons.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def explain_error(message: str, code: str = "") -> list[str]:
    """Explain an error message or a whole traceback, with the line of the program where it is known.

    >>> explain_error("NameError: name 'totl' is not defined. Did you mean: 'total'?")[-1]
    'perhaps `total` was meant'
    """
    message = message[-_MAX_CHARS:]  # the error stands at its end
    errors = _ERROR.findall(message)
    if not errors:
        return []
    name, said = errors[-1]
    facts = [f"{name}: {said.strip()}" if said else name]
    places = _PLACE.findall(message)
    if places:
        _, number, function = places[-1]
        lines = code.splitlines()
        shown = f": `{lines[int(number) - 1].strip()}`" if 0 < int(number) <= len(lines) else ""
        inside = f" in {function}" if function and function != "<module>" else ""
        facts.append(f"it happened at line {number}{inside}{shown}")
    reason = _read_reasons().get(name)
    if reason is not None:
        facts += [
            f"it means that {reason['means']}",
            f"usual causes: {reason['causes']}",
            f"where to look: {reason['look']}",
        ]
    if found := _SUGGESTED.search(message):
        facts.append(f"perhaps `{found[1]}` was meant")
    return facts


def explain_line(code: str, number: int) -> list[str]:
    """Explain one line of a Python program: what its statement does, where its names come from, what it calls.

    >>> explain_line("total = 0\\nfor n in [1, 2]:\\n    total += n\\n", 3)[:2]
    ['adds to `total`: what it was, and `n`', 'this is inside a loop over `[1, 2]`: it is done once for each `n`']

    Raises:
        InputError: no such line, or a program that does not parse or is too long.
    """
    if len(code) > _MAX_CHARS:
        raise InputError(f"the program has {len(code):,} characters; at most {_MAX_CHARS:,} are explained")
    lines = code.split("\n")  # as Python counts them
    if not 1 <= number <= len(lines):
        raise InputError(f"the program has {len(lines)} lines; line {number} is none of them")
    try:
        tree = parse_quietly(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"the program does not parse ({error}); correct its syntax first") from error
    around = [node for node in ast.walk(tree) if _covers(node, number) and isinstance(node, ast.stmt)]
    statement = max(around, key=lambda node: (node.lineno, -(node.end_lineno or 0)), default=None)
    text = lines[number - 1].strip()
    if statement is None or (text[:1] in ("", "#") and not _has_inside(statement, number)):
        return ["a comment: Python does not read it" if text.startswith("#") else "an empty line, for whoever reads"]
    try:
        facts = list(_describe(statement, number))
        facts += [fact for node in reversed(around) if node is not statement for fact in _describe_around(node)]
    except RecursionError as error:
        raise InputError(f"line {number} is nested too deeply to be explained; divide it first") from error
    return facts + list(_describe_names(tree, statement, number))


def explain_diff(diff: str) -> list[str]:
    """Explain a unified diff: files, sizes, functions touched, lines that only moved or only changed their blanks.

    Raises:
        InputError: no diff, or one that is too long.
    """
    if len(diff) > _MAX_CHARS:
        raise InputError(f"the diff has {len(diff):,} characters; at most {_MAX_CHARS:,} are explained")
    files = re.split(r"(?m)^(?=diff --git |--- (?:a/|\S+\n\+\+\+ ))", diff)
    facts = [fact for file in files for fact in _describe_file(file)]
    if not facts:
        raise InputError("that is no unified diff; wanted what `git diff` prints")
    return facts


def _covers(node: ast.AST, number: int) -> bool:
    first = min(getattr(part, "lineno", 10**9) for part in (node, *getattr(node, "decorator_list", ())))
    return first <= number <= (getattr(node, "end_lineno", 0) or 0)


def _has_inside(statement: ast.stmt, number: int) -> bool:
    """Tell whether a part of a statement reaches over a line: of a text of several lines, none is a comment."""
    return any(isinstance(node, ast.expr) and _covers(node, number) for node in ast.walk(statement))


def _show(node: ast.AST, most: int = 60) -> str:
    text = ast.unparse(node).split("\n")[0]
    return f"`{text if len(text) <= most else text[: most - 1] + '…'}`"


_VERBS = {
    ast.Add: "adds to", ast.Sub: "takes away from", ast.Mult: "multiplies", ast.Div: "divides",
    ast.FloorDiv: "divides, without remainder,", ast.Mod: "takes the remainder of",
}  # fmt: skip


def _describe(node: ast.stmt, number: int) -> Iterator[str]:  # noqa: PLR0912 (one line for each statement of Python)
    match node:
        case ast.Assign(targets=targets, value=value):
            yield f"computes {_show(value)} and names it {' and '.join(_show(target) for target in targets)}"
        case ast.AnnAssign(target=target, annotation=annotation):
            yield f"names a value {_show(target)}, which is meant to be of type {_show(annotation)}"
        case ast.AugAssign(target=target, op=op, value=value):
            yield f"{_VERBS.get(type(op), 'changes')} {_show(target)}: what it was, and {_show(value)}"
        case ast.Return(value=value):
            yield f"ends the function; it gives {_show(value) if value else 'None'}"
        case ast.If(test=test):
            yield f"asks whether {_show(test)} holds; only then the indented lines below are done"
        case ast.For(target=target, iter=over):
            yield f"takes one thing after the other from {_show(over)} as {_show(target)}, and does the lines below"
        case ast.While(test=test):
            yield f"does the lines below again and again, as long as {_show(test)} holds"
        case ast.FunctionDef(name=name, args=arguments):
            given = ", ".join(a.arg for a in arguments.args) or "nothing"
            yield f"defines the function `{name}`, which gets {given}; the lines below are done when it is called"
        case ast.ClassDef(name=name):
            yield f"defines the class `{name}`: what its objects have and can do"
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            origin = f" of module `{_spell_module(node)}`" if isinstance(node, ast.ImportFrom) else ""
            yield f"makes {', '.join(f'`{n.asname or n.name}`' for n in names)}{origin} known here"
        case ast.With(items=items):
            yield f"opens {_show(items[0].context_expr)}, and closes it after the lines below, whatever happens"
        case ast.Try():
            yield "tries the lines below; if one of them raises an error, a fitting `except` goes on"
        case ast.Raise(exc=error):
            yield f"raises {_show(error) if error else 'the error again'}: nothing below is done"
        case ast.Assert(test=test):
            yield f"demands that {_show(test)} holds, and raises an AssertionError if not"
        case ast.Break():
            yield "leaves the loop at once"
        case ast.Continue():
            yield "goes on with the next round of the loop"
        case ast.Pass():
            yield "does nothing; a block must not be empty"
        case ast.Expr(value=ast.Constant(value=str())):
            yield "a docstring: it says what this is for, and is not done"
        case ast.Expr(value=value):
            yield f"does {_show(value)}; what it gives is not kept"
        case _:
            yield f"a statement of kind {type(node).__name__}"
    if isinstance(node, (ast.If, ast.For, ast.While, ast.Try)) and number > (node.body[-1].end_lineno or 0):
        yield "this line belongs to its other branch, which is done where the first one is not"


def _spell_module(node: ast.ImportFrom) -> str:
    return "." * node.level + (node.module or "")


def _describe_around(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.For(target=target, iter=over):
            yield f"this is inside a loop over {_show(over)}: it is done once for each {_show(target)}"
        case ast.While(test=test):
            yield f"this is inside a loop that goes on while {_show(test)}"
        case ast.If(test=test):
            yield f"it depends on whether {_show(test)} holds"
        case ast.FunctionDef(name=name):
            yield f"it belongs to the function `{name}`"


def _describe_names(tree: ast.Module, statement: ast.stmt, number: int) -> Iterator[str]:
    heads = [part for part in ast.iter_child_nodes(statement) if not isinstance(part, ast.stmt)]
    used = {n.id for head in heads for n in ast.walk(head) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        used.add(statement.target.id)  # it is read before it is written
    given: dict[str, list[int]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            given.setdefault(node.id, []).append(node.lineno)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            given.setdefault(node.name, []).append(node.lineno)
    for name in sorted(used):
        before = [line for line in given.get(name, ()) if line < number]
        if before:
            yield f"`{name}` got its value last at line {max(before)}"
        elif name not in given and hasattr(builtins, name):
            about = (getattr(builtins, name).__doc__ or "").strip().split("\n")[0]
            yield f"`{name}` is Python's own: {about}"


def _describe_file(text: str) -> Iterator[str]:
    name = re.search(r"(?m)^\+\+\+ (?:b/)?(\S+)", text) or re.search(r"(?m)^--- (?:a/)?(\S+)", text)
    if name is None:
        return
    added = [line[1:] for line in text.splitlines() if line.startswith("+") and not line.startswith("+++")]
    removed = [line[1:] for line in text.splitlines() if line.startswith("-") and not line.startswith("---")]
    if "--- /dev/null" in text:
        yield f"{name[1]} is new, with {len(added)} lines"
        return
    if "+++ /dev/null" in text:
        yield f"{name[1]} is removed, with {len(removed)} lines"
        return
    yield f"{name[1]}: {len(added)} lines come, {len(removed)} go"
    places = list(dict.fromkeys(found[1] for line in text.splitlines() if (found := _HUNK.match(line)) and found[1]))
    if places:
        yield f"it changes inside {', '.join(f'`{place.strip()}`' for place in places[:5])}"
    moved = {line.strip() for line in added if line.strip()} & {line.strip() for line in removed}
    if moved and len(moved) == len({line.strip() for line in added if line.strip()}):
        yield "the lines that come are those that go: they moved, or only their blanks changed"
    for kind, lines in (("gone", removed), ("new", added)):
        defined = [found[1] for line in lines if (found := _DEFINITION.match(line))]
        others = {word for line in (added if kind == "gone" else removed) for word in re.findall(r"\w+", line)}
        yield from (f"`{name}` is {kind}" for name in dict.fromkeys(defined) if name not in others)
    for old, new in zip(removed, added, strict=False):
        if "def " in old and "def " in new and old.split("(")[0] == new.split("(")[0] and old != new:
            yield f"the signature changes from `{old.strip()}` to `{new.strip()}`: its callers may have to change"
