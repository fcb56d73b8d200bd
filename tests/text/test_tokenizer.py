"""The tokenizer: text in, the same text out, and never a control token."""

import functools
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

import codegemma.text.tokenizer as tokenizer_module
from codegemma.errors import InputError
from codegemma.text.control_tokens import CONTROL_TOKENS, RESERVED_IDS
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

# Text as it occurs and as it never should: control tokens, CRLF, tabs, NUL, astral characters, the space mark itself.
FRAGMENTS = [
    *CONTROL_TOKENS.values(),
    "def f(x):",
    "\r\n",
    "\n",
    "\t",
    "    ",
    " ",
    "\0",
    "𝒳",
    "é",
    "▁",
    "▁x",
    "<0x41>",
    "1",
    "__",
]
SOURCE_TEXT = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), max_size=24
).map("".join)


@functools.cache
def small_tokenizer() -> Tokenizer:
    source = Path(json.__file__).parent
    texts = [file.read_text(encoding="utf-8") for file in sorted(source.glob("*.py"))]
    return train_tokenizer(texts, vocab_size=1024)


@functools.cache
def gemma_tokenizer() -> Tokenizer:
    folder = os.environ.get("CODEGEMMA_TEST_DATA")
    if not folder:
        pytest.skip("CODEGEMMA_TEST_DATA is not set: the real Gemma tokenizer is not tested")
    packed = Path(folder) / "tokenizer" / "gemma_tokenizer.json.xz"
    return Tokenizer(json.loads(lzma.decompress(packed.read_bytes())), str(packed))


@pytest.mark.parametrize("load", [small_tokenizer, gemma_tokenizer])
@given(text=SOURCE_TEXT)
@settings(deadline=None)
def test_decoding_gives_back_the_exact_text(load, text):
    tokenizer = load()
    assert tokenizer.decode(tokenizer.encode(text)) == text


@functools.cache
def load_library(load: Callable[[], Tokenizer]) -> tokenizers.Tokenizer:
    definition = json.loads(load().to_json()) | {"added_tokens": []}
    return tokenizers.Tokenizer.from_str(json.dumps(definition))


@pytest.mark.parametrize("load", [small_tokenizer, gemma_tokenizer])
@given(text=SOURCE_TEXT)
@settings(deadline=None, max_examples=300)
def test_ids_are_what_the_library_makes_of_the_whole_text(load, text):
    text = text.replace("▁", "")  # which the library takes for a space
    assert load().encode(text).tolist() == load_library(load).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("load", [small_tokenizer, gemma_tokenizer])
def test_ids_of_real_code_are_what_the_library_makes_of_it_also_when_memory_is_short(load, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_REMEMBERED_SEGMENTS", 100)
    for file in sorted(Path(json.__file__).parent.parent.glob("t*.py")):
        text = file.read_text(encoding="utf-8")
        assert load().encode(text).tolist() == load_library(load).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("normalizer", {"type": "Lowercase"}),
        ("pre_tokenizer", {"type": "Digits", "individual_digits": True}),
        ("model", {"ignore_merges": True}),
        ("model", {"dropout": 0.1}),
    ],
)
def test_where_more_than_merges_is_at_work_there_are_no_borders(name, value):
    definition = json.loads(small_tokenizer().to_json())
    definition[name] = {**definition[name], **value} if name == "model" else value
    assert len(Tokenizer(definition).find_borders("def f(x):\n    return x\n")) == 0


def test_merges_written_as_text_are_read_as_those_written_as_pairs():
    definition = json.loads(small_tokenizer().to_json())
    definition["model"]["merges"] = [" ".join(merge) for merge in definition["model"]["merges"]]
    text = Path(json.__file__).read_text(encoding="utf-8")
    assert Tokenizer(definition).find_borders(text).tolist() == small_tokenizer().find_borders(text).tolist()


@pytest.mark.parametrize("load", [small_tokenizer, gemma_tokenizer])
@given(text=SOURCE_TEXT)
@settings(deadline=None)
def test_text_never_becomes_a_control_token(load, text):
    assert all(i >= RESERVED_IDS for i in load().encode(text))


@pytest.mark.parametrize("load", [small_tokenizer, gemma_tokenizer])
@given(text=SOURCE_TEXT)
@settings(deadline=None)
def test_starts_are_the_offsets_at_which_ids_begin(load, text):
    tokenizer = load()
    ids = tokenizer.encode(text)
    starts = tokenizer.find_starts(ids)
    for index, start in enumerate(starts):
        before = tokenizer.decode_bytes(ids[:index])
        assert before.decode("utf-8", errors="ignore") == text[:start]


@pytest.mark.parametrize("load", [small_tokenizer, gemma_tokenizer])
@given(text=SOURCE_TEXT)
@settings(deadline=None)
def test_encoding_may_be_split_at_every_border(load, text):
    tokenizer = load()
    whole = tokenizer.encode(text)
    for border in tokenizer.find_borders(text):
        parts = tokenizer.encode(text[:border]), tokenizer.encode(text[border:])
        assert np.array_equal(np.concatenate(parts), whole)


def test_ordinary_code_has_many_borders():
    text = Path(json.__file__).read_text(encoding="utf-8")
    assert len(small_tokenizer().find_borders(text)) > len(text) / 10


