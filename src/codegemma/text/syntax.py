"""Finds where a file may be cut: natural starts of a suffix, block starts, and how much of it does not parse.

**In**: the text of one file and its language, whose grammar wheel is installed.
**Out**: `Syntax`: sorted character offsets (tree-sitter counts bytes) and the share of the text that is in error.
**Not**: a choice among the cuts: that is `feed`'s. Nothing recurses and the parser's steps are counted, so a file made
to break parsers costs seconds at most; it then gets line-based cuts and counts as wholly in error.
"""

import ctypes
import functools
import importlib
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Int32, Int64
from tree_sitter import Language, Node, Parser, Tree

from codegemma.text.languages import LANGUAGES

# The parser reports every 100 of its steps. Ordinary Python takes 7 reports a kB and bracket towers 60. Steps are
# counted, not seconds, so that a file is given up on every machine or on none.
MAX_PARSE_REPORTS: Final = 1_000
MAX_PARSE_REPORTS_PER_KB: Final = 100
# One step may scan to the end of the file: Kotlin's does at every `/*` that is never closed. So reads are counted too;
# ordinary source takes a few a chunk, and Kotlin up to 57.
READ_CHUNK_BYTES: Final = 4096
MAX_READS: Final = 1_000
MAX_READS_PER_CHUNK: Final = 100

# What the grammars of our languages call a comment, an attribute that stands before its item, and a sequence of
# statements or members; each uses some of these. Where there is a `statement_list`, a `block` is only its brackets.
COMMENT_KINDS: Final = ("comment", "line_comment", "block_comment", "html_comment")
ATTRIBUTE_KINDS: Final = ("attribute_item", "decorator")
BODY_KINDS: Final = (
    "statement_list",
    "block",
    "statement_block",
    "compound_statement",
    "switch_body",
    "switch_block",
    "match_block",
    "class_body",
    "interface_body",
    "annotation_type_body",
    "enum_body",
    "enum_body_declarations",
    "enum_class_body",
    "enum_member_declaration_list",
    "enum_variant_list",
    "enumerator_list",
    "module_body",
    "constructor_body",
    "lambda_literal",
    "accessor_list",
    "declaration_list",
    "field_declaration_list",
    "import_spec_list",
    "var_spec_list",
)
# Bodies that begin with their header: `case 1:`, `when (x) {`, `interface {`, `const (`.
HEADED_KINDS: Final = (
    "case_statement",
    "switch_case",
    "switch_default",
    "switch_section",
    "switch_block_statement_group",
    "when_expression",
    "expression_switch_statement",
    "type_switch_statement",
    "select_statement",
    "expression_case",
    "type_case",
    "communication_case",
    "default_case",
    "interface_type",
    "const_declaration",
)
# Bodies without brackets of their own, whose statements stand on the level of what is around them.
CONDITIONAL_KINDS: Final = ("preproc_if", "preproc_ifdef", "preproc_elif", "preproc_elifdef", "preproc_else")
# The other side of a condition: no place to divide a file.
ALTERNATIVE_KINDS: Final = CONDITIONAL_KINDS[2:]
# The body of these is no level of its own: what a file holds begins inside.
WRAPPER_KINDS: Final = (
    "namespace_definition",
    "namespace_declaration",
    "linkage_specification",
    "internal_module",
    "mod_item",
)
CLOSING_BRACKETS: Final = (")", "]", "}")
ERROR_KIND: Final = 0xFFFF  # tree-sitter's own, the same for every grammar
BLANKS: Final = b" \t\f\v\xef\xbb\xbf"  # the last three bytes are a byte-order mark
# What separates members belongs to the one before, if it ends the line.
SEPARATOR_AT_LINE_END: Final = re.compile(rb"[ \t]{0,8}[,;:](?=[ \t]{0,8}(?:[\r\n]|//|\Z))")
HEADER_ENDS: Final = ("{", ":", "(")  # the first of these that there is
# How many children of a body are asked for its header's end.
MAX_HEADER_CHILDREN: Final = 12
# How far before a body its header's end is looked for.
MAX_HEADER_GAP_BYTES: Final = 256


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
    tree = _parse(source, language)
    if tree is None:
        cuts, starts, error_share = _line_ends(source), _unindented_lines(source), 1.0
    else:
        nodes = _find_nodes(tree, language)
        cuts = _natural_cuts(source, tree.root_node, nodes)
        starts = _block_starts(source, tree.root_node, nodes)
        error_share = _error_share(len(source), nodes)
    to_chars = _char_offsets(source, len(text))
    return Syntax(to_chars(_keep_line_ends_whole(source, cuts)), to_chars(starts), error_share)


