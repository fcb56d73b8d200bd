r"""Says where a line, a block or a scope ends in an answer.

**In**: `StopRules` with an extent; an answer, line by line.
**Out**: where it is cut, and why.
**Not**: strings and the suffix's repetition (`stops.py`).

A line is the first one that holds something. A block is the statement at the cursor with its body: it ends before the
next line that is indented no deeper, unless that line goes on with it (`else`, `}`). A scope is what encloses the
cursor: it ends at the `}` that closes it, or before the first line that is indented less. That `}` is a part of the
answer where the suffix does not hold it already.
"""

import re
from typing import NamedTuple, Protocol, runtime_checkable

from codegemma.records import Extent, StopReason, StopRules
from codegemma.text.brackets import count_open, find_closer, find_closing_brace, is_inside, measure_indent
from codegemma.text.languages import LANGUAGES
from codegemma.text.repetition import Line

_AFTER_BRACE = re.compile(r"[)\];,}]*")
_CLOSING = ")]}"


class Cut(NamedTuple):
    """Where an answer ends, and why."""

    offset: int
    reason: StopReason


@runtime_checkable
class Bounds(Protocol):
    """One extent: looks at a line when its first word is there, and when it is whole."""

    def begin_line(self, answer: str, line: Line) -> Cut | None:
        """Look at the first word of a line; `line.text` is all that may be used of it."""
        ...

    def end_line(self, answer: str, line: Line, *, is_last: bool) -> Cut | None:
        """Look at a whole line; the last one has no line end."""
        ...

    def find_doubt(self, line: Line) -> int | None:
        """Find from where on an unfinished line may be cut when it is whole."""
        ...


def find_bounds(rules: StopRules) -> Bounds:
    """Choose what watches over an extent other than `OPEN`."""
    if rules.extent is Extent.LINE:
        return _LineBounds()
    row = LANGUAGES.get(rules.language) if rules.language else None
    has_braces = row is not None and not row.is_indented
    is_block = rules.extent is Extent.BLOCK
    scope: Bounds = _BraceBounds(rules, is_block) if has_braces else _IndentBounds(rules, is_block)
    return _BlockBounds(rules, scope) if is_block else scope


class _LineBounds:
    def begin_line(self, answer: str, line: Line) -> Cut | None:  # noqa: ARG002
        return None

    def end_line(self, answer: str, line: Line, *, is_last: bool) -> Cut | None:  # noqa: ARG002
        if is_last or not line.text.strip():
            return None
        return Cut(line.start + len(line.text.rstrip("\r")), StopReason.LINE_END)

    def find_doubt(self, line: Line) -> int | None:  # noqa: ARG002
        return None


class _Level:
    """The indentation of the cursor's line, and of the answer's first line that holds something."""

    def __init__(self, prefix: str) -> None:
        self._before = prefix.rpartition("\n")[2]
        self.is_blank_before = not self._before.strip()
        self.cursor: int | None = None if self.is_blank_before else measure_indent(self._before)
        self.first: int | None = None

    def measure(self, line: Line) -> int:
        """Measure a line, and keep what the first one says."""
        if line.number == 0 and not self.is_blank_before:
            indent = measure_indent(self._before)
        else:
            indent = measure_indent((self._before if line.number == 0 else "") + line.text)
        if self.first is None:
            self.first = indent
        if self.cursor is None:
            self.cursor = indent
        return indent


class _IndentBounds:
    """A scope by indentation: its floor is that of the first line in it; around a block, that of the cursor's line."""

    def __init__(self, rules: StopRules, is_around_block: bool) -> None:
        self._rules, self._level, self._is_around_block = rules, _Level(rules.prefix), is_around_block
        self._rest = rules.suffix.partition("\n")[0]

    def begin_line(self, answer: str, line: Line) -> Cut | None:
        indent = self._level.measure(line)
        floor = max(self._level.first or 0, self._level.cursor or 0)
        if self._is_around_block:
            floor = self._level.cursor or 0
        if indent >= floor or line.number == 0 or line.text.lstrip()[0] in _CLOSING:
            return None
        if is_inside(self._rules.prefix, answer[: line.start], self._rest, self._rules.language):
            return None
        return Cut(line.content_end, StopReason.SCOPE_END)

    def end_line(self, answer: str, line: Line, *, is_last: bool) -> Cut | None:  # noqa: ARG002
        return None

    def find_doubt(self, line: Line) -> int | None:  # noqa: ARG002
        return None


