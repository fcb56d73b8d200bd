import ast
import sysconfig
import tokenize
import tracemalloc
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.text import syntax
from codegemma.text.syntax import analyze_syntax, list_nodes

STDLIB = Path(sysconfig.get_path("stdlib"))
STDLIB_FILES = [STDLIB / name for name in ("argparse.py", "ast.py", "dataclasses.py", "json/decoder.py", "textwrap.py")]

# Pieces that make offsets hard: other planes, combining marks, CR LF, tabs, form feeds, NUL, a byte-order mark.
PIECES = [
    "x = f(1)",
    "def f(a):",
    "    return [a]",
    "\t",
    "\r\n",
    "\n",
    "\f",
    "\0",
    "\ufeff",
    "é",
    "漢",
    "🐍",
    "'",
    '"""',
]
PIECES += ["# c", "class A:", "(", ")", "]", "{", "}", ";", "\\", "if x: y", "\r", "@d", " ", "e\u0301"]
ANY_TEXT = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=200))


def mark_cuts(text: str) -> str:
    cuts = set(analyze_syntax(text, "python").natural_cuts.tolist())
    return "".join(("|" if i in cuts else "") + c for i, c in enumerate(text + "\0"))[:-1]


def mark_blocks(text: str) -> str:
    starts = set(analyze_syntax(text, "python").block_starts.tolist())
    return "".join((">" if i in starts else "") + c for i, c in enumerate(text))


@pytest.mark.parametrize(
    "marked",
    [
        "x = 1|",
        "f(g(a|)|)|  # why|\n",
        "a|; b|\n",
        "if a:|\n    b|\nelse:|\n    c|\n",
        "def f(\n    a,\n|):|\n    '''doc (with a bracket)'''|\n    return a[0|]|\n",
        "x = [\n    1,  # one|\n    2,\n|]|\n",
        "f'{a|} (b)'|",
        "@d\nclass A:  # note|\n\n    pass|\n",
    ],
)
def test_suffix_starts_after_statements_headers_and_comments_and_before_closing_brackets(marked: str) -> None:
    assert mark_cuts(marked.replace("|", "")) == marked


@pytest.mark.parametrize(
    "marked",
    [
        ">import a\n>import b\n\n>def f():\n>    x = 1\n>    return x\n",
        ">@d\n@e\nclass A:\n>    a = 1\n\n>    @p\n    def f(self):\n        if self:\n            pass\n",
        ">x = 1\n\n># about f\n# more\ndef f(): return 1\n",
        ">x = '''\na\n'''; y = 2\n>z = 3\n",
        ">if a:\n>    b()\nelif c:\n>    d()\n",
        "># far from what follows\n\n>x = 1\n",
        ">def f():\n>    # about x\n    x = 1  # not this\n>    y = 2\n",
        "\ufeff>x = 1".replace("\ufeff>", ">\ufeff"),
    ],
)
def test_blocks_start_at_statements_of_the_first_two_levels_with_their_decorators_and_comments(marked: str) -> None:
    assert mark_blocks(marked.replace(">", "")) == marked


@given(ANY_TEXT)
def test_offsets_are_sorted_characters_inside_the_text(text: str) -> None:
    result = analyze_syntax(text, "python")
    for offsets in (result.natural_cuts, result.block_starts):
        assert offsets.dtype == np.int32
        assert np.all(np.diff(offsets) > 0)
        assert all(0 <= offset <= len(text) for offset in offsets)
    assert 0.0 <= result.error_share <= 1.0


@given(ANY_TEXT)
def test_no_cut_separates_a_line_from_its_end(text: str) -> None:
    for cut in analyze_syntax(text, "python").natural_cuts:
        assert text[cut - 1 : cut] != "\n" or cut == 0 or text[cut] in ")]}"
        assert text[cut - 1 : cut + 1] != "\r\n" or cut == 0


@given(ANY_TEXT)
def test_nodes_lie_in_their_parents_and_end_before_the_lines_end(text: str) -> None:
    nodes = list_nodes(text, "python").tolist()
    for row, (start, end, parent) in enumerate(nodes):
        assert 0 <= start <= end <= len(text)
        assert start == end or text[end - 1] not in "\r\n"
        assert parent < row
        if parent >= 0 and end > start:
            assert nodes[parent][0] <= start
            assert end <= nodes[parent][1]


@given(ANY_TEXT)
def test_block_starts_are_line_starts(text: str) -> None:
    for start in analyze_syntax(text, "python").block_starts:
        assert start == 0 or text[start - 1] == "\n"