def measure_errors(text: str, language: str) -> float:
    """Measure the share of a text that is in error, without finding its cuts.

    >>> measure_errors("x = 1", "python"), measure_errors("((((", "python") > 0.5
    (0.0, True)
    """
    source = text.encode("utf-8", errors="surrogatepass")
    tree = _parse(source, language)
    if tree is None:
        return 1.0
    return _error_share(len(source), _find_nodes(tree, language)) if tree.root_node.has_error else 0.0


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
    tree = _parse(source, language)
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


@functools.cache
def _grammar(language: str) -> Language:
    row = LANGUAGES[language]
    return Language(getattr(importlib.import_module(row.grammar_module), row.grammar_function)())


@functools.cache
def _roles(language: str) -> dict[int, str]:
    """Map the node kinds that matter to what they are to us."""
    grammar = _grammar(language)
    named = {
        kind: role
        for role, kinds in {
            "comment": COMMENT_KINDS,
            "attribute": ATTRIBUTE_KINDS,
            "body": BODY_KINDS + HEADED_KINDS + CONDITIONAL_KINDS,
            "wrapper": WRAPPER_KINDS,
        }.items()
        for kind in kinds
    }
    if grammar.id_for_node_kind("statement_list", True) is not None:
        del named["block"]
    roles = {grammar.id_for_node_kind(kind, True): role for kind, role in named.items()}
    roles |= {grammar.id_for_node_kind(bracket, False): "closing" for bracket in CLOSING_BRACKETS}
    return {kind: role for kind, role in roles.items() if kind is not None} | {ERROR_KIND: "error"}


def _find_nodes(tree: Tree, language: str) -> defaultdict[str, list[Node]]:
    """Collect the nodes that have a role, in the order of the text.

    A walk, not a query: queries take quadratic time on the long flat nodes that broken files give.
    """
    roles, may_miss = _roles(language), tree.root_node.has_error
    found: defaultdict[str, list[Node]] = defaultdict(list)
    cursor = tree.walk()
    while (node := cursor.node) is not None:
        role = roles.get(node.kind_id)
        if role is not None:
            found[role].append(node)
        if may_miss and node.is_missing:
            found["missing"].append(node)
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return found
    return found


def _parse(source: bytes, language: str) -> Tree | None:
    parser = Parser(_grammar(language))
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
        _release(returned, kept=1)  # the parser has done with what came before the last
        # A copy also of what is short: its references are all known.
        returned.append(view[start : start + READ_CHUNK_BYTES].tobytes() if reads_left >= 0 else b"")
        return returned[-1]

    try:
        tree = parser.parse(read, progress_callback=is_too_long)
    except ValueError:  # how the parser says that it was stopped
        return None
    finally:
        _release(returned, kept=0)
    return tree if reads_left >= 0 else None


def _release(returned: list[bytes], kept: int) -> None:
    """Give back the reference that py-tree-sitter (0.26.1) keeps for ever of each thing that it read.

    Without this a process grows by what it parses. A version that keeps none is left alone.
    """
    while len(returned) > kept:
        chunk = returned.pop(0)
        if len(chunk) > 1:  # Python keeps shorter ones itself
            for _ in range(sys.getrefcount(chunk) - 2):  # two are ours: the name and the argument
                ctypes.pythonapi.Py_DecRef(ctypes.py_object(chunk))


def _natural_cuts(source: bytes, root: Node, nodes: Mapping[str, list[Node]]) -> Int64[np.ndarray, " cuts"]:
    closings = [node.start_byte for node in nodes["closing"]]
    ends = [node.end_byte for node in nodes["comment"]]
    members = list(root.named_children)
    for body in nodes["body"]:
        statements, header_end = _divide_body(source, body)
        members += statements
        ends.append(header_end)
    ends += [_include_separator(source, member.end_byte) for member in members]
    # Some grammars count the line end as part of a statement or comment.
    ends = [end - 1 if source[end - 1 : end] == b"\n" else end for end in ends]
    return np.array(closings + ends, np.int64)


