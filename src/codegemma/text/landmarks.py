"""Finds in a syntax tree what a file may be cut at: closing brackets, comments, and bodies with their statements.

**In**: a tree, the source that it was parsed from, and the source's language.
**Out**: `Landmarks`: offsets in bytes.
**Not**: every node, of which there are a quarter of a million in a megabyte. A node is entered where a `}` or an error
stands in it, or where its kind holds bodies without; closing brackets and comments are looked up where their signs
stand. Nothing recurses, and no tree takes more than about linear time.
"""

import functools
import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np
from tree_sitter import Language, Node, Tree

from codegemma.text.languages import LANGUAGES

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
# What holds a body that has no `}` of its own.
HOLDER_KINDS: Final = (
    "case_clause",
    "class_definition",
    "decorated_definition",
    "elif_clause",
    "else_clause",
    "except_clause",
    "except_group_clause",
    "finally_clause",
    "for_statement",
    "function_definition",
    "if_statement",
    "import_declaration",
    "match_statement",
    "try_statement",
    "var_declaration",
    "while_statement",
    "with_statement",
)
CLOSING_BRACKETS: Final = (")", "]", "}")
ERROR_KIND: Final = 0xFFFF  # tree-sitter's own, the same for every grammar
HEADER_ENDS: Final = ("{", ":", "(")  # the first of these that there is
# How many children of a body are asked for its header's end.
MAX_HEADER_CHILDREN: Final = 12
# How far before a body its header's end is looked for.
MAX_HEADER_GAP_BYTES: Final = 256
# A look-up goes down from the root: less than a microsecond, but for trees of thousands of levels and for errors of
# thousands of tokens. There the tree is walked from end to end, which finds the same.
LOOKUPS_AT_A_TIME: Final = 32
MAX_LOOKUP_S: Final = 1e-5

Span = tuple[int, int]


@dataclass(slots=True)
class Landmarks:
    """What was found in one tree, each in no certain order; an offset may be there twice.

    `statement_ends` are of the statements and members of all bodies, `level_starts` of those of the first two levels.
    """

    closing_starts: list[int] = field(default_factory=list)
    comments: list[Span] = field(default_factory=list)
    attributes: list[Span] = field(default_factory=list)
    header_ends: list[int] = field(default_factory=list)
    statement_ends: list[int] = field(default_factory=list)
    level_starts: list[int] = field(default_factory=list)
    errors: list[Span] = field(default_factory=list)
    missing: int = 0


class _Grammar(NamedTuple):
    """What a language's grammar calls what matters to us: numbers of node kinds, and how comments begin."""

    roles: Mapping[int, str]
    closings: frozenset[int]
    comments: frozenset[int]
    alternatives: frozenset[int]
    comment_starts: tuple[bytes, ...]
    sign_table: bytes  # byte -> what it may belong to


_CLOSING_SIGN, _BODY_SIGN, _COMMENT_SIGN = 1, 2, 4

# What the children of a node are: members of a body from this offset on, if any; of one of the first two levels.
_Inside = tuple[int | None, bool]
_TOP: Final[_Inside] = (0, True)
_NO_MEMBERS: Final[_Inside] = (None, False)


@functools.cache
def load_grammar(language: str) -> Language:
    """Load the grammar of a language, a name of `LANGUAGES`, from its wheel."""
    row = LANGUAGES[language]
    return Language(getattr(importlib.import_module(row.grammar_module), row.grammar_function)())


