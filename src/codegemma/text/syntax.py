"""Finds where a file may be cut: natural starts of a suffix, block starts, and how much of it does not parse.

**In**: the text of one file and its language, whose grammar wheel is installed.
**Out**: `Syntax`: sorted character offsets (tree-sitter counts bytes) and the share of the text that is in error.
**Not**: a choice among the cuts: that is `feed`'s. Nothing recurses and the parser's steps are counted, so a file made
to break parsers costs seconds at most; it then gets line-based cuts and counts as wholly in error.
"""

import ctypes
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from tree_sitter import Parser, Tree

from codegemma.text.landmarks import Landmarks, find_landmarks, load_grammar

# The parser reports every 100 of its steps. Ordinary Python takes 7 reports a kB and bracket towers 60. Steps are
# counted, not seconds, so that a file is given up on every machine or on none.
MAX_PARSE_REPORTS: Final = 1_000
MAX_PARSE_REPORTS_PER_KB: Final = 100
# One step may scan to the end of the file: Kotlin's does at every `/*` that is never closed. So reads are counted too;
# ordinary source takes a few a chunk, and Kotlin up to 57.
READ_CHUNK_BYTES: Final = 4096
MAX_READS: Final = 1_000
MAX_READS_PER_CHUNK: Final = 100

# The version that was seen to leak what a read returns; on another, a test tells if it still does.
_READS_LEAK: Final = version("tree-sitter") == "0.26.1"

BLANKS: Final = b" \t\f\v\xef\xbb\xbf"  # the last three bytes are a byte-order mark
# What separates members belongs to the one before, if it ends the line.
SEPARATOR_AT_LINE_END: Final = re.compile(rb"[ \t]{0,8}[,;:](?=[ \t]{0,8}(?:[\r\n]|//|\Z))")
_MAY_SEPARATE: Final = np.isin(np.arange(256), list(b" \t,;:"))  # what it begins with


@dataclass(frozen=True, slots=True)
class Syntax:
    """Where a text may be cut, in characters.

    `natural_cuts`: ends of statements, comments and block headers, and places before a closing bracket. `block_starts`:
    starts of the lines on which a top-level statement or a member of a top-level body begins, with its comments.
    """

    natural_cuts: Int32[np.ndarray, " cuts"] = field(repr=False)
    block_starts: Int32[np.ndarray, " blocks"] = field(repr=False)
    error_share: float


def analyze_syntax(text: str, language: str) -> Syntax:
    r"""Parse one file and find its cuts; `language` is a name of `LANGUAGES` whose grammar is installed.

    >>> syntax = analyze_syntax("def f(a):\n    return g(a)  # why\n\nf(1)\n", "python")
    >>> syntax.natural_cuts.tolist()  # a|) :| g(a|) )| why| f(1|) )|
    [7, 9, 24, 25, 32, 37, 38]
    >>> syntax.block_starts.tolist(), syntax.error_share
    ([0, 10, 34], 0.0)
    """
    source = text.encode("utf-8", errors="surrogatepass")
    tree = parse_source(source, language)
    if tree is None:
        cuts, starts, error_share = _line_ends(source), _unindented_lines(source), 1.0
    else:
        marks = find_landmarks(source, tree, language)
        cuts = _natural_cuts(source, marks)
        starts = _block_starts(source, marks)
        error_share = _error_share(len(source), marks)
    to_chars = _char_offsets(source, len(text))
    return Syntax(to_chars(_keep_line_ends_whole(source, cuts)), to_chars(starts), error_share)


def measure_errors(text: str, language: str) -> float:
    """Measure the share of a text that is in error, without finding its cuts.

    >>> measure_errors("x = 1", "python"), measure_errors("((((", "python") > 0.5
    (0.0, True)
    """
    source = text.encode("utf-8", errors="surrogatepass")
    tree = parse_source(source, language)
    if tree is None:
        return 1.0
    return _error_share(len(source), find_landmarks(source, tree, language)) if tree.root_node.has_error else 0.0