def _include_separator(source: bytes, end: int) -> int:
    match = SEPARATOR_AT_LINE_END.match(source, end)
    return match.end() if match else end


def _divide_body(source: bytes, body: Node) -> tuple[list[Node], int]:
    """Find the statements of a body, and the end of its header."""
    kind, start = body.type, body.start_byte
    if kind in CONDITIONAL_KINDS:  # `#ifdef NAME`, `#if CONDITION`, `#else`
        header = body.children[0 if kind == "preproc_else" else 1]
    elif kind in HEADED_KINDS:
        children = body.children[:MAX_HEADER_CHILDREN]
        ends = (child for child in children if child.type in HEADER_ENDS)
        header = min(ends, key=lambda child: HEADER_ENDS.index(child.type), default=children[0])
    else:
        is_bracketed = source.startswith((b"{", b"("), start)
        return body.named_children, start + 1 if is_bracketed else _header_gap_end(source, start)
    end = header.end_byte
    return [child for child in body.named_children if child.start_byte >= end], end


def _header_gap_end(source: bytes, body_start: int) -> int:
    # Python's body begins with its first statement, lines below the colon, and so does Go's.
    gap_start = max(body_start - MAX_HEADER_GAP_BYTES, 0)
    return gap_start + len(source[gap_start:body_start].rstrip())


def _block_starts(source: bytes, root: Node, nodes: Mapping[str, list[Node]]) -> Int64[np.ndarray, " blocks"]:
    starts_above = _starts_above(source, nodes["comment"] + nodes["attribute"])
    starts = set()
    for statements in (root.named_children, *(_divide_body(source, body)[0] for body in _outermost(nodes))):
        for statement in statements:
            line, column = _line_and_column(source, statement.start_byte)
            if source[line : line + column].strip(BLANKS) or statement.type in ALTERNATIVE_KINDS:
                continue  # something else stands before it on its line, or it belongs to the condition above
            starts.add(starts_above.get((line, column), line))
    return np.array(sorted(starts), np.int64)


def _starts_above(source: bytes, comments: list[Node]) -> dict[tuple[int, int], int]:
    """Map the line below comments or attributes that have their own lines, and its column, to the first of these."""
    starts: dict[tuple[int, int], int] = {}
    for start, end in sorted(comment.byte_range for comment in comments):
        line, column = _line_and_column(source, start)
        line_end = source.find(b"\n", end - 1)
        if line_end >= 0 and not source[line : line + column].strip(BLANKS):
            starts[line_end + 1, column] = starts.get((line, column), line)
    return starts


def _outermost(nodes: Mapping[str, list[Node]]) -> list[Node]:
    """Choose the bodies that lie in no other, but for those that are no level of their own."""
    wrapped = {body.id for wrapper in nodes["wrapper"] if (body := wrapper.child_by_field_name("body"))}
    outermost: list[Node] = []
    covered_end = 0
    for body in nodes["body"]:  # in the order of the text
        if body.start_byte >= covered_end:
            outermost.append(body)
            if body.id not in wrapped and body.type not in CONDITIONAL_KINDS:
                covered_end = body.end_byte
    return outermost


def _line_and_column(source: bytes, offset: int) -> tuple[int, int]:
    line = source.rfind(b"\n", 0, offset) + 1
    return line, offset - line


def _error_share(size_bytes: int, nodes: Mapping[str, list[Node]]) -> float:
    wrong_bytes, covered = len(nodes["missing"]), 0
    for start, end in sorted(node.byte_range for node in nodes["error"]):
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
    """Sort the cuts, and move those between CR and LF before both."""
    padded = np.frombuffer(
        b" " + source + b" ", np.uint8
    )  # padded[cut] stands before the cut, padded[cut + 1] after it
    return np.unique(cuts - ((padded[cuts] == ord("\r")) & (padded[cuts + 1] == ord("\n"))))


def _char_offsets(
    source: bytes, text_chars: int
) -> Callable[[Int64[np.ndarray, " offsets"]], Int32[np.ndarray, " offsets"]]:
    if len(source) == text_chars:
        return lambda offsets: offsets.astype(np.int32)
    begins_char = (np.frombuffer(source, np.uint8) & 0xC0) != 0x80
    chars_before = np.concatenate([[0], np.cumsum(begins_char)])
    return lambda offsets: chars_before[offsets].astype(np.int32)
