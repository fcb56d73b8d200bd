"""Tells which brackets of an answer are code, and whether the text after the cursor closes what is open there.

**In**: the text before the cursor, an answer so far, the text after the cursor, and a name of `LANGUAGES` or `None`.
**Out**: braces that are code, by tree-sitter; what is still open, and what the suffix closes, by plain reading.
**Not**: whole files. Only the end of the text before the cursor is parsed: some milliseconds.
"""

import functools
import re
from typing import NamedTuple

from codegemma.text.languages import LANGUAGES, has_grammar
from codegemma.text.syntax import parse_source

# What is parsed of the text before the cursor: a screen or two, from a line's start on.
MAX_PARSED_CHARS = 4000
_TAB_WIDTH = 4
# Nodes in which a brace is no brace.
_NO_CODE = ("string", "comment", "char", "regex", "rune", "preproc_arg", "jsx_text", "heredoc")
_LINE_COMMENTS = {"#": r"#[^\n]*", "//": r"//[^\n]*"}
_BLOCK_COMMENT = r"/\*(?s:.*?)(?:\*/|\Z)"
_LONG_QUOTES = r'"""(?s:.*?)(?P<a>"""|\Z)' + r"|'''(?s:.*?)(?P<b>'''|\Z)"
_QUOTES = r'"(?:\\.|[^"\\\n])*"'
_SINGLE_QUOTES = r"'(?:\\.|[^'\\\n])*'"
_CHARACTER = r"'(?:\\[^'\n]{1,9}|\\.|[^'\\\n])'"  # not two lifetimes of Rust
_BACKTICKS = r"`(?:\\.|[^`\\])*`"
_MATCHING = {")": "(", "]": "[", "}": "{"}


class Closer(NamedTuple):
    """The first `}` of a suffix that closes something before it: how far it is indented, and on which line."""

    indent: int
    is_on_first_line: bool


def measure_indent(line: str) -> int:
    r"""Measure the width of the white space that a line begins with.

    >>> measure_indent("  x"), measure_indent("\tx"), measure_indent("x")
    (2, 4, 0)
    """
    blank = line[: len(line) - len(line.lstrip(" \t"))]
    return len(blank.expandtabs(_TAB_WIDTH))


def find_closing_brace(prefix: str, answer: str, language: str, start: int = 0, depth: int = 0) -> int | None:
    """Find the first `}` of an answer, at `start` or after it, that closes what was opened before the cursor.

    `depth` of the innermost braces there are left to the answer to close.

    >>> find_closing_brace("if (a) { f(", "'}'); }", "javascript")
    6
    """
    for offset, sign in _find_braces(prefix, answer, language):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            if offset >= start:
                return offset
            depth = 0
    return None


def _find_braces(prefix: str, answer: str, language: str) -> list[tuple[int, str]]:
    signs = [(match.start(), match[0]) for match in re.finditer("[{}]", answer)]
    if not signs or not has_grammar(language):
        return signs
    before = prefix[-MAX_PARSED_CHARS:]
    if len(before) < len(prefix):
        before = before.partition("\n")[2] or before
    source = (before + answer).encode("utf-8", errors="surrogatepass")
    tree = parse_source(source, language)
    if tree is None:
        return signs
    found, root = [], tree.root_node
    base, read = len(before.encode("utf-8", errors="surrogatepass")), 0
    for offset, sign in signs:
        base += len(answer[read:offset].encode("utf-8", errors="surrogatepass"))
        read = offset
        node = root.descendant_for_byte_range(base, base + 1)
        # The brackets of an interpolation are no content of its string.
        if node is None or node.type == "interpolation_brace" or not any(kind in node.type for kind in _NO_CODE):
            found.append((offset, sign))
    return found


def is_inside(prefix: str, answer: str, suffix_line: str, language: str | None) -> bool:
    r"""Say whether an answer ends within a bracket that its own lines or the cursor's opened, or within a long string.

    `suffix_line` is the rest of the cursor's line: what it closes is not the answer's to close.

    >>> is_inside("x = f(", "a,\n", "", "python"), is_inside("x = f(", "a,\n", ")", "python")
    (True, False)
    >>> is_inside("s = ", '\"\"\"one\n', "", "python")
    True
    """
    line_start = prefix.rfind("\n") + 1
    text, spans = prefix + answer, []
    for match in _literals(language).finditer(text):
        if match.lastgroup and not match[match.lastgroup]:
            return True
        spans.append(match.span())
    depth = count_open(_blank(text, spans, line_start))
    return depth > len(re.match(r"\s*([)\]}]*)", suffix_line)[1])  # type: ignore[index]  # it matches anything


def _blank(text: str, spans: list[tuple[int, int]], start: int) -> str:
    """Return the text from `start` on without its literals."""
    parts = []
    for span_start, span_end in spans:
        if span_end > start:
            parts.append(text[start : max(span_start, start)])
            start = span_end
    return "".join([*parts, text[start:]])


def count_open(code: str, opening: str = "([{", closing: str = ")]}") -> int:
    """Count the brackets that are open at the end; what nothing opened is closed for nothing."""
    depth = 0
    for sign in code:
        if sign in opening:
            depth += 1
        elif sign in closing:
            depth = max(depth - 1, 0)
    return depth


def is_balanced(text: str) -> bool:
    """Say whether every bracket closes the last one that is open, and quotes come in pairs.

    >>> is_balanced("f(a[0])"), is_balanced("f(a"), is_balanced("a)("), is_balanced('"a')
    (True, False, False, False)
    """
    opened: list[str] = []
    for sign in re.findall(r"[()\[\]{}]", text):
        if sign in "([{":
            opened.append(sign)
        elif not opened or opened.pop() != _MATCHING[sign]:
            return False
    return not opened and not text.count('"') % 2


def find_closer(suffix: str, language: str | None) -> Closer | None:
    r"""Find the first `}` of a suffix that closes something before it.

    >>> find_closer("\n    if (a) { b(); }\n  }\n}\n", "java")
    Closer(indent=2, is_on_first_line=False)
    """
    text = _literals(language).sub(lambda match: re.sub(r"[^\n]", " ", match[0]), suffix)
    depth = 0
    for match in re.finditer("[{}]", text):
        depth += 1 if match[0] == "{" else -1
        if depth < 0:
            line_start = text.rfind("\n", 0, match.start()) + 1
            return Closer(measure_indent(suffix[line_start : match.start() + 1]), line_start == 0)
    return None


@functools.cache
def _literals(language: str | None) -> re.Pattern[str]:
    """Match strings and comments, closed or cut off at the end."""
    row = LANGUAGES.get(language) if language else None
    sign = row.comment_sign if row else "#"
    parts = [_LINE_COMMENTS[sign], _LONG_QUOTES, _QUOTES]
    if sign == "//":
        parts = [_BLOCK_COMMENT, *parts]
    if row is not None and row.family == "javascript":
        parts.append(_BACKTICKS)
    parts.append(_SINGLE_QUOTES if row is None or row.family in {"javascript", "python"} else _CHARACTER)
    return re.compile("|".join(parts))