def analyze_document(text: str) -> Syntax:
    r"""Find the cuts of a text that is not code: the ends of lines, and the starts of paragraphs.

    >>> syntax = analyze_document("One\ntwo.\n\nThree.\n")
    >>> syntax.natural_cuts.tolist(), syntax.block_starts.tolist()
    ([3, 8, 9, 16], [0, 10])
    """
    source = text.encode("utf-8", errors="surrogatepass")
    ends = _line_ends(source)
    lines = np.concatenate([[-1], ends]) + 1
    is_blank = np.diff(lines, append=len(source) + 1) <= 1
    starts = lines[~is_blank & np.concatenate([[True], is_blank[:-1]])]
    to_chars = _char_offsets(source, len(text))
    return Syntax(to_chars(_keep_line_ends_whole(source, ends)), to_chars(starts[starts < len(source)]), 0.0)


def list_nodes(text: str, language: str) -> Int32[np.ndarray, "nodes 3"]:
    r"""List the named nodes of one file's tree, each after its parent: start, end, and the parent's row (-1: none).

    Offsets are in characters, line ends at a node's end left out. Nothing is listed where the file does not parse in
    the counted steps.

    >>> list_nodes("f(1)\n", "python").tolist()  # module, statement, call, f, (1), 1
    [[0, 4, -1], [0, 4, 0], [0, 4, 1], [0, 1, 2], [1, 4, 2], [2, 3, 4]]
    """
    source = text.encode("utf-8", errors="surrogatepass")
    tree = parse_source(source, language)
    if tree is None:
        return np.empty((0, 3), np.int32)
    spans, parents, above = [], [], [-1]
    cursor = tree.walk()
    while (node := cursor.node) is not None:
        row = above[-1]
        if node.is_named:
            start, end = node.byte_range
            while end > start and source[end - 1] in b"\r\n":
                end -= 1
            spans.append((start, end))
            parents.append(above[-1])
            row = len(spans) - 1
        if cursor.goto_first_child():
            above.append(row)
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                offsets = _char_offsets(source, len(text))(np.array(spans, np.int64))
                return np.column_stack([offsets, np.array(parents, np.int32)])
            above.pop()
    raise AssertionError("a walk ends at the root")  # pragma: no cover


def parse_source(source: bytes, language: str) -> Tree | None:
    """Parse a text in counted steps; `None` where they do not suffice."""
    parser = Parser(load_grammar(language))
    reports_left = MAX_PARSE_REPORTS + len(source) * MAX_PARSE_REPORTS_PER_KB // 1024
    reads_left = MAX_READS + len(source) * MAX_READS_PER_CHUNK // READ_CHUNK_BYTES

    def is_too_long(_offset: int, _has_error: bool) -> bool:
        nonlocal reports_left
        reports_left -= 1
        return reports_left < 0 or reads_left < 0

    view, returned = memoryview(source), list[bytes]()

    def read(start: int, _point: object) -> bytes:
        nonlocal reads_left
        reads_left -= 1
        # A copy also of what is short: its references are all known.
        returned.append(view[start : start + READ_CHUNK_BYTES].tobytes() if reads_left >= 0 else b"")
        return returned[-1]

    try:
        tree = parser.parse(read, progress_callback=is_too_long)
    except ValueError:  # how the parser says that it was stopped
        return None
    finally:
        if _READS_LEAK:
            _release(returned)
    return tree if reads_left >= 0 else None


def _release(returned: list[bytes]) -> None:
    """Give back the reference that py-tree-sitter keeps for ever of each thing that it read.

    Without this a process grows by twice what it parses. Only when the parse is over: nobody else holds one then.
    """
    while returned:
        chunk = returned.pop()
        if len(chunk) > 1:  # Python keeps shorter ones itself
            for _ in range(sys.getrefcount(chunk) - 2):  # two are ours: the name and the argument
                ctypes.pythonapi.Py_DecRef(ctypes.py_object(chunk))


