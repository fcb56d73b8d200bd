"""What llama.cpp must know of a tokenizer, as the metadata of a GGUF file.

**In**: a `Tokenizer`.
**Out**: metadata by which llama.cpp encodes text as we do, ends where we end, and builds infill prompts.
**Not**: a literal `▁`, which llama.cpp takes for a space, and Gemma's piece `</s>`, at which it ends by its own rule.

llama.cpp encodes in SentencePiece's manner: of all neighbours that make a piece it joins those of the best score. That
equals our merges where they hold every way to make the piece (Gemma's do), and also where the piece encodes to itself:
two neighbours can only meet after every better merge inside them, so they are the parts of which our merge makes it.

It ends a generation at the ids in some slots, and at `<eos>` and `<end_of_turn>` by name. The slot for separators takes
our separator, and three slots without another effect here take the sentinels of infilling.
"""

import re

import gguf

from codegemma.errors import InputError
from codegemma.model.gguf_header import TOKENIZER_KEY
from codegemma.text.chat_format import CHAT_TEMPLATE
from codegemma.text.control_tokens import (
    BOS_ID,
    CONTROL_TOKENS,
    EOS_ID,
    FILE_SEPARATOR_ID,
    FIM_MIDDLE_ID,
    FIM_PREFIX_ID,
    FIM_SUFFIX_ID,
    PAD_ID,
    RESERVED_IDS,
    UNK_ID,
)
from codegemma.text.tokenizer import Tokenizer

_SPACE = "▁"
_BYTE_NAME = re.compile(r"<0x[0-9A-F]{2}>\Z")
# Pieces that no merge makes are joined last, if ever; text that is never divided, first.
_LAST_SCORE, _FIRST_SCORE = -1e9, 1.0
_IDS = {
    "bos": BOS_ID,
    "eos": EOS_ID,
    "unknown": UNK_ID,
    "padding": PAD_ID,
    "fim_pre": FIM_PREFIX_ID,
    "fim_mid": FIM_MIDDLE_ID,
    "fim_suf": FIM_SUFFIX_ID,
    # The slot for repositories stays empty: with it, /infill writes a project's name that nobody gave.
    "fim_sep": FILE_SEPARATOR_ID,
    # Only what ends a generation counts in these three.
    "fim_pad": FIM_PREFIX_ID,
    "eom": FIM_SUFFIX_ID,
    "eot": FIM_MIDDLE_ID,
}


def write_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Add the tokenizer's metadata; rows of the embedding above the vocabulary (Flax's padding) get names.

    Raises:
        InputError: the embedding has fewer rows than the vocabulary, or llama.cpp would encode otherwise than we do.
    """
    if vocab_size < tokenizer.vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the embedding {vocab_size} rows; "
            "take weights and tokenizer of the same model"
        )
    check_merges(tokenizer)
    padding = range(tokenizer.vocab_size, vocab_size)
    scores = [*_score_pieces(tokenizer), *(_LAST_SCORE for _ in padding)]
    kinds = [*_list_kinds(tokenizer), *(gguf.TokenType.UNUSED for _ in padding)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*tokenizer.pieces, *(f"[PAD{i}]" for i in padding)])
    writer.add_token_scores(scores)
    writer.add_token_types([int(kind) for kind in kinds])
    for slot, token_id in _IDS.items():
        writer.add_uint32(f"tokenizer.ggml.{slot}_token_id", token_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    # The key that GGUF's specification has for it: so a model folder can be made from the file again.
    writer.add_string(TOKENIZER_KEY, tokenizer.to_json())


def check_merges(tokenizer: Tokenizer) -> None:
    """Make sure that llama.cpp joins what `tokenizer` joins.

    Raises:
        InputError: it would not; the message has the piece.
    """
    known, merges = set(tokenizer.pieces), set(tokenizer.merges)
    for piece_id, piece in enumerate(tokenizer.pieces):
        ways = {(piece[:at], piece[at:]) for at in range(1, len(piece)) if piece[:at] in known and piece[at:] in known}
        if piece_id in tokenizer.text_tokens or ways <= merges:
            continue
        if ways.isdisjoint(merges) or tokenizer.encode(piece.replace(_SPACE, " ")).tolist() != [piece_id]:
            raise InputError(f"llama.cpp would join the piece {piece!r} where this tokenizer does not; train another")


def _score_pieces(tokenizer: Tokenizer) -> list[float]:
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(tokenizer.merges):
        ranks.setdefault(left + right, rank)
    return [
        _FIRST_SCORE if piece_id in tokenizer.text_tokens else -float(ranks[piece]) if piece in ranks else _LAST_SCORE
        for piece_id, piece in enumerate(tokenizer.pieces)
    ]


def _list_kinds(tokenizer: Tokenizer) -> list[gguf.TokenType]:
    return [
        _choose_kind(piece_id, piece, piece_id in tokenizer.text_tokens)
        for piece_id, piece in enumerate(tokenizer.pieces)
    ]


def _choose_kind(piece_id: int, piece: str, is_text: bool) -> gguf.TokenType:
    if piece_id == UNK_ID:
        return gguf.TokenType.UNKNOWN
    if piece_id in CONTROL_TOKENS:
        return gguf.TokenType.CONTROL
    if piece_id < RESERVED_IDS:
        return gguf.TokenType.UNUSED
    if _BYTE_NAME.match(piece):
        return gguf.TokenType.BYTE
    # Such tokens are looked for while spaces are still spaces: runs of the mark must be joined by their score.
    return gguf.TokenType.USER_DEFINED if is_text and _SPACE not in piece else gguf.TokenType.NORMAL