@functools.cache
def _describe_grammar(language: str) -> _Grammar:
    grammar = load_grammar(language)

    def number(kinds: tuple[str, ...], is_named: bool = True) -> frozenset[int]:
        numbers = (grammar.id_for_node_kind(kind, is_named) for kind in kinds)
        return frozenset(number for number in numbers if number is not None)

    kinds_by_role = {
        "holder": HOLDER_KINDS,
        "attribute": ATTRIBUTE_KINDS,
        "wrapper": WRAPPER_KINDS,
        "body": BODY_KINDS,
        "headed": HEADED_KINDS,
        "conditional": CONDITIONAL_KINDS,
    }
    roles = {kind: role for role, kinds in kinds_by_role.items() for kind in number(kinds)} | {ERROR_KIND: "error"}
    if number(("statement_list",)):
        roles = {kind: role for kind, role in roles.items() if kind not in number(("block",))}
    line_comment = LANGUAGES[language].comment_sign.encode()
    comment_starts = [line_comment, b"/*"] if line_comment == b"//" else [line_comment]
    if number(("html_comment",)):
        comment_starts += [b"<!--", b"-->"]
    table = bytearray(256)
    for signs, meaning in (
        ("".join(CLOSING_BRACKETS).encode(), _CLOSING_SIGN),
        (b"}", _BODY_SIGN),
        (b"#" if number((*CONDITIONAL_KINDS, "attribute_item")) else b"", _BODY_SIGN),
        (b"@" if number(("decorator",)) else b"", _BODY_SIGN),
        (bytes(start[0] for start in comment_starts), _COMMENT_SIGN),
    ):
        for sign in signs:
            table[sign] |= meaning
    return _Grammar(
        roles=roles,
        closings=number(CLOSING_BRACKETS, is_named=False),
        comments=number(COMMENT_KINDS),
        alternatives=number(ALTERNATIVE_KINDS),
        comment_starts=tuple(comment_starts),
        sign_table=bytes(table),
    )


def find_landmarks(source: bytes, tree: Tree, language: str) -> Landmarks:
    """Find what a file may be cut at, and what of it is in error.

    >>> from tree_sitter import Parser
    >>> source = b"if a:\\n    f()  # why\\n"
    >>> found = find_landmarks(source, Parser(load_grammar("python")).parse(source), "python")
    >>> found.closing_starts, found.comments, found.header_ends, found.statement_ends, found.level_starts
    ([12], [(15, 20)], [5], [20, 13, 20], [0, 10, 15])
    """
    grammar = _describe_grammar(language)
    meanings = np.frombuffer(source.translate(grammar.sign_table), np.uint8)
    places = np.flatnonzero(meanings != 0)
    meanings = meanings[places]
    closings, bodies, comments = (
        places[meanings & meaning != 0].tolist() for meaning in (_CLOSING_SIGN, _BODY_SIGN, _COMMENT_SIGN)
    )
    search = _Search(source, tree.root_node, grammar)
    search.find_bodies(bodies)
    if not (search.look_up_closings(closings) and search.look_up_comments(comments)):
        search.walk_signs()
    return search.found


class _Clock:
    """Times look-ups; a few of them are not worth asking the system what time it is."""

    def __init__(self, lookups: int) -> None:
        self._started_s = time.thread_time() if lookups > LOOKUPS_AT_A_TIME else None

    def is_slow(self, lookups: int) -> bool:
        """Say whether so many look-ups took longer than a walk would."""
        return self._started_s is not None and time.thread_time() - self._started_s > MAX_LOOKUP_S * lookups


