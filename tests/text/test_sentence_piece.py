"""A SentencePiece model gives the ids that SentencePiece gives, and those of the `tokenizer.json` made from it."""

import functools
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.test_tokenizer import FRAGMENTS, gemma_tokenizer

from codegemma.errors import InputError
from codegemma.text.control_tokens import CONTROL_TOKENS, RESERVED_IDS
from codegemma.text.tokenizer import Tokenizer

sentencepiece = pytest.importorskip("sentencepiece", reason="the extra formats is not installed: make setup-dev")

# What Gemma never divides: runs of line breaks, spaces and tabs, and tags of HTML.
TEXT_TOKENS = [
    *("\n" * n for n in range(1, 6)),
    *("▁" * n for n in range(2, 6)),
    *("\t" * n for n in range(2, 4)),
    "<table>",
    "</code>",
    "</s>",
]
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([f for f in FRAGMENTS if "▁" not in f]),
        st.sampled_from(
            [*(t for t in TEXT_TOKENS if "▁" not in t), "\n" * 12, " " * 13, "\t" * 8, "</", "a" * 20, "=="]
        ),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=9),
    ),
    max_size=24,
).map("".join)


@functools.cache
def train_model() -> bytes:
    """Train a small model in Gemma's layout: control and reserved ids, text that is never divided, bytes, pieces."""
    reserved = [CONTROL_TOKENS.get(i, f"<unused{i}>") for i in range(4, RESERVED_IDS)]
    texts = [file.read_text(encoding="utf-8") for file in sorted(Path(json.__file__).parent.glob("*.py"))]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts for line in text.splitlines()]),
        model_writer=model,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        user_defined_symbols=reserved + TEXT_TOKENS,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def edit_model(**changes: Any) -> bytes:
    """Change settings of the small model: `trainer_spec__model_type=1`."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(train_model())
    for name, value in changes.items():
        part, field = name.split("__")
        setattr(getattr(model, part), field, value)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place: Path = tmp_path_factory.mktemp("model")
    (place / "tokenizer.model").write_bytes(train_model())
    return place


@pytest.fixture(scope="module")
def small(folder) -> tuple[Any, Tokenizer]:
    return sentencepiece.SentencePieceProcessor(model_proto=train_model()), Tokenizer.load(folder)


@given(text=HOSTILE)
@settings(max_examples=300)
def test_model_file_gives_the_ids_of_sentencepiece(small, text):
    theirs, ours = small
    # Where a text spells a reserved piece, theirs takes it for one; to us it is text.
    if any(0 <= i < RESERVED_IDS for i in theirs.encode(text)):
        return
    assert ours.encode(text).tolist() == theirs.encode(text)


@given(text=HOSTILE)
@settings(max_examples=100)
def test_text_comes_back_and_never_becomes_a_control_token(small, text):
    _, ours = small
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert all(i >= RESERVED_IDS for i in ids)


def test_model_file_and_the_json_saved_from_it_are_one_tokenizer(small, tmp_path):
    _, ours = small
    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.to_json() == ours.to_json()
    text = "<table>\n\n\n\treturn [  x]  </code>"
    assert again.encode(text).tolist() == ours.encode(text).tolist()


def test_json_stands_before_the_model_file_in_a_folder(folder, small, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not looked at")
    small[1].save(tmp_path)
    assert Tokenizer.load(tmp_path).vocab_size == 900


def make_gemma_model(source: Tokenizer) -> bytes:
    """Make Gemma's vocabulary a SentencePiece model, with the kinds of pieces that its own `tokenizer.model` has."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(train_model())
    del model.pieces[:]
    made = {left + right for left, right in source.merges}
    for piece_id, piece in enumerate(source.pieces):
        is_blank = set(piece) <= {"\n"} or (len(piece) > 1 and set(piece) <= set("▁\t"))
        is_byte = piece == "\t" or piece.startswith("<0x")
        if piece_id < 4:
            kind = 2 if piece == "<unk>" else 3
        elif is_byte:
            kind = 6
        else:
            kind = 4 if piece_id < RESERVED_IDS or is_blank or (len(piece) > 1 and piece not in made) else 1
        score = -float(piece_id) if kind == 1 else 0.0
        model.pieces.add(piece="<0x09>" if piece == "\t" else piece, score=score, type=kind)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> tuple[Any, Tokenizer, Tokenizer]:
    source = gemma_tokenizer()
    path = tmp_path_factory.mktemp("gemma") / "tokenizer.model"
    path.write_bytes(make_gemma_model(source))
    return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes()), Tokenizer.load(path), source


@given(text=HOSTILE)
@settings(max_examples=300)
def test_gemma_model_gives_the_ids_of_sentencepiece_and_of_its_json(gemma, text):
    theirs, ours, from_json = gemma
    ids = ours.encode(text).tolist()
    spelled = theirs.encode(text)
    if not any(4 <= i < RESERVED_IDS for i in spelled):
        assert ids == spelled
    # This json, of an early conversion, knows no undivided text: tags, and runs longer than the longest piece.
    tags = {i for i in ours.text_tokens if from_json.pieces[i][0] in "<["}
    if tags.isdisjoint(ids) and not re.search(r"(\s)\1{31}", text):
        assert ids == from_json.encode(text).tolist()


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"trainer_spec__model_type": 1}, "a BPE model"),
        ({"trainer_spec__byte_fallback": False}, "bytes for unknown characters"),
        ({"normalizer_spec__add_dummy_prefix": True}, "no added space"),
        ({"normalizer_spec__remove_extra_whitespaces": True}, "text that is not normalised"),
        ({"normalizer_spec__precompiled_charsmap": b"map"}, "text that is not normalised"),
        ({"normalizer_spec__escape_whitespaces": False}, "spaces as ▁"),
    ],
)
def test_other_sentencepiece_models_are_refused_by_what_they_lack(changes, missing, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(edit_model(**changes))
    with pytest.raises(InputError, match=rf"tokenizer\.model is not a Gemma tokenizer: wanted .*{missing}"):
        Tokenizer.load(tmp_path)


@given(content=st.binary(max_size=200) | st.integers(0, 10_000).map(lambda end: train_model()[:end]))
@settings(max_examples=100)
def test_damaged_model_file_is_refused_by_name(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.model"):
        Tokenizer.load(path)


def test_missing_model_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer at .*other\.model"):
        Tokenizer.load(tmp_path / "other.model")
