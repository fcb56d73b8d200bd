"""Windows to token rows: a hole in each piece, spelled by the infill format, with loss weights.

**In**: a window, its epoch, and the build's seed.
**Out**: `SpelledWindow`: ids and loss weights, with what happened to each piece.
**Not**: several windows in a row, which the loader packs.

Everything is drawn from a keyed hash of (seed, epoch, blob, piece start): the same piece in the same epoch is cut in
the same way whatever the order of the windows or an interruption. Documents that are not code are plain text: they get
no hole, and no path, which for a record among a thousand says nothing. A conversation is spelled by the chat format.
"""

import functools
import hashlib
import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from codegemma.feed.choices import FeedChoices, FeedError
from codegemma.feed.cut import Hole, cut_piece
from codegemma.feed.groups import number_group
from codegemma.feed.spans import EncodedText
from codegemma.feed.windows import Piece, Window
from codegemma.records import InfillMode, Pack, SourceKind
from codegemma.text.chat_format import format_chat, load_turns
from codegemma.text.infill_format import Ids, encode_path, format_infill, format_whole, join_files
from codegemma.text.languages import DOCUMENT_LANGUAGES
from codegemma.text.syntax import list_nodes
from codegemma.text.tokenizer import Tokenizer

# Files whose syntax trees are kept, for syntax holes: some 200 kB for each 100 kB of source.
_CACHED_TREES = 1024


@dataclass(frozen=True, slots=True)
class PieceOutcome:
    """What became of a piece: its hole in the file's characters, or `None` where it is shown whole."""

    piece: Piece
    hole: Hole | None
    mode: InfillMode | None
    has_path: bool


@dataclass(frozen=True, slots=True)
class SpelledWindow:
    """One window as ids; `weights` as in `Batch.loss_weights`.

    `groups` are the pieces' numbers of `feed/groups.py`, each with how many tokens count under it, from the first on.
    """

    ids: Int32[np.ndarray, " n"]
    weights: Float32[np.ndarray, " n"]
    outcomes: tuple[PieceOutcome, ...]
    groups: tuple[tuple[int, int], ...]