class _Search:
    """Looks through one tree."""

    def __init__(self, source: bytes, root: Node, grammar: _Grammar) -> None:
        self.source, self.root, self.grammar = source, root, grammar
        self.found = Landmarks()
        self._wrapped: set[int] = set()
        self._covered_end = 0  # of the last body that lies in no other: what begins before it lies deeper

    def find_bodies(self, signs: list[int]) -> None:
        """Find bodies and their members, attributes and errors; `signs` stand in every body that no holder has."""
        roles, alternatives = self.grammar.roles, self.grammar.alternatives
        is_broken = self.root.has_error
        add_end, add_start = self.found.statement_ends.append, self.found.level_starts.append
        signs.append(len(self.source) + 1)
        following = iter(signs)
        sign = next(following)
        above: list[_Inside] = []
        inside = members_from, is_level = _TOP
        if self.root.kind_id == ERROR_KIND:
            self.found.errors.append(self.root.byte_range)
        cursor = self.root.walk()
        go_down, go_on, go_up = cursor.goto_first_child, cursor.goto_next_sibling, cursor.goto_parent
        is_more = go_down()
        while is_more and (node := cursor.node) is not None:
            kind, end = node.kind_id, node.end_byte
            if members_from is not None and node.is_named and (not members_from or node.start_byte >= members_from):
                add_end(end)
                if is_level and kind not in alternatives:
                    add_start(node.start_byte)
            entered = None
            if kind in roles:
                role = roles[kind]
                entered = _NO_MEMBERS if role == "holder" else self._note(node, role, end)
            elif end > sign:
                start = node.start_byte
                while sign < start:
                    sign = next(following)
                if end > sign:
                    entered = _NO_MEMBERS
            if is_broken and node.has_error:
                entered = entered or _NO_MEMBERS
                self._note_missing(node)
            if entered is not None and go_down():
                above.append(inside)
                inside = members_from, is_level = entered
                continue
            while not (is_more := go_on()) and above:
                go_up()
                inside = members_from, is_level = above.pop()

    def _note(self, node: Node, role: str, end: int) -> _Inside:
        """Note what has a role, and say what its children are."""
        found, start, header_end = self.found, node.start_byte, 0
        if role == "body":
            found.header_ends.append(_find_gap_end(self.source, start))
        elif role in {"headed", "conditional"}:
            header_end = _find_header_end(node, role)
            found.header_ends.append(header_end)
        else:
            if role == "attribute":
                found.attributes.append((start, end))
            elif role == "error":
                found.errors.append((start, end))
            elif role == "wrapper" and (body := node.child_by_field_name("body")) is not None:
                self._wrapped.add(body.id)
            return _NO_MEMBERS
        if start < self._covered_end:
            return header_end, False
        if role != "conditional" and node.id not in self._wrapped:
            self._covered_end = end
        return header_end, True

    def _note_missing(self, node: Node) -> None:
        if node.is_missing:
            self.found.missing += 1
            if node.kind_id in self.grammar.closings:
                self.found.closing_starts.append(node.start_byte)

    def look_up_closings(self, places: list[int]) -> bool:
        """Find closing brackets among brackets of any kind; say whether that was quick enough to be finished."""
        look_up, is_closing = self.root.descendant_for_byte_range, self.grammar.closings.__contains__
        clock = _Clock(len(places))
        for start in range(0, len(places), LOOKUPS_AT_A_TIME):
            some = places[start : start + LOOKUPS_AT_A_TIME]
            nodes = map(look_up, some, [place + 1 for place in some])
            self.found.closing_starts += compress(some, map(is_closing, map(_get_kind, nodes)))
            if clock.is_slow(start + LOOKUPS_AT_A_TIME):
                return False
        return True

    def look_up_comments(self, places: list[int]) -> bool:
        """Find comments where one may begin; say whether that was quick enough to be finished."""
        starts, kinds, comments = self.grammar.comment_starts, self.grammar.comments, self.found.comments
        covered_end = lookups = 0
        clock = _Clock(len(places))
        for place in places:
            if place < covered_end or not self.source.startswith(starts, place):
                continue
            node = self.root.named_descendant_for_byte_range(place, place + 1)
            if node is not None and node.kind_id in kinds:
                comments.append(node.byte_range)
                covered_end = node.end_byte
            lookups += 1
            if not lookups % LOOKUPS_AT_A_TIME and clock.is_slow(lookups):
                return False
        return True

    def walk_signs(self) -> None:
        """Find closing brackets and comments on a walk from end to end."""
        closings, comments = self.grammar.closings, self.grammar.comments
        cursor = self.root.walk()
        while (node := cursor.node) is not None:
            if node.kind_id in closings:
                self.found.closing_starts.append(node.start_byte)
            elif node.kind_id in comments:
                self.found.comments.append(node.byte_range)
            if cursor.goto_first_child():
                continue
            while not cursor.goto_next_sibling():
                if not cursor.goto_parent():
                    return


_get_kind = attrgetter("kind_id")


def _find_header_end(body: Node, role: str) -> int:
    """Find the end of a header that is a part of its body."""
    if role == "conditional":  # `#ifdef NAME`, `#if CONDITION`, `#else`
        return body.children[0 if body.type == "preproc_else" else 1].end_byte
    children = body.children[:MAX_HEADER_CHILDREN]
    ends = (child for child in children if child.type in HEADER_ENDS)
    return min(ends, key=lambda child: HEADER_ENDS.index(child.type), default=children[0]).end_byte


def _find_gap_end(source: bytes, body_start: int) -> int:
    """Find the end of a header that stands before its body: a bracket is its last sign, if there is one."""
    if source[body_start : body_start + 1] in (b"{", b"("):
        return body_start + 1
    gap_start = max(body_start - MAX_HEADER_GAP_BYTES, 0)
    return gap_start + len(source[gap_start:body_start].rstrip())
