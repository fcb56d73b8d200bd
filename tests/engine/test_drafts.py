import hypothesis.strategies as st
from hypothesis import given

from codegemma.engine.drafts import Drafts

IDS = st.lists(st.integers(0, 3), max_size=30)


@given(IDS, IDS.filter(bool), IDS, st.integers(0, 9))
def test_guess_is_what_followed_the_same_tokens_before(
    lookup: list[int], prompt: list[int], written: list[int], count: int
) -> None:
    drafts = Drafts(lookup, prompt, room=40)
    drafts.add(written)
    guess = drafts.propose(count)
    assert len(guess) <= count
    if guess:
        last = [*prompt, *written][-3:]
        texts = [lookup, [*prompt, *written, *guess[:-1]]]
        assert any(text[i : i + 3 + len(guess)] == last + guess for text in texts for i in range(len(text)))


def test_nothing_is_guessed_where_too_few_tokens_agree() -> None:
    assert Drafts([], [1, 2, 9, 1, 2], room=4).propose(4) == []
    assert Drafts([], [5, 1, 2, 9, 5, 1, 2], room=4).propose(4) == [9, 5, 1, 2]
    assert Drafts([], [1, 1, 1, 1], room=4).propose(3) == [1, 1, 1]


def test_longest_agreement_is_preferred_then_the_latest() -> None:
    assert Drafts([8, 1, 2, 3, 4], [7, 1, 2, 3, 5, 8, 1, 2, 3], room=4).propose(1) == [4]
    assert Drafts([], [1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], room=4).propose(1) == [5]


def test_failures_are_followed_by_pauses_and_success_ends_them() -> None:
    drafts = Drafts([], [1, 2, 3, 4, 1, 2, 3], room=40)
    drafts.note(3, 0)
    assert [bool(drafts.propose(1)) for _ in range(4)] == [False, False, True, True]
    drafts.note(3, 0)
    assert [bool(drafts.propose(1)) for _ in range(5)] == [False] * 4 + [True]
    drafts.note(3, 2)
    assert drafts.propose(1) == [4]
