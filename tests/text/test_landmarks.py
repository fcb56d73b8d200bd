import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.test_syntax_languages import PLAIN
from tree_sitter import Node, Parser

from codegemma.text import landmarks
from codegemma.text.landmarks import Landmarks, find_landmarks, load_grammar
from codegemma.text.languages import LANGUAGES
from codegemma.text.syntax import analyze_syntax

LINES = [
    "é {",
    "漢;",
    "#else",
    "#endif",
    "}",
    "/*",
    "// )",
    "\0",
    "`",
    "'}'",
    '"]"',
    "f(x[1])",
    "case 1:",
    "if (a) {",
    "(",
    "]",
]


@st.composite
def spoiled_sources(draw: st.DrawFn) -> tuple[str, str]:
    """Real source whose lines are shuffled, left out, and mixed with what is half of something."""
    language = draw(st.sampled_from(sorted(LANGUAGES)))
    line = st.sampled_from(PLAIN[language].split("\n")) | st.sampled_from(LINES)
    return language, "\n".join(draw(st.lists(line, max_size=30)))


def find(text: str, language: str) -> tuple[Landmarks, list[Node]]:
    """Find landmarks, and list every node of the tree as the reference."""
    source = text.encode()
    tree = Parser(load_grammar(language)).parse(source)
    nodes, left = [], [tree.root_node]
    while left:
        nodes.append(left.pop())
        left += reversed(nodes[-1].children)
    return find_landmarks(source, tree, language), nodes


@settings(deadline=None)
@given(spoiled_sources())
def test_passing_over_nodes_misses_no_closing_bracket_comment_or_error(source: tuple[str, str]) -> None:
    found, nodes = find(source[1], source[0])
    closings = {node.start_byte for node in nodes if node.type in landmarks.CLOSING_BRACKETS and not node.is_named}
    comments = {node.byte_range for node in nodes if node.type in landmarks.COMMENT_KINDS}
    assert set(found.closing_starts) == closings
    assert set(found.comments) == comments
    assert sorted(found.errors) == sorted(node.byte_range for node in nodes if node.is_error)
    assert found.missing == sum(node.is_missing for node in nodes)


@pytest.mark.parametrize("language", LANGUAGES)
def test_passing_over_nodes_misses_no_statement_of_a_body(language: str) -> None:
    found, nodes = find(PLAIN[language], language)
    bodies = set(landmarks.BODY_KINDS)
    if load_grammar(language).id_for_node_kind("statement_list", True) is not None:
        bodies.remove("block")
    ends = {child.end_byte for node in nodes if node.type in bodies for child in node.named_children}
    assert ends
    assert ends <= set(found.statement_ends)


@pytest.mark.parametrize("language", LANGUAGES)
def test_tree_in_which_look_ups_are_slow_is_walked_and_gives_the_same_cuts(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAIN[language]
    quick = analyze_syntax(text, language)
    walks: list[None] = []
    walk = landmarks._Search.walk_signs
    monkeypatch.setattr(landmarks, "LOOKUPS_AT_A_TIME", 1)
    monkeypatch.setattr(landmarks, "MAX_LOOKUP_S", -1.0)
    monkeypatch.setattr(landmarks._Search, "walk_signs", lambda search: walks.append(walk(search)))
    slow = analyze_syntax(text, language)
    assert walks
    assert np.array_equal(quick.natural_cuts, slow.natural_cuts)
    assert np.array_equal(quick.block_starts, slow.block_starts)


@pytest.mark.parametrize(
    "text", ["f(" * 20_000 + ")" * 20_000, "x = " + "-" * 20_000 + "(1)", "f(1)+" * 20_000, "}#)\n" * 20_000]
)
@pytest.mark.parametrize("language", ["python", "c", "javascript"])
def test_deep_and_broken_trees_are_looked_through_in_the_end(language: str, text: str) -> None:
    assert 0.0 <= analyze_syntax(text, language).error_share <= 1.0
