"""Gemma's `tokenizer.model` as the definition that `tokenizer.json` holds.

**In**: a SentencePiece model of the BPE kind, with bytes for unknown characters and no added space: Gemma's.
**Out**: the definition: every way to divide a piece in two becomes a merge of that piece's rank, because SentencePiece
joins any two neighbours that make a piece; pieces that it never divides become added tokens.
**Not**: other SentencePiece models (unigrams, normalised text, an added space): those are refused.
"""

from pathlib import Path
from typing import Any

from codegemma.errors import InputError, MissingExtraError
from codegemma.text.control_tokens import RESERVED_IDS

_SPACE = "▁"
# How the `tokenizers` library spells ids of a Gemma tokenizer.
DECODER: dict[str, Any] = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}
_BPE = 2
# Kinds of pieces in sentencepiece_model.proto.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = range(1, 6)


def read_sentence_piece(path: Path) -> dict[str, Any]:
    """Read a `.model` file as the parsed JSON of a `tokenizer.json`.

    Raises:
        InputError: no such file, no SentencePiece model, or one that is not made as Gemma's is.
        MissingExtraError: the extra `formats` is not installed.
    """
    model = _parse(path)
    _refuse_foreign(model, path)
    vocab = {piece.piece: piece_id for piece_id, piece in enumerate(model.pieces)}
    if len(vocab) != len(model.pieces):
        raise InputError(f"{path} has a piece twice; copy it again from its source")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _list_added_tokens(model),
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": DECODER,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": next((piece.piece for piece in model.pieces if piece.type == _UNKNOWN), None),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": _list_merges(model, vocab),
        },
    }


def _parse(path: Path) -> Any:
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: needs packages that are not here ({error}); install codegemma[formats], or take tokenizer.json"
        ) from error
    try:
        return sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"no tokenizer at {path}") from error
    except (OSError, DecodeError) as error:
        raise InputError(f"{path} cannot be read as a SentencePiece model ({error}); copy it again") from error


def _refuse_foreign(model: Any, path: Path) -> None:
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    wanted = {
        "a BPE model": trainer.model_type == _BPE,
        "bytes for unknown characters": trainer.byte_fallback,
        "no added space": not normalizer.add_dummy_prefix and not trainer.treat_whitespace_as_suffix,
        "text that is not normalised": not normalizer.precompiled_charsmap and not normalizer.remove_extra_whitespaces,
        "spaces as ▁": normalizer.escape_whitespaces,
        "no unused pieces": all(piece.type != _UNUSED for piece in model.pieces[RESERVED_IDS:]),
    }
    missing = [name for name, is_so in wanted.items() if not is_so]
    if missing:
        raise InputError(f"{path} is not a Gemma tokenizer: wanted {', '.join(missing)}; take the model's own")


def _list_added_tokens(model: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": piece_id, "content": piece.piece, "special": piece.type != _USER_DEFINED,
            # Runs of the space mark stand in the text only once spaces have become marks.
            "normalized": _SPACE in piece.piece, "single_word": False, "lstrip": False, "rstrip": False,
        }
        for piece_id, piece in enumerate(model.pieces)
        if piece.type in {_UNKNOWN, _CONTROL, _USER_DEFINED}
    ]  # fmt: skip


def _list_merges(model: Any, vocab: dict[str, int]) -> list[list[str]]:
    """List the merges, best score first.

    >>> from types import SimpleNamespace as Piece
    >>> pieces = [Piece(piece=p, score=s, type=1) for p, s in [("a", 0), ("b", 0), ("ab", -2), ("aba", -3), ("ba", -1)]]
    >>> _list_merges(Piece(pieces=pieces), {piece.piece: i for i, piece in enumerate(pieces)})
    [['b', 'a'], ['a', 'b'], ['a', 'ba'], ['ab', 'a']]
    """
    normal = sorted((piece for piece in model.pieces if piece.type == _NORMAL), key=lambda piece: -piece.score)
    return [
        [left, right]
        for piece in normal
        for left, right in ((piece.piece[:at], piece.piece[at:]) for at in range(1, len(piece.piece)))
        if left in vocab and right in vocab
    ]
