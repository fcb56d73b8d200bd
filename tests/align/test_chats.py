"""Conversations become rows: loss on the model's turns, several to a row, beside code, resumable."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.align.chats import ChatCount, find_fault, make_pack, pack_chats, read_chat, read_chats, shorten
from codegemma.feed.choices import FeedChoices, FeedError
from codegemma.feed.loader import Loader, RowShape, hash_batch
from codegemma.feed.mixture import MixtureChoices
from codegemma.feed.trace import Part, trace_token
from codegemma.records import Pack, PackedFile, Split
from codegemma.text.chat_format import Turn, format_chat, load_turns, store_turns
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

TURNS = (Turn("user", "Double 2."), Turn("model", "4"), Turn("user", "Again."), Turn("model", "8"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["def f(s):\n    return s\n"] * 4, vocab_size=461)


def make_code(number: int) -> Pack:
    none = np.zeros(0, np.int32)
    text = f"def f{number}(s):\n    return s[{number}:]\n"
    return Pack(
        f"c{number}", "own", None, Split.TRAIN, (PackedFile("f.py", "python", text, str(number), None, none, none),)
    )


def open_mixed(tokenizer: Tokenizer, row_tokens: int = 96) -> Loader:
    chats = [make_pack([Turn("user", f"Write {n}."), Turn("model", f"{n} it is")], "chats", n) for n in range(40)]
    feed = FeedChoices(packing_bins=2, mixture=MixtureChoices(("conversation=3", "code=1")))
    return Loader([*chats, *map(make_code, range(9))], tokenizer, feed, RowShape(2, row_tokens), seed=1)


def test_only_the_models_words_and_the_end_of_its_turn_count(tokenizer: Tokenizer) -> None:
    loader = open_mixed(tokenizer)
    chat = loader.speller.spell(loader.windows[0], epoch=3)
    learned = chat.ids[chat.weights > 0]
    assert tokenizer.decode(learned[:-1]) == "0 it is"
    assert int(learned[-1]) == 107
    loader.close()


def test_in_rows_of_many_exchanges_each_answer_is_learned_and_no_question(tokenizer: Tokenizer) -> None:
    chats = [
        make_pack([turn for n in range(3) for turn in (Turn("user", f"ask {c}"), Turn("model", f"say {c}{n}"))], "c", c)
        for c in range(8)
    ]
    feed = FeedChoices(packing_bins=2, mixture=MixtureChoices(("conversation=1",)))
    loader = Loader(chats, tokenizer, feed, RowShape(1, 400), seed=1)
    batch = next(loader)
    loader.close()
    ids, weights, segments, positions = (
        array[0] for array in (batch.ids, batch.loss_weights, batch.segments, batch.positions)
    )
    assert segments.max() > 1, "several conversations lie in the row"
    for segment in range(1, segments.max() + 1):
        inside = segments == segment
        assert positions[inside].tolist() == list(range(inside.sum())), "each begins anew"
        learned = tokenizer.decode(ids[inside & (weights > 0)])
        assert learned == "".join(f"say {learned[4]}{n}" for n in range(3))


def test_conversations_share_rows_and_keep_their_share_beside_code(tokenizer: Tokenizer) -> None:
    loader = open_mixed(tokenizer, row_tokens=200)
    counts = np.zeros(2)
    segments = 0
    for _ in range(30):
        known = loader.take_known()
        counts += loader.count_tokens(known)
        segments = max(segments, int(known.batch.segments.max()))
    assert segments >= 3, "several windows lie in a row"
    assert abs(counts[0] / counts.sum() - 0.75) < 0.05
    loader.close()


def test_a_loader_of_conversations_goes_on_where_it_was(tokenizer: Tokenizer) -> None:
    loader, other = open_mixed(tokenizer), open_mixed(tokenizer)
    for _ in range(3):
        next(loader)
    other.set_state(loader.get_state())
    assert [hash_batch(next(loader)) for _ in range(3)] == [hash_batch(next(other)) for _ in range(3)]
    loader.close()
    other.close()


def test_a_conversation_longer_than_a_row_is_refused_by_name(tokenizer: Tokenizer) -> None:
    loader_packs = [make_pack([Turn("user", "x" * 200), Turn("model", "y")], "chats", 7)]
    feed = FeedChoices(mixture=MixtureChoices(("conversation=1",)))
    loader = Loader(loader_packs, tokenizer, feed, RowShape(1, 96), seed=0)
    with pytest.raises(FeedError, match=r"chats:7\.chat takes 2\d\d tokens, a row holds 96"):
        loader.speller.spell(loader.windows[0], 0)
    loader.close()


def test_a_token_of_a_turn_is_traced_to_its_conversation(tokenizer: Tokenizer) -> None:
    loader = open_mixed(tokenizer)
    known = loader.take_known()
    origins = [trace_token(loader, known, 0, token) for token in range(8)]
    chat = next(o for o in origins if o.piece is not None and o.piece.repo == "chats" and o.part is Part.WHOLE)
    assert chat.span is None
    loader.close()


def test_the_oldest_exchanges_go_first_and_the_system_turn_stays(tokenizer: Tokenizer) -> None:
    turns = (Turn("system", "Be brief."), *TURNS)
    room = len(format_chat(tokenizer, (turns[0], *TURNS[2:]))[0])
    assert shorten(turns, tokenizer, room) == ((turns[0], *TURNS[2:]), 2)
    assert shorten(turns, tokenizer, 1000) == (turns, 0)
    assert shorten(turns, tokenizer, 5) == ((), 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no json", "neither messages"),
        ('{"messages": 3}', "neither messages"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "neither messages"),
        ('{"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "x"}]}', "no text"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "do not alternate"),
        ('{"prompt": "x", "completion": " "}', "an empty turn"),
        ('{"prompt": "x", "completion": "\\ud800"}', "not UTF-8"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}', "come first"),
    ],
)  # fmt: skip
def test_a_line_that_holds_no_conversation_tells_why(line: str, reason: str) -> None:
    found = read_chat(line)
    assert isinstance(found, str)
    assert reason in found


def test_in_is_kept_and_dropped(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text(
        '{"prompt": "a", "completion": "b"}\n\nnonsense\n{"prompt": "a", "completion": "%s"}\n' % ("b" * 500)
    )
    count = ChatCount()
    packs = list(pack_chats(read_chats(file), "file", tokenizer, 96, count))
    assert (len(packs), count.kept, count.dropped.total()) == (1, 1, 2)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=4))
def test_turns_come_back_from_a_pack_as_they_were(pairs: list[tuple[str, str]]) -> None:
    turns = tuple(turn for said, answer in pairs for turn in (Turn("user", said), Turn("model", answer)))
    if find_fault(turns) is None:
        assert load_turns(store_turns(turns)) == turns