def _natural_cuts(source: bytes, marks: Landmarks) -> Int64[np.ndarray, " cuts"]:
    statement_ends = _include_separators(source, np.array(marks.statement_ends, np.int64))
    others = np.array([*marks.header_ends, *(end for _, end in marks.comments)], np.int64)
    ends = np.concatenate([statement_ends, others])
    # Some grammars count the line end as part of a statement or comment.
    ends -= (_look_at(source)[ends - 1] == ord("\n")) & (ends > 0)
    return np.concatenate([ends, np.array(marks.closing_starts, np.int64)])


def _include_separators(source: bytes, ends: Int64[np.ndarray, " ends"]) -> Int64[np.ndarray, " ends"]:
    inside = np.minimum(ends, len(source) - 1)
    for number in np.flatnonzero(_MAY_SEPARATE[_look_at(source)[inside]]).tolist():
        if match := SEPARATOR_AT_LINE_END.match(source, int(ends[number])):
            ends[number] = match.end()
    return ends


def _block_starts(source: bytes, marks: Landmarks) -> Int64[np.ndarray, " blocks"]:
    starts_above = _starts_above(source, marks.comments + marks.attributes)
    starts = set()
    for start in marks.level_starts:
        line = source.rfind(b"\n", 0, start) + 1
        if not source[line:start].strip(BLANKS):  # else something stands before it on its line
            starts.add(starts_above.get((line, start - line), line))
    return np.array(sorted(starts), np.int64)


def _starts_above(source: bytes, spans: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Map the line below comments or attributes that have their own lines, and its column, to the first of these."""
    starts: dict[tuple[int, int], int] = {}
    for start, end in sorted(spans):
        line = source.rfind(b"\n", 0, start) + 1
        if source[line:start].strip(BLANKS):
            continue
        line_end = source.find(b"\n", end - 1)
        if line_end >= 0:
            starts[line_end + 1, start - line] = starts.get((line, start - line), line)
    return starts


def _error_share(size_bytes: int, marks: Landmarks) -> float:
    wrong_bytes, covered = marks.missing, 0
    for start, end in sorted(marks.errors):
        wrong_bytes += max(end - max(start, covered), 0)
        covered = max(covered, end)
    return min(wrong_bytes / size_bytes, 1.0) if wrong_bytes else 0.0


def _line_ends(source: bytes) -> Int64[np.ndarray, " lines"]:
    return np.flatnonzero(np.frombuffer(source, np.uint8) == ord("\n"))


def _unindented_lines(source: bytes) -> Int64[np.ndarray, " lines"]:
    starts = np.concatenate([[0], _line_ends(source) + 1])
    starts = starts[starts < len(source)]
    firsts = np.frombuffer(source, np.uint8)[starts]
    return starts[~np.isin(firsts, np.frombuffer(BLANKS[:4] + b"\r\n", np.uint8))]


def _keep_line_ends_whole(source: bytes, cuts: Int64[np.ndarray, " cuts"]) -> Int64[np.ndarray, " kept"]:
    """Move cuts between CR and LF before both; sort, and keep each once."""
    if b"\r\n" in source:
        padded = np.frombuffer(b" " + source + b" ", np.uint8)
        # padded[cut] stands before the cut, padded[cut + 1] after it
        cuts = cuts - ((padded[cuts] == ord("\r")) & (padded[cuts + 1] == ord("\n")))
    cuts = np.sort(cuts)
    is_first = np.ones(len(cuts), np.bool_)
    np.not_equal(cuts[1:], cuts[:-1], out=is_first[1:])
    return cuts[is_first]


def _look_at(source: bytes) -> UInt8[np.ndarray, " bytes"]:
    return np.frombuffer(source, np.uint8)


def _char_offsets(
    source: bytes, text_chars: int
) -> Callable[[Int64[np.ndarray, " offsets"]], Int32[np.ndarray, " offsets"]]:
    if len(source) == text_chars:
        return lambda offsets: offsets.astype(np.int32)
    begins_no_char = np.flatnonzero((_look_at(source) & 0xC0) == 0x80)
    return lambda offsets: (offsets - np.searchsorted(begins_no_char, offsets)).astype(np.int32)
