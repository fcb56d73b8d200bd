"""Mistakes of syntax are repaired with their reason, and every repair parses."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.errors import InputError
from codegemma.serve.tutor import mistakes
from codegemma.serve.tutor.mistakes import correct_syntax
from codegemma.text.python_source import parse_quietly

REPAIRS = [
    ("def f(x)\n    return x", "def f(x):\n    return x", "begins a block"),
    ("def f(x):\n    retrun x", "def f(x):\n    return x", "is spelled"),
    ("x = [1, 2", "x = [1, 2]", "is missing"),
    ("x = (1 + 2))", "x = (1 + 2)", "was not opened"),
    ("if x == 1:\nprint(x)", "if x == 1:\n    print(x)", "is indented"),
    ("print 'a'", "print('a')", "is a function"),
    ("if x = 1:\n    y = 2", "if x == 1:\n    y = 2", "compares"),
    ("def f(a b):\n    return a", "def f(a, b):\n    return a", "commas"),
    ("for i in range(3) {\n    x++;\n}", "for i in range(3):\n    x += 1;\n", "no `{`"),
    ("def g():\n    return 'abc", "def g():\n    return 'abc'", "ends with"),
    ("while True\n    break # x", "while True:\n    break # x", "begins a block"),
    ("if a:\n    b()\nelse if c:\n    d()", "if a:\n    b()\nelif c:\n    d()", "elif"),
]


@pytest.mark.parametrize(("wrong", "right", "reason"), REPAIRS)
def test_a_mistake_is_repaired_with_its_reason(wrong, right, reason):
    found = correct_syntax(wrong)
    assert found.text == right
    assert any(reason in mistake.reason for mistake in found.mistakes)


@given(st.text("def f(x):\n ret+[]{}'\"=1if", max_size=60))
def test_whatever_is_typed_ends_and_what_is_called_repaired_parses(text):
    found = correct_syntax(text)
    if found.text is not None:
        ast.parse(found.text)
    assert found.mistakes or found.text == text


def test_what_is_missing_in_other_languages_is_told():
    found = correct_syntax("function f(a {\n  return a;\n}\n", "js")
    assert found.text is None
    assert found.mistakes[0].line == 1
    assert correct_syntax("int main() { return 0; }", "c").mistakes == ()


def test_what_is_not_parsed_here_is_refused():
    with pytest.raises(InputError, match="parsed here are"):
        correct_syntax("x", "cobol")
    with pytest.raises(InputError, match="at most"):
        correct_syntax("x" * 20_001)


@pytest.mark.parametrize(
    "text", ["x = " + "whlie for1 " * 400, "a" * 19_000 + "\n= 1\n", ("if x = (y:\n    print 'a\n" * 800)[:20_000]]
)
def test_no_text_is_parsed_without_end(text, monkeypatch):
    parsed = []

    def count(program: str) -> ast.Module:
        parsed.append(len(program))
        return parse_quietly(program)

    monkeypatch.setattr(mistakes, "parse_quietly", count)
    correct_syntax(text)
    # Besides the tries, the text itself for each mistake; an edit may add some characters.
    rounds = mistakes._MAX_MISTAKES + 1
    assert sum(parsed) <= 1.5 * (mistakes._MAX_PARSED_CHARS + rounds * (len(text) + 1))
