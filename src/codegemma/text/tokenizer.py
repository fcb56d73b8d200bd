"""Text to token ids and back, in Gemma's manner: BPE over whole text, spaces as `▁`, unknown characters as bytes.

**In**: a `tokenizer.json` of the Hugging Face `tokenizers` library (Gemma's own, or one trained here), Gemma's
`tokenizer.model`, or text.
**Out**: `Tokenizer`, whose `encode` never yields a control token, whatever the text spells.
**Not**: control tokens (inserted as ids by `infill_format`), or windows (`window`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Bool, Int32, UInt16, UInt32

from codegemma.errors import InputError
from codegemma.text.control_tokens import CONTROL_TOKENS, RESERVED_IDS, UNK_ID
from codegemma.text.sentence_piece import DECODER, read_sentence_piece

TOKENIZER_FILE = "tokenizer.json"
SENTENCE_PIECE_FILE = "tokenizer.model"
_SPACE = "▁"
# A literal ▁ would come back as a space: it is spelled in bytes instead.
_SPACE_IN_BYTES = [f"<0x{byte:02X}>" for byte in _SPACE.encode()]
_BYTE_PIECES = {f"<0x{byte:02X}>": byte for byte in range(256)}
# Characters as borders see them: each of ASCII on its own, and all others as one.
_ASCII = 128
_CHAR_CLASSES = _ASCII + 1
# Normalizers and pre-tokenizers of Gemma's tokenizers. The split at spaces finds none: they are ▁ by then.
_NORMALIZER = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_PRE_TOKENIZERS = (
    None,
    {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
)
# What would make more of a BPE model than its merges.
_OTHER_OPTIONS = ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix", "dropout")
_BPE_OPTIONS = ("unk_token", "fuse_unk", "byte_fallback", *_OTHER_OPTIONS)
# What is remembered of segments: some 30 MB at most. A longer segment hardly comes twice.
_REMEMBERED_SEGMENTS = 2**17
_REMEMBERED_CHARS = 64

_RESERVED_NAME = re.compile(r"<unused\d+>\Z")

# Words for training only: pieces of the finished vocabulary never cross these borders, so the finished tokenizer
# needs no splitting of its own, as Gemma's does not. A line break takes the indentation after it along: one token then
# carries the line's depth, which matters where a window is short.
_WORD_PATTERN = r"\n▁*|▁?[^\W\d_]+|▁?_+|\d|▁?[^\w\n▁]+|▁+"


class Tokenizer:
    """A BPE tokenizer in Gemma's layout: control tokens and reserved ids below 108, then bytes and pieces.

    >>> tokenizer = train_tokenizer(["def add(a, b):\\n    return a + b\\n"] * 9, vocab_size=400)
    >>> tokenizer.decode(tokenizer.encode("def add<|fim_middle|>"))
    'def add<|fim_middle|>'
    """

    def __init__(self, definition: dict[str, object], source: str = "tokenizer definition") -> None:
        """Build from the parsed JSON of a `tokenizer.json`; `source` names it in errors.

        A reserved piece (`<unused60>`) in the place of a control token takes its name: so Gemma's vocabulary becomes
        CodeGemma's.

        Raises:
            InputError: not a Gemma tokenizer, or something else stands where a control token belongs.
        """
        model = definition.get("model")
        if not isinstance(model, dict) or model.get("type") != "BPE" or not model.get("byte_fallback"):
            raise InputError(f"{source} is not a Gemma tokenizer: wanted a BPE model with byte fallback")
        vocab = model.get("vocab")
        if not isinstance(vocab, dict) or len(vocab) <= RESERVED_IDS or not all(type(v) is int for v in vocab.values()):
            raise InputError(f"{source} has no vocabulary of pieces and ids; copy it again from its source")
        if len(set(vocab.values())) != len(vocab) or max(vocab.values()) != len(vocab) - 1:
            raise InputError(f"{source}: ids are not 0 to {len(vocab) - 1}, each once")
        vocab = _name_control_tokens(vocab, source)
        added, texts = _divide_added_tokens(definition.get("added_tokens"), vocab, source)
        self._definition = definition = {**definition, "added_tokens": added, "model": {**model, "vocab": vocab}}
        # Gemma's has no piece for the byte 9: a tab has one of its own.
        missing = [
            p for p, byte in _BYTE_PIECES.items() if p not in vocab and not (byte < _ASCII and chr(byte) in vocab)
        ]
        if missing:
            raise InputError(f"{source} has no piece for {len(missing)} of the 256 bytes, {missing[0]} among them")
        # Without control tokens among the added nothing in a text can be recognised as one: they are no product of
        # merges. What else was added (`<table>`, runs of line breaks) is text that is never divided.
        try:
            self._backend = _build_backend(definition, texts)
        except Exception as error:  # the library raises nothing narrower
            raise InputError(
                f"{source} cannot be read as a tokenizer ({error}); copy it again from its source"
            ) from error
        # The bytes of each id; control and reserved ones have none.
        self.spelled, self._chars_of_id = _spell_pieces(vocab)
        self._space_ids = np.array([vocab[piece] for piece in _SPACE_IN_BYTES], dtype=np.int32).tobytes()
        self._ids_of_segment = _SegmentIds(self._backend)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Load a `tokenizer.json` or a SentencePiece `.model`, or the one in a model folder (`tokenizer.json` first).

        Raises:
            InputError: no such file, unreadable, or not a Gemma tokenizer.
            MissingExtraError: a `.model`, and the extra `formats` is not installed.
        """
        file = path / TOKENIZER_FILE if path.is_dir() else path
        if path.is_dir() and not file.exists() and (path / SENTENCE_PIECE_FILE).exists():
            file = path / SENTENCE_PIECE_FILE
        if file.suffix == ".model":
            return cls(read_sentence_piece(file), str(file))
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise InputError(f"no tokenizer at {file}; a model folder holds a {TOKENIZER_FILE}") from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file} cannot be read as a tokenizer ({error}); copy it again from its source"
            ) from error
        return cls.from_json(text, str(file))

    @classmethod
    def from_json(cls, text: str, source: str) -> "Tokenizer":
        """Build from the text of a `tokenizer.json`; `source` names it in errors.

        Raises:
            InputError: no JSON, or not a Gemma tokenizer.
        """
        try:
            definition = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{source} cannot be read as a tokenizer ({error}); copy it again from its source"
            ) from error
        if not isinstance(definition, dict):
            raise InputError(f"{source} is not a tokenizer: wanted a JSON object")
        return cls(definition, source)

    def save(self, path: Path) -> None:
        """Write `tokenizer.json` (into `path` if that is a folder), as transformers and others read it."""
        file = path / TOKENIZER_FILE if path.is_dir() else path
        file.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The definition as JSON text; equal tokenizers give equal text."""
        return json.dumps(self._definition, ensure_ascii=False, indent=1)

    @property
    def vocab_size(self) -> int:
        """Number of ids, control and reserved ones included."""
        return len(self.spelled)

    @cached_property
    def pieces(self) -> list[str]:
        """How each id is written in the vocabulary, in the order of ids."""
        model: Any = self._definition["model"]
        return sorted(model["vocab"], key=model["vocab"].__getitem__)

    @cached_property
    def text_tokens(self) -> frozenset[int]:
        """Ids of pieces that are found in a text before anything is merged."""
        added: Any = self._definition["added_tokens"]
        return frozenset(token["id"] for token in added if _is_text_token(token))

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """Which two pieces are joined, the first merge first."""
        model: Any = self._definition["model"]
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        return [(left, right) for left, right in pairs]

    def encode(self, text: str) -> Int32[np.ndarray, " n"]:
        """Encode text as text: no `<bos>`, no added space, and control tokens spelled in it stay text.

        What stands between two borders is encoded once and remembered: the same ids at a quarter of the cost.
        """
        parts = [self._encode_part(part) for part in text.split(_SPACE)]
        return np.frombuffer(bytearray(self._space_ids).join(parts), dtype=np.int32)

    def _encode_part(self, text: str) -> bytes:
        offsets = self.find_borders(text).tolist()
        segments = [text[start:end] for start, end in zip([0, *offsets], [*offsets, len(text)], strict=True)]
        return b"".join(map(self._ids_of_segment.__getitem__, segments))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Spell ids as UTF-8 bytes; control tokens, and ids above the vocabulary (a model's padding), spell nothing.

        A cut-off character gives a cut-off sequence.
        """
        return b"".join([self.spelled[i] for i in ids if i < len(self.spelled)])

    def decode(self, ids: Sequence[int] | Int32[np.ndarray, " n"]) -> str:
        """Spell ids as text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(int(i) for i in ids).decode("utf-8", errors="replace")

    def find_starts(self, ids: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
        """Character offset at which each id begins in the text that `ids` encode; bytes of one character share it."""
        lengths = self._chars_of_id[ids]
        ends = np.cumsum(lengths, dtype=np.int32)
        # The later bytes of a character begin where its first byte does.
        return np.where(lengths > 0, ends - lengths, ends - 1).astype(np.int32)

    @cached_property
    def _is_border(self) -> Bool[np.ndarray, " pairs"]:
        """Whether no merge and no added text joins a character of one class with one of another that follows it."""
        model: Any = self._definition["model"]
        merges = "\n".join([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
        is_known = self._definition.get("normalizer") == _NORMALIZER
        is_known &= self._definition.get("pre_tokenizer") in _PRE_TOKENIZERS
        is_known &= not any(model.get(option) for option in _OTHER_OPTIONS)
        is_known &= "<0x" not in merges  # Bytes are joined as well.
        is_border = np.full((_CHAR_CLASSES, _CHAR_CLASSES), is_known)  # Where more is at work, nothing is certain.
        codes = np.frombuffer(merges.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        joints = np.flatnonzero(codes == ord(" "))  # The one in each merge: those of its pieces are ▁.
        joined = codes[[joints - 1, joints + 1]]
        left, right = _classify_codes(np.where(joined == ord(_SPACE), np.uint32(ord(" ")), joined))
        is_border[left, right] = False
        for token_id in self.text_tokens:
            inside = _classify_chars(self.spelled[token_id].decode())
            is_border[inside[:-1], inside[1:]] = False
        return is_border.ravel()

    def find_borders(self, text: str) -> Int32[np.ndarray, " borders"]:
        """Offsets where `encode(text)` equals `encode(text[:o])` then `encode(text[o:])`, for certain.

        Nothing in the vocabulary joins the two characters around such an offset. Characters that are not ASCII count
        as one, so that few borders are reported beside them, though many would do.
        """
        classes = _classify_chars(text)
        pairs = classes[:-1] * np.uint16(_CHAR_CLASSES) + classes[1:]
        return (np.flatnonzero(self._is_border[pairs]) + 1).astype(np.int32)


class _SegmentIds(dict[str, bytes]):
    """The ids of each segment of text, as bytes of int32: encoded when first asked for, kept while there is room."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        super().__init__()
        self._backend = backend

    def __missing__(self, segment: str) -> bytes:
        ids = np.array(self._backend.encode(segment, add_special_tokens=False).ids, dtype=np.int32).tobytes()
        if len(segment) <= _REMEMBERED_CHARS:
            if len(self) >= _REMEMBERED_SEGMENTS:
                self.clear()  # what comes often is soon here again
            self[segment] = ids
        return ids