@given(
    st.lists(
        st.sampled_from(["é = [1]\n", "x = '🐍漢'  # ü\n", "def f(a):\n    return (a)\n", "class A:\n    b = {}\n"])
    )
)
def test_wide_characters_shift_offsets_as_narrow_ones_do(lines: list[str]) -> None:
    wide = "".join(lines)
    narrow = wide.translate({ord(c): "e" for c in "é🐍漢ü"})
    assert len(wide) == len(narrow)
    left, right = analyze_syntax(wide, "python"), analyze_syntax(narrow, "python")
    assert left.natural_cuts.tolist() == right.natural_cuts.tolist()
    assert left.block_starts.tolist() == right.block_starts.tolist()
    assert list_nodes(wide, "python").tolist() == list_nodes(narrow, "python").tolist()


@given(st.lists(st.sampled_from(["x = f(1)\n", "def f(a):\n    return [a]\n", "# c\n", "if a:  # b\n    c\n", "\n"])))
def test_crlf_files_have_the_cuts_of_lf_files(lines: list[str]) -> None:
    text = "".join(lines)
    lf, crlf = analyze_syntax(text, "python"), analyze_syntax(text.replace("\n", "\r\n"), "python")
    lines_before = [text[:cut].count("\n") for cut in lf.natural_cuts]
    assert crlf.natural_cuts.tolist() == (lf.natural_cuts + np.array(lines_before, int)).tolist()


@pytest.mark.parametrize("path", STDLIB_FILES, ids=lambda path: path.name)
def test_every_statement_end_and_closing_bracket_of_real_code_is_a_natural_cut(path: Path) -> None:
    """The references are CPython's own parser and tokenizer."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    result = analyze_syntax(text, "python")
    cuts = set(result.natural_cuts.tolist())
    line_starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            assert node.end_lineno is not None and node.end_col_offset is not None
            column = len(lines[node.end_lineno - 1].encode()[: node.end_col_offset].decode())
            assert line_starts[node.end_lineno - 1] + column in cuts
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.OP and token.string in ")]}":
            assert line_starts[token.start[0] - 1] + token.start[1] in cuts
    assert result.error_share == 0.0


def test_broken_text_has_the_share_of_its_bytes_in_error() -> None:
    clean = "def f(a):\n    return a\n" * 20
    broken = clean + "class :::: )( 5\n"
    assert analyze_syntax(clean, "python").error_share == 0.0
    assert 0.01 < analyze_syntax(broken, "python").error_share < 0.1
    assert analyze_syntax("(((((", "python").error_share > 0.5


def test_file_that_takes_too_many_parser_steps_gets_line_based_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x = 'é'\n\n\r\n" + " y = [1, 2, 3, 4]\n" * 100
    monkeypatch.setattr(syntax, "MAX_PARSE_REPORTS", 0)
    monkeypatch.setattr(syntax, "MAX_PARSE_REPORTS_PER_KB", 0)
    result = analyze_syntax(text, "python")
    assert result.error_share == 1.0
    assert result.natural_cuts.tolist() == [7, 8, 9, *(28 + 18 * i for i in range(100))]
    assert result.block_starts.tolist() == [0]


HOSTILE_TEXTS = {
    "nested": "(" * 10_000 + "1" + ")" * 10_000,
    "open": "(\n" * 200_000,
    "unary": "-" * 20_000 + "1",
    "nul": "\0" * 20_000,
    "quotes": "'a\n" * 5_000,
    "indents": "\n".join(" " * i + "if x:" for i in range(500)),
    "table": "x = [" + "1, " * 50_000 + "]",
    "comment without line end": "# a\n# b",
    "comments": "# a\n" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_neither_crashes_nor_hangs(text: str) -> None:
    result = analyze_syntax(text, "python")
    assert 0.0 <= result.error_share <= 1.0


@settings(max_examples=20)
@given(ANY_TEXT)
def test_equal_texts_have_equal_cuts(text: str) -> None:
    first, second = analyze_syntax(text, "python"), analyze_syntax(text, "python")
    assert first.natural_cuts.tolist() == second.natural_cuts.tolist()
    assert first.error_share == second.error_share


def test_parsing_leaves_nothing_of_the_text_in_memory() -> None:
    text = "def f(x):\n    return [x, 'é']\n\n" * 3_000
    analyze_syntax(text, "python")
    tracemalloc.start()
    try:
        analyze_syntax(text, "python")
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            analyze_syntax(text, "python")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < len(text) / 4
