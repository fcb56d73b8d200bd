"""What is left out when the window is short."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.test_tokenizer import SOURCE_TEXT, small_tokenizer

from codegemma.adapt import BASES
from codegemma.errors import InputError
from codegemma.records import InfillMode, Neighbor, Request
from codegemma.text.infill_format import format_prompt
from codegemma.text.tokenizer import Tokenizer
from codegemma.text.window import fit_request, keep_end, keep_start

REQUESTS = st.builds(
    Request,
    prefix=st.lists(SOURCE_TEXT, max_size=6).map("\n".join),
    suffix=st.lists(SOURCE_TEXT, max_size=6).map("\n".join),
    path=st.sampled_from([None, "pkg/a.py"]),
    neighbors=st.lists(st.builds(Neighbor, st.just("b.py"), SOURCE_TEXT), max_size=3).map(tuple),
    mode=st.sampled_from(InfillMode),
)


def count_prompt(request: Request) -> int:
    ids = format_prompt(
        small_tokenizer(),
        prefix=request.prefix,
        suffix=request.suffix,
        mode=request.mode,
        path=request.path,
        neighbors=request.neighbors,
    )
    return len(ids)


@given(REQUESTS, st.integers(24, 300))
@settings(deadline=None)
def test_the_prompt_never_exceeds_the_budget(request, budget):
    assert count_prompt(fit_request(request, small_tokenizer(), budget)) <= budget


@given(REQUESTS, st.integers(24, 300))
@settings(deadline=None)
def test_what_is_kept_touches_the_cursor(request, budget):
    fitted = fit_request(request, small_tokenizer(), budget)
    assert request.prefix.endswith(fitted.prefix)
    assert request.suffix.startswith(fitted.suffix)
    assert request.neighbors[: len(fitted.neighbors)] == fitted.neighbors


@given(REQUESTS)
@settings(deadline=None)
def test_a_request_that_fits_is_not_touched(request):
    assert fit_request(request, small_tokenizer(), count_prompt(request) + 8) == request


def test_a_long_file_is_cut_at_whole_lines_and_fills_the_window():
    lines = [f"value_{i} = compute({i})" for i in range(400)]
    request = Request(prefix="\n".join(lines[:200]) + "\n", suffix="\n".join(lines[200:]))
    fitted = fit_request(request, small_tokenizer(), 256)
    assert fitted.prefix.startswith("value_")
    assert fitted.suffix.endswith("\n")
    assert count_prompt(fitted) > 220
    assert len(fitted.prefix) > len(fitted.suffix) > 0


def test_a_budget_without_room_is_refused():
    with pytest.raises(InputError, match="too small"):
        fit_request(Request("a", "b", path="x" * 500), small_tokenizer(), 64)


# Lines as they stand in tables of numbers and in calls: a token of the base's may hold an end of line and what follows.
LINES = st.lists(
    st.tuples(
        st.sampled_from(["", "    ", "                 ", "\t"]),
        st.sampled_from(
            ["return x", "13.2908248513211, 23.6015228251660]", "", "):", "[0]*len(miles)) + [1]*59)", "'S0'"]
        ),
    ).map("".join),
    max_size=12,
).map("\n".join)


@given(LINES, st.integers(0, 60), st.sampled_from([keep_end, keep_start]))
@settings(max_examples=400)
def test_what_is_kept_of_lines_fits(text, budget, keep):
    tokenizer = base_tokenizer()
    kept = keep(text, tokenizer, budget)
    assert len(tokenizer.encode(kept)) <= budget
    assert kept in text


@functools.cache
def base_tokenizer() -> Tokenizer:
    return Tokenizer.load(BASES / "tiny")