def _classify_chars(text: str) -> UInt16[np.ndarray, " chars"]:
    """Give each character its ASCII code, or one number for all others."""
    if text.isascii():
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)
    return _classify_codes(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32))


def _classify_codes(codes: UInt32[np.ndarray, " chars"]) -> UInt16[np.ndarray, " chars"]:
    classes: UInt16[np.ndarray, " chars"] = np.minimum(codes, np.uint32(_ASCII)).astype(np.uint16)
    return classes


def _name_control_tokens(vocab: Mapping[str, int], source: str) -> dict[str, int]:
    """Give reserved pieces in the places of control tokens their names."""
    names = {vocab[piece]: piece for piece in vocab if vocab[piece] in CONTROL_TOKENS}
    wrong = {
        i: name
        for i, name in CONTROL_TOKENS.items()
        if names[i] != name and (name in vocab or not _RESERVED_NAME.match(names[i]))
    }
    if wrong:
        lacks = ", ".join(f"{name} as {i} (there is {names[i]!r})" for i, name in wrong.items())
        raise InputError(f"{source} lacks the control tokens {lacks}; take the tokenizer of a CodeGemma or Gemma model")
    return {CONTROL_TOKENS.get(piece_id, piece): piece_id for piece, piece_id in vocab.items()}


def _divide_added_tokens(
    added: object, vocab: Mapping[str, int], source: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the added tokens, complete with all control tokens, and those of them that are text."""
    if not isinstance(added, list):
        raise InputError(f"{source} has no list of added_tokens; copy it again from its source")
    known: dict[int, dict[str, Any]] = {}
    for token in added:
        token_id, content = (token.get("id"), token.get("content")) if isinstance(token, dict) else (None, None)
        if type(token_id) is not int or not isinstance(content, str) or not 0 <= token_id < len(vocab):
            raise InputError(f"{source}: the added token {token!r} is outside the vocabulary; copy it again")
        if token_id >= RESERVED_IDS and vocab.get(content) != token_id:
            raise InputError(f"{source}: the added token {token!r} has another id in the vocabulary; copy it again")
        known[token_id] = {**token, "content": CONTROL_TOKENS[token_id]} if token_id in CONTROL_TOKENS else token
    complete = [*known.values(), *(_make_control(i) for i in CONTROL_TOKENS if i not in known)]
    return complete, [token for token in complete if _is_text_token(token)]


def _is_text_token(token: Mapping[str, Any]) -> bool:
    return int(token["id"]) >= RESERVED_IDS and not token.get("special")


def _make_control(token_id: int) -> dict[str, Any]:
    return {
        "id": token_id, "content": CONTROL_TOKENS[token_id], "special": True, "normalized": False,
        "single_word": False, "lstrip": False, "rstrip": False,
    }  # fmt: skip


def _build_backend(definition: Mapping[str, Any], texts: Sequence[Mapping[str, Any]]) -> tokenizers.Tokenizer:
    """Build the library's tokenizer. Vocabulary and merges go there as they are: through the text of a whole
    `tokenizer.json` Gemma's would take half as long again."""
    model = definition["model"]
    without: dict[str, Any] = {"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}
    without |= dict.fromkeys(("post_processor", "truncation", "padding"))
    backend = tokenizers.Tokenizer.from_str(json.dumps({**definition, **without}))
    merges: Any = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    options = {name: model[name] for name in _BPE_OPTIONS if model.get(name) is not None}
    backend.model = tokenizers.models.BPE(vocab=model["vocab"], merges=merges, **options)
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    added = [{name: token[name] for name in flags if name in token} for token in texts]
    backend.add_tokens([tokenizers.AddedToken(t["content"], **flag) for t, flag in zip(texts, added, strict=True)])
    return backend


def _spell_pieces(vocab: Mapping[str, int]) -> tuple[list[bytes], Int32[np.ndarray, " vocab"]]:
    """Return the bytes of each piece, in the order of ids, and how many characters begin in it. Control tokens and
    what is reserved spell nothing."""
    pieces = sorted(vocab, key=vocab.__getitem__)
    spelled = [piece.replace(_SPACE, " ").encode() for piece in pieces]
    chars = np.fromiter(map(len, pieces), dtype=np.int32, count=len(pieces))
    for piece, byte in _BYTE_PIECES.items():
        if piece in vocab:
            spelled[vocab[piece]] = bytes([byte])
            chars[vocab[piece]] = 0 if 0x80 <= byte < 0xC0 else 1
    spelled[:RESERVED_IDS], chars[:RESERVED_IDS] = [b""] * RESERVED_IDS, 0
    return spelled, chars


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a BPE tokenizer with Gemma's control ids on `texts`.

    Args:
        texts: the training corpus; consumed once.
        vocab_size: ids in all, of which 108 are reserved and 256 are bytes.

    Raises:
        InputError: `vocab_size` leaves no room for pieces.
    """
    if vocab_size < RESERVED_IDS + len(_BYTE_PIECES) + 1:
        raise InputError(f"a vocabulary of {vocab_size} is too small: {RESERVED_IDS + 256} ids are reserved or bytes")
    reserved = [CONTROL_TOKENS.get(i, f"<unused{i}>") for i in range(RESERVED_IDS)]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=CONTROL_TOKENS[UNK_ID], byte_fallback=True))
    backend.normalizer = tokenizers.normalizers.Replace(" ", _SPACE)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_WORD_PATTERN), "isolated")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=reserved + list(_BYTE_PIECES),
        # ASCII always has a piece of its own; other characters must earn one (they can always be spelled in bytes).
        initial_alphabet=[chr(code) for code in range(9, 127) if chr(code) != " "],
        limit_alphabet=160,
        show_progress=False,
    )
    backend.train_from_iterator(_without_space_mark(texts), trainer)
    definition = json.loads(backend.to_str())
    definition["pre_tokenizer"] = None
    definition["added_tokens"] = [_make_control(token_id) for token_id in CONTROL_TOKENS]
    definition["decoder"] = DECODER
    return Tokenizer(definition)


def _without_space_mark(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield text.replace(_SPACE, "")
