"""Types of values, their spelling, and how they join."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.errors import InputError
from codegemma.evals.babelcode.types import Type, infer_type, join_types, parse_type

PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
)


@given(VALUES)
def test_spelled_type_is_read_back(value: object) -> None:
    found = infer_type(value)
    if found is not None and all(inner.kind != "unknown" for inner in found.walk()):
        assert parse_type(str(found)) == found


@given(VALUES, VALUES)
def test_types_join_whichever_comes_first(one: object, other: object) -> None:
    assert join_types(infer_type(one), infer_type(other)) == join_types(infer_type(other), infer_type(one))


@given(VALUES)
def test_type_joins_with_itself(value: object) -> None:
    assert join_types(infer_type(value), infer_type(value)) == infer_type(value)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (2**31 - 1, "integer"),
        (2**31, "long"),
        (0.5, "float"),
        (0.12345678, "double"),
        ("a", "character"),
        ("", "string"),
        ("é", "string"),
        (((1, 2), (3, 4)), "list<list<integer>>"),
        ({1: "ab"}, "map<integer;string>"),
        ({"a": {1, 2}}, "map<string;set<integer>>"),
    ],
)
def test_value_has_the_narrowest_type(value: object, spelled: str) -> None:
    assert str(infer_type(value)) == spelled


@pytest.mark.parametrize("value", [None, 2**63, [1, "a"], (1, "ab"), {(1, 2): 3}, b"x", 1j])
def test_value_that_no_language_shares_has_no_type(value: object) -> None:
    assert infer_type(value) is None


@pytest.mark.parametrize(
    "spelled", ["", "int", "list", "list<integer", "map<string>", "tuple<integer|string>", "list<integer>>"]
)
def test_type_of_another_spelling_is_refused(spelled: str) -> None:
    with pytest.raises(InputError, match=r"known|wanted"):
        parse_type(spelled)


def test_tuple_of_one_type_is_a_list() -> None:
    assert parse_type("tuple<tuple<integer|long>|tuple<integer|integer>>") == Type(
        "list", (Type("list", (Type("long"),)),)
    )