def test_saved_tokenizer_loads_equal(tmp_path):
    small_tokenizer().save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    text = "def f(x):\n\treturn 'é𝒳'\n"
    assert loaded.vocab_size == 1024
    assert np.array_equal(loaded.encode(text), small_tokenizer().encode(text))
    assert loaded.to_json() == small_tokenizer().to_json()


def test_transformers_reads_a_trained_tokenizer_alike(tmp_path):
    transformers = pytest.importorskip("transformers")
    small_tokenizer().save(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = Path(json.__file__).read_text(encoding="utf-8")
    assert theirs.encode(text, add_special_tokens=False) == small_tokenizer().encode(text).tolist()
    assert theirs.convert_tokens_to_ids("<|fim_middle|>") == 68


def test_training_is_deterministic():
    texts = ["def f(x):\n    return x\n" * 5, "class A:\n    pass\n" * 5]
    assert train_tokenizer(texts, 500).to_json() == train_tokenizer(list(texts), 500).to_json()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"model": {"type": "Unigram"}}',
        '{"model": {"type": "BPE", "vocab": {"a": 5}, "byte_fallback": true}}',
    ],
)
def test_what_is_no_tokenizer_is_refused_by_name(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_tokenizer_that_cannot_spell_every_byte_is_refused():
    definition = json.loads(small_tokenizer().to_json())
    vocab = definition["model"]["vocab"]
    vocab["two bytes"] = vocab.pop("<0x00>")
    with pytest.raises(InputError, match="no piece for 1 of the 256 bytes, <0x00> among them"):
        Tokenizer(definition)


def edit_definition(**renamed: str) -> dict[str, Any]:
    """Rename pieces of the small tokenizer: `id_67="<x>"`."""
    definition: dict[str, Any] = json.loads(small_tokenizer().to_json())
    names = {int(key.removeprefix("id_")): name for key, name in renamed.items()}
    vocab = definition["model"]["vocab"]
    definition["model"]["vocab"] = {names.get(i, piece): i for piece, i in vocab.items()}
    definition["added_tokens"] = [
        token | {"content": names.get(token["id"], token["content"])} for token in definition["added_tokens"]
    ]
    return definition


def test_tokenizer_without_control_tokens_is_refused_and_each_is_named():
    with pytest.raises(InputError, match=r"(?s)lacks.*<\|fim_prefix\|> as 67 \(there is '<s>'\).*<end_of_turn> as 107"):
        Tokenizer(edit_definition(id_67="<s>", id_107="</turn>"))


def test_reserved_piece_in_the_place_of_a_control_token_takes_its_name():
    tokenizer = Tokenizer(edit_definition(id_67="<unused260>", id_70="<unused263>"))
    assert tokenizer.to_json() == small_tokenizer().to_json()


def test_control_token_that_has_another_id_is_refused():
    with pytest.raises(InputError, match=r"lacks.*<\|fim_prefix\|> as 67"):
        Tokenizer(edit_definition(id_67="<unused260>", id_600="<|fim_prefix|>"))


def test_every_control_token_is_one_id_for_the_library_that_reads_what_we_write(tmp_path):
    definition = edit_definition(id_68="<unused261>")
    definition["added_tokens"] = definition["added_tokens"][:4]
    theirs = tokenizers.Tokenizer.from_str(Tokenizer(definition).to_json())
    for token_id, name in CONTROL_TOKENS.items():
        assert theirs.encode(f"a{name}b", add_special_tokens=False).ids[1:-1] == [token_id]


def test_added_text_is_never_divided_and_added_control_tokens_stay_text():
    definition = edit_definition(id_1000="<table>", id_1001="\n\n\n")
    made = {"<table>", "\n\n\n"}
    definition["model"]["merges"] = [m for m in definition["model"]["merges"] if set(m) <= vocab_of(definition)]
    definition["model"]["merges"] = [m for m in definition["model"]["merges"] if "".join(m) in vocab_of(definition)]
    definition["added_tokens"] += [
        {**definition["added_tokens"][0], "id": i, "content": name, "special": False}
        for i, name in ((1000, "<table>"), (1001, "\n\n\n"))
    ]
    tokenizer = Tokenizer(definition)
    assert tokenizer.text_tokens == {1000, 1001}
    assert tokenizer.encode("x<table>\n\n\n\n").tolist()[1:3] == [1000, 1001]
    assert all(i >= RESERVED_IDS for i in tokenizer.encode("".join(CONTROL_TOKENS.values()) + "".join(made)))


def vocab_of(definition: dict[str, Any]) -> set[str]:
    return set(definition["model"]["vocab"])


@pytest.mark.parametrize(
    "added",
    [
        None,
        ["<bos>"],
        [{"id": 5000, "content": "far"}],
        [{"id": -1, "content": "x"}],
        [{"id": True, "content": "x"}],
        [{"id": 600, "content": "no such piece"}],
        [{"id": 600, "content": ["x"]}],
        [{"id": 600}],
    ],
)
def test_added_tokens_that_do_not_fit_the_vocabulary_are_refused(added):
    definition = json.loads(small_tokenizer().to_json()) | {"added_tokens": added}
    with pytest.raises(InputError, match="added"):
        Tokenizer(definition)


def test_missing_tokenizer_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(InputError, match="no tokenizer at"):
        Tokenizer.load(tmp_path)


def test_vocabulary_without_room_for_pieces_is_refused():
    with pytest.raises(InputError, match="too small"):
        train_tokenizer(["x"], 300)
