"""What the published comparison refuses and the fixed one accepts, and what neither does."""

import pytest

from codegemma.evals.babelcode.compare import Scorer, UntoldError, are_equal, decode_told, read_told
from codegemma.evals.babelcode.languages import read_target
from codegemma.evals.babelcode.types import parse_type

X = '["x","61"]'


@pytest.mark.parametrize(
    ("told", "expected", "spelled", "language", "by_published", "by_fixed"),
    [
        ("3", 3, "integer", "go", True, True),
        ("3", 4, "integer", "go", False, False),
        ("true", 1, "integer", "javascript", False, False),
        ("true", 1, "integer", "python", True, True),
        ("3", 3.0, "float", "javascript", True, True),
        ('["f","0.3000001"]', 0.3, "float", "cpp", True, True),
        ('["f","0.3000001"]', 0.3, "double", "cpp", False, True),
        ('["f","0.31"]', 0.3, "float", "cpp", False, False),
        ('["l",[["f","0.30000000000000004"]]]', [0.3], "list<float>", "cpp", False, True),
        ('["t",[1,2]]', [1, 2], "list<integer>", "python", False, True),
        ('["s",[1,2]]', [1, 2], "list<integer>", "python", False, False),
        ('["n","l"]', [], "list<integer>", "go", False, True),
        ('["n","l"]', [1], "list<integer>", "go", False, False),
        ('["n","m"]', {}, "map<string;integer>", "go", False, True),
        (f'["m",[[["x","62"],2],[{X},1]]]', {"a": 1, "b": 2}, "map<string;integer>", "javascript", False, True),
        (f'["m",[[["x","62"],2],[{X},1]]]', {"a": 1, "b": 2}, "map<string;integer>", "rust", True, True),
        ('["m",[[["x","31"],2]]]', {1: 2}, "map<integer;integer>", "javascript", True, True),
        ('["m",[[["x","31"],2]]]', {1: 2}, "map<integer;integer>", "python", False, False),
        ('["m",[[1,2],[1,2]]]', {1: 2}, "map<integer;integer>", "python", False, False),
        ('["s",[2,1]]', {1, 2}, "set<integer>", "java", True, True),
        ('["r",97]', "a", "character", "go", True, True),
        (X, "a", "string", "go", True, True),
        ('["f","NaN"]', float("nan"), "float", "java", True, True),
        ("null", "", "string", "java", False, False),
        ('["o"]', [], "list<integer>", "python", None, None),
    ],
)
def test_told_value_is_compared_by_both(
    told: str, expected: object, spelled: str, language: str, by_published: bool | None, by_fixed: bool | None
) -> None:
    if by_published is None:
        with pytest.raises(UntoldError):
            decode_told(told)
        return
    found = [are_equal(decode_told(told), expected, parse_type(spelled), read_target(language), s) for s in Scorer]
    assert found == [by_published, by_fixed]


def test_only_lines_with_the_word_are_told() -> None:
    assert read_told(b"hello\nword 0 1\r\nother 1 2\nword 1 [3]\nword x 4", "word") == {0: "1", 1: "[3]"}


def test_value_told_twice_is_none() -> None:
    with pytest.raises(UntoldError, match="twice"):
        read_told(b"word 0 1\nword 0 1\n", "word")


@pytest.mark.parametrize("told", ["", "{", '["f","x"]', '["z",[]]', "[" * 100_000, '["x","6"]', "[1]", '["m",[1]]'])
def test_what_is_no_value_is_said_to_be_none(told: str) -> None:
    with pytest.raises(UntoldError):
        decode_told(told)