class WindowSpeller:
    """Spells windows of given packs; keeps the ids of the files seen last."""

    def __init__(
        self,
        packs: Sequence[Pack],
        tokenizer: Tokenizer,
        choices: FeedChoices,
        seed: int,
        row_tokens: int,
        max_cached_chars: int = 512 * 2**20,
    ) -> None:
        """Bind packs, tokenizer and choices. At most `max_cached_chars` characters of text are kept encoded."""
        self._row_tokens = row_tokens
        self._packs = packs
        self._tokenizer = tokenizer
        self._choices = choices
        self._seed = seed
        self._encoded: OrderedDict[tuple[int, int], EncodedText] = OrderedDict()
        self._cached_chars = 0
        self._max_cached_chars = max_cached_chars
        self._path_ids: dict[str, Ids] = {}
        self._list_nodes = functools.lru_cache(_CACHED_TREES)(self._parse)

    def encode(self, pack: int, file: int) -> EncodedText:
        """Return a file's encoded text, from memory where it was met before."""
        key = (pack, file)
        encoded = self._encoded.get(key)
        if encoded is None:
            encoded = EncodedText(self._packs[pack].files[file].text, self._tokenizer)
            self._encoded[key] = encoded
            self._cached_chars += len(encoded.text)
            while self._cached_chars > self._max_cached_chars and len(self._encoded) > 1:
                _, oldest = self._encoded.popitem(last=False)
                self._cached_chars -= len(oldest.text)
        else:
            self._encoded.move_to_end(key)
        return encoded

    def spell(self, window: Window, epoch: int) -> SpelledWindow:
        """Draw holes, modes and paths for `epoch` and spell the window.

        Raises:
            FeedError: a conversation that is longer than a row.
        """
        if self._packs[window[0].pack].kind is SourceKind.CONVERSATION:
            return self._spell_conversation(window[0])
        spelled = self._spell_pieces(window, epoch, self._choices.infill_share)
        if len(spelled.ids) > self._row_tokens:
            # The cuts split more pieces of the vocabulary than was planned for: rare, and whole it fits for certain.
            spelled = self._spell_pieces(window, epoch, infill_share=0.0)
        return spelled

    def _spell_conversation(self, piece: Piece) -> SpelledWindow:
        """Weigh the model's turns alone; a conversation is the same in every epoch."""
        pack = self._packs[piece.pack]
        ids, weights = format_chat(self._tokenizer, load_turns(pack.files[piece.file].text))
        if len(ids) > self._row_tokens:
            raise FeedError(
                f"the conversation {pack.repo}:{pack.files[piece.file].path} takes {len(ids)} tokens, a row holds "
                f"{self._row_tokens}: leave it out, or set train.row_tokens higher"
            )
        outcome = PieceOutcome(piece, None, None, has_path=False)
        return SpelledWindow(ids, weights, (outcome,), ((self._number_group(outcome), len(ids)),))

    def _spell_pieces(self, window: Window, epoch: int, infill_share: float) -> SpelledWindow:
        spelled, outcomes = [], []
        for piece in window:
            ids, weights, outcome = self._spell_piece(piece, epoch, infill_share)
            spelled.append((ids, weights))
            outcomes.append(outcome)
        ids, weights = join_files(spelled)
        # The token that ends a piece counts with it, and `<bos>` with the first.
        lengths = [len(piece_ids) + 1 + (number == 0) for number, (piece_ids, _) in enumerate(spelled)]
        groups = zip(map(self._number_group, outcomes), lengths, strict=True)
        return SpelledWindow(ids, weights, tuple(outcomes), tuple(groups))

    def _number_group(self, outcome: PieceOutcome) -> int:
        pack = self._packs[outcome.piece.pack]
        return number_group(pack.kind, pack.files[outcome.piece.file].language, outcome.mode)

    def _spell_piece(
        self, piece: Piece, epoch: int, infill_share: float
    ) -> tuple[Ids, Float32[np.ndarray, " n"], PieceOutcome]:
        file = self._packs[piece.pack].files[piece.file]
        rng = _make_generator(self._seed, epoch, file.blob, piece.start)
        encoded = self.encode(piece.pack, piece.file)
        is_document = file.language in DOCUMENT_LANGUAGES
        has_path = rng.random() < self._choices.path_share and not is_document
        path_ids = self._encode_path(file.path if has_path else None)
        if rng.random() >= infill_share or is_document:
            ids = format_whole(path_ids, encoded.encode_span(piece.start, piece.end))
            return ids, np.ones(len(ids), dtype=np.float32), PieceOutcome(piece, None, None, has_path)
        mode = self._choices.spm_mode if rng.random() < self._choices.spm_share else InfillMode.PSM
        first, last = file.natural_cuts.searchsorted((piece.start, piece.end + 1))
        local = cut_piece(
            file.text[piece.start : piece.end],
            file.natural_cuts[first:last] - piece.start,
            self._choices,
            rng,
            lambda: self._list_nodes(piece.pack, piece.file) - np.array([piece.start, piece.start, 0], np.int32),
        )
        hole = Hole(local.start + piece.start, local.end + piece.start, local.is_natural)
        ids, weights = format_infill(
            path_ids,
            encoded.encode_span(piece.start, hole.start),
            encoded.encode_span(hole.start, hole.end),
            encoded.encode_span(hole.end, piece.end),
            mode,
            self._choices.middle_weight,
        )
        return ids, weights, PieceOutcome(piece, hole, mode, has_path)

    def _parse(self, pack: int, file: int) -> Int32[np.ndarray, "nodes 3"]:
        packed = self._packs[pack].files[file]
        return list_nodes(packed.text, packed.language)

    def _encode_path(self, path: str | None) -> Ids:
        key = path or ""
        ids = self._path_ids.get(key)
        if ids is None:
            ids = self._path_ids[key] = encode_path(self._tokenizer, path)
        return ids


def _make_generator(seed: int, epoch: int, blob: str, start: int) -> random.Random:
    key = hashlib.blake2b(f"{seed}/{epoch}/{blob}/{start}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(key, "little"))
