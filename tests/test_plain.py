"""What is written down as plain data comes back as it was, or is refused."""

import json
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.recipe import from_plain, to_plain
from codegemma.records import Split


@dataclass(frozen=True)
class Inner:
    name: str
    share: float | None


@dataclass(frozen=True)
class Outer:
    count: int
    is_whole: bool
    split: Split
    how: Literal["a", "b"]
    inner: tuple[Inner, ...]
    pair: tuple[int, str]
    by_name: dict[str, Inner]


INNER = st.builds(Inner, st.text(st.characters()), st.none() | st.floats(allow_nan=False))
OUTER = st.builds(
    Outer,
    st.integers(),
    st.booleans(),
    st.sampled_from(Split),
    st.sampled_from(["a", "b"]),
    st.lists(INNER, max_size=3).map(tuple),
    st.tuples(st.integers(), st.text()),
    st.dictionaries(st.text(), INNER, max_size=3),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(outer=OUTER)
def test_plain_data_comes_back_as_it_was_lone_surrogates_too(outer: Outer) -> None:
    assert from_plain(Outer, json.loads(json.dumps(to_plain(outer)))) == outer


@given(plain=JSON, outer=OUTER, key=st.sampled_from(sorted(Outer.__dataclass_fields__)))
def test_what_does_not_fit_is_a_value_error(plain: object, outer: Outer, key: str) -> None:
    try:
        came = from_plain(Outer, {**to_plain(outer), key: plain})
    except ValueError:
        return
    assert to_plain(came) == {**to_plain(outer), key: plain}


@pytest.mark.parametrize("kind", [list[int], set, object, int | str])
def test_annotation_that_plain_data_cannot_hold_is_a_type_error(kind: object) -> None:
    with pytest.raises(TypeError, match="cannot be kept as plain data"):
        from_plain(kind, [])
