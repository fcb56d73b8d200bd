"""Keeps a solution out of an answer: looks at every finished part of it before it is told.

**In**: parts of an answer, as they are finished; what must not be told.
**Out**: the part, or a sentence in its place.
**Not**: a proof: a model that speaks in riddles could still tell. What is caught: more code than is allowed, in fences
or bare; known statements of a solution under any names; code that passes the hidden tests, in one piece or in slices.
"""

import ast
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from codegemma.text.markdown import Place, find_fences, read_lines, split_finished
from codegemma.text.python_source import parse_python

WITHHELD = "*(Code that would give the solution away was left out here: the teacher's policy.)*\n\n"
_INLINE = re.compile(r"(`+)([^`\n]{8,400})\1")
# What a line of code looks like that stands in prose, in Python and in languages with braces.
_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|for|while|if|elif|else|return|import|from|class|try|except|with|print)\b.*[:)\]\w]\s*$"
    r"|[\w.\[\]]+\s*(?:[-+*/%|&]|//)?=\s*\S.*$|(?:function|const|let|var|public|int|void|fn|func)\s+\w+.*[{;(].*$"
    r"|[\w.]+\([^)]*\);?\s*$|[{}]\s*;?\s*$)"
)
# Prose that begins with such a word goes on with blanks and ends in a full stop.
_PROSE_END = re.compile(r"[a-z]{2,}\s+[a-z]{2,}\s+[a-z]{2,}.*[.?!]?$", re.IGNORECASE)
_TRIVIAL_NODES = 3

Examine = Callable[[str], Awaitable[bool]]


@dataclass(slots=True)
class Guard:
    """What is allowed in one answer. `told` is what was told before, and grows; `examine` says whether a program passes
    the hidden tests, where there are some."""

    max_code_lines: int
    solutions: Sequence[str] = ()
    max_share: float = 0.5
    examine: Examine | None = None
    told: list[str] = field(default_factory=list)
    lines: int = 0
    has_withheld: bool = False

    async def screen(self, part: str) -> str:
        """Return a finished part of an answer, or what stands in its place."""
        code = find_code(part)
        spans = [match[2] for match in _INLINE.finditer(part)]
        found = [line for line in code if line.strip()]
        if not found and not spans:
            return part
        is_too_long = self.lines + len(found) > self.max_code_lines
        is_known = self._tells_solution([*self.told, *found, *spans])
        if is_too_long or is_known or await self._passes(part, code, spans):
            self.has_withheld = True
            return WITHHELD
        self.lines += len(found)
        self.told += [*found, *spans]
        return part

    def _tells_solution(self, lines: Sequence[str]) -> bool:
        return any(measure_share(lines, solution) > self.max_share for solution in self.solutions)

    async def _passes(self, part: str, code: Sequence[str], spans: Sequence[str]) -> bool:
        if self.examine is None:
            return False
        programs = [block.code for block in find_fences(part)]
        programs += ["\n".join(code), "\n".join([*self.told, *code])] if code else []
        programs += [f"def solve(values):\n    return {span}" for span in spans if _is_expression(span)]
        for program in dict.fromkeys(programs):
            if "solve" in program and await self.examine(program):
                return True
        return False


async def guard_stream(pieces: AsyncGenerator[str, None], guard: Guard) -> AsyncGenerator[str, None]:
    """Pass an answer on part by part, each looked at before it is told."""
    rest = ""
    async for piece in pieces:
        finished, rest = split_finished(rest + piece)
        if finished:
            yield await guard.screen(finished)
    if rest:
        # A fence that was never closed is code all the same.
        yield await guard.screen(rest)


def find_code(part: str) -> list[str]:
    r"""Find the lines of a text that are code, fenced or bare.

    >>> find_code("Try this:\n```python\nx = 1\n```\ny = x + 1\nand see what it prints for you.")
    ['x = 1', 'y = x + 1']
    """
    code = []
    for line in read_lines(part):
        bare = line.text.rstrip("\r\n")
        is_bare_code = _CODE_LINE.match(bare) and not _PROSE_END.search(re.sub(r"\"[^\"]*\"|'[^']*'", "", bare))
        if line.place is Place.CODE or (line.place is Place.TEXT and is_bare_code):
            code.append(bare)
    return code


def measure_share(told: Sequence[str], solution: str) -> float:
    """Measure which share of a solution's telling statements was told, whatever its variables are called.

    >>> measure_share(["total = total + item", "print(1)"], "def f(v):\\n    s = s + n\\n    return s * 9 + len(v)")
    0.5
    """
    wanted = {spelled for line in solution.splitlines() if (spelled := normalize_line(line))}
    if not wanted:
        return 0.0
    given = {spelled for line in told if (spelled := normalize_line(line))}
    return len(wanted & given) / len(wanted)


def normalize_line(line: str) -> str:
    """Spell a statement without its names; nothing of one that says little, such as `else:` or `return x`.

    >>> normalize_line("count = count + 1") == normalize_line("  n = n + 1  # more"), normalize_line("return x")
    (True, '')
    """
    text = line.strip().removeprefix("elif ").strip()
    for candidate in (text, f"{text}\n    pass", f"{text}: pass"):
        tree = parse_python(candidate)
        if tree is not None:
            return _spell_tree(tree)
    return ""


def _spell_tree(tree: ast.Module) -> str:
    names: dict[str, str] = {}
    telling = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.setdefault(node.id, f"v{len(names)}") if node.id not in _BUILT_IN else node.id
        telling += isinstance(node, (ast.expr, ast.operator, ast.cmpop)) and not isinstance(node, ast.Constant)
        if isinstance(node, (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.ClassDef)):
            return ""
    return ast.dump(tree) if telling > _TRIVIAL_NODES else ""


_BUILT_IN = frozenset(
    {"len", "sum", "max", "min", "sorted", "range", "set", "dict", "list", "str", "int", "enumerate", "zip"}
)


def _is_expression(text: str) -> bool:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Name) and node.id == "values" for node in ast.walk(tree))
