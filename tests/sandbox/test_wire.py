"""Values that cross between boxes: what comes back is the same, or plain, or refused."""

import math
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.sandbox.inside.wire import MAX_MESSAGE_BYTES, WireError, decode, encode, receive, send

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**400, max_value=10**401),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.complex_numbers(),
)
KEYS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.tuples(st.integers(), st.text()))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.sets(KEYS),
        st.frozensets(KEYS),
        st.dictionaries(KEYS, inner),
    ),
    max_leaves=20,
)


def cross(value: Any) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, encode(value, refuse))
        return decode(receive(theirs), refuse)


def refuse(value: Any) -> Any:
    raise WireError(f"not plain: {value!r}")


@given(VALUES)
def test_plain_value_crosses_unchanged_with_its_types(value: object) -> None:
    assert spell(cross(value)) == spell(value)


def spell(value: object) -> str:
    """Write a value down with its types; the order of a set is nobody's promise."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(spell, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[spell(item) for item in value]}"
    if isinstance(value, dict):
        return f"dict{[(spell(k), spell(v)) for k, v in value.items()]}"
    return repr(value)


@given(st.floats(allow_nan=False))
def test_float_crosses_bit_for_bit(value: float) -> None:
    came = cross(value)
    assert came == value
    assert math.copysign(1, came) == math.copysign(1, value)


class EqualToAll(list[int]):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None

    def __iter__(self) -> Any:
        return iter([42])


def test_object_of_a_derived_class_crosses_as_the_plain_value_that_it_holds() -> None:
    came = cross(EqualToAll([1, 2]))
    assert type(came) is list
    assert came == [1, 2]


@pytest.mark.parametrize("spelled", [["o"], ["x", 1], [], {"a": 1}, ["f", "y"], ["s", [["l", []]]], ["i", None], 1.5])
def test_what_was_not_spelled_here_is_refused(spelled: object) -> None:
    with pytest.raises(WireError):
        decode(spelled, refuse)


def test_deep_nesting_is_refused_not_a_crash() -> None:
    deep: object = []
    for _ in range(100_000):
        deep = ["l", [deep]]
    with pytest.raises(WireError):
        decode(deep, refuse)


def test_message_over_the_limit_is_refused_on_both_sides() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(WireError, match="at most"):
            send(ours, "a" * (MAX_MESSAGE_BYTES + 1))
        ours.sendall((2**31).to_bytes(4, "big"))
        with pytest.raises(WireError, match="at most"):
            receive(theirs)


def test_other_side_that_leaves_in_the_middle_is_an_end_of_file() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(b"\0\0\0\x09abc")
        with pytest.raises(EOFError):
            receive(theirs)