class _BraceBounds:
    """A scope by braces: it ends at the first `}` that closes what is open at the cursor, or around its block."""

    def __init__(self, rules: StopRules, is_around_block: bool) -> None:
        self._prefix, self._language = rules.prefix, rules.language or ""
        self._closer = find_closer(rules.suffix, rules.language)
        self._cursor_line = rules.prefix.rpartition("\n")[2]
        self._depth = count_open(self._cursor_line, "{", "}") if is_around_block else 0

    def begin_line(self, answer: str, line: Line) -> Cut | None:
        if not line.text.lstrip().startswith("}"):
            return None
        cut = self._find(answer, line)
        # What stands after a brace of the answer's own belongs to it: wait for the line.
        return cut if cut is not None and cut.offset < line.start + len(line.text) else None

    def end_line(self, answer: str, line: Line, *, is_last: bool) -> Cut | None:  # noqa: ARG002
        return self._find(answer, line) if "}" in line.text else None

    def find_doubt(self, line: Line) -> int | None:
        offset = line.text.find("}")
        if offset < 0:
            return None
        before = line.text[:offset].rstrip()
        return line.start + len(before) if before else line.content_end

    def _find(self, answer: str, line: Line) -> Cut | None:
        end = line.start + len(line.text)
        brace = find_closing_brace(self._prefix, answer[:end], self._language, line.start, self._depth)
        if brace is None:
            return None
        before = answer[line.start : brace]
        if self._is_in_suffix(before, line):
            cut = line.start + len(before.rstrip()) if before.strip() else line.content_end
            return Cut(cut, StopReason.SCOPE_END)
        after = _AFTER_BRACE.match(answer, brace + 1, end)
        return Cut(after.end() if after else brace + 1, StopReason.SCOPE_END)

    def _is_in_suffix(self, before: str, line: Line) -> bool:
        """Say whether the suffix closes the scope: on the cursor's line, or no further to the left than it opened."""
        if self._closer is None or self._closer.is_on_first_line:
            return self._closer is not None
        stands_alone = not before.strip() and (line.number > 0 or not self._cursor_line.strip())
        own = (self._cursor_line if line.number == 0 else "") + before if stands_alone else self._cursor_line
        return self._closer.indent >= measure_indent(own + "}")


class _BlockBounds:
    """The statement at the cursor with its body, within its scope."""

    def __init__(self, rules: StopRules, scope: Bounds) -> None:
        self._rules, self._scope, self._level = rules, scope, _Level(rules.prefix)
        row = LANGUAGES.get(rules.language) if rules.language else None
        self._continuations = row.continuations if row else ()
        self._prefaces = (*row.prefaces, row.comment_sign, "/*", "*") if row else ("#",)
        self._rest = rules.suffix.partition("\n")[0]
        self._is_preface = True

    def begin_line(self, answer: str, line: Line) -> Cut | None:
        if cut := self._scope.begin_line(answer, line):
            return cut
        indent, content = self._level.measure(line), line.text.lstrip()
        if indent > (self._level.cursor or 0) or self._is_preface or line.number == 0 or self._goes_on(content):
            return None
        if is_inside(self._rules.prefix, answer[: line.start], self._rest, self._rules.language):
            return None
        return Cut(line.content_end, StopReason.BLOCK_END)

    def end_line(self, answer: str, line: Line, *, is_last: bool) -> Cut | None:
        content = line.text.strip()
        if content and not (content.startswith(self._prefaces) and self._level.is_blank_before):
            self._is_preface = False
        return self._scope.end_line(answer, line, is_last=is_last)

    def find_doubt(self, line: Line) -> int | None:
        return self._scope.find_doubt(line)

    def _goes_on(self, content: str) -> bool:
        return content[0] in ")]}{.&|?:" or content in self._continuations
