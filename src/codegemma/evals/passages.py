"""Passages of files that a model is asked to go on with: fifty tokens are shown, the next fifty are the truth.

**In**: packs of one side of the held-out border, a tokenizer, a seed; equal input gives equal passages.
**Out**: `Passage`s: the start of each drawn file, and a place inside it that the seed chose.
**Not**: what a model makes of them (`memorization.py`).

The Gemma report (2403.08295, section on memorization) draws 10,000 documents of each part of the corpus and shows the
first 50 tokens of each. The first lines of code are often a licence, so a place inside is asked for too.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import xxhash
from jaxtyping import Int32

from codegemma.records import Pack, PackedFile, SourceKind
from codegemma.text.tokenizer import Tokenizer

PROMPT_TOKENS = TRUTH_TOKENS = SUFFIX_TOKENS = 50
# A shorter file cannot have a hundred tokens that are worth asking for.
_MIN_CHARS = 200
# A cut may fall where the text before it, alone, is spelled in other tokens; the next token is tried, so many times.
_TRIES = 8


class Place(StrEnum):
    """Where in its file a passage stands."""

    START = "start"
    INSIDE = "inside"


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a file. `start` is the token at which its prompt begins; `suffix` is what follows the truth."""

    repo: str
    path: str
    language: str
    source: SourceKind
    place: Place
    start: int
    prompt: str = field(repr=False)
    truth_ids: tuple[int, ...] = field(repr=False)
    suffix: str = field(repr=False)

    @property
    def passage_id(self) -> str:
        """Name the passage: the same in every run that has the same files."""
        return f"{self.repo}:{self.path}:{self.start}:{self.place}"


def draw_files(packs: Iterable[Pack], max_files: int, seed: int) -> list[tuple[Pack, PackedFile]]:
    """Draw at most `max_files` files of each source kind, whatever the order of the packs; fewer are among more."""
    drawn: dict[SourceKind, list[tuple[int, str, str, Pack, PackedFile]]] = {}
    for pack in packs:
        for file in pack.files:
            if len(file.text) < _MIN_CHARS:
                continue
            rank = -xxhash.xxh3_64_intdigest(f"{pack.repo}\0{file.path}\0memorized".encode(), seed)
            heap = drawn.setdefault(pack.kind, [])
            entry = (rank, pack.repo, file.path, pack, file)
            # Repository and path decide where ranks are equal; one file may lie in several packs.
            if any(entry[:3] == other[:3] for other in heap if other[0] == rank):
                continue
            if len(heap) < max_files:
                heapq.heappush(heap, entry)
            elif entry[:3] > heap[0][:3]:
                heapq.heapreplace(heap, entry)
    return [entry[3:] for kind in sorted(drawn) for entry in sorted(drawn[kind], key=lambda e: e[:3], reverse=True)]


def cut_passages(
    files: Iterable[tuple[Pack, PackedFile]], tokenizer: Tokenizer, seed: int
) -> tuple[list[Passage], int]:
    """Cut the passages of drawn files; of equal texts the first one stays. Also count the files that gave none."""
    passages: dict[tuple[Place, str, tuple[int, ...]], Passage] = {}
    left_out = 0
    for pack, file in files:
        found = list(_cut_file(pack, file, tokenizer, seed))
        left_out += not found
        for passage in found:
            passages.setdefault((passage.place, passage.prompt, passage.truth_ids), passage)
    return list(passages.values()), left_out


def _cut_file(pack: Pack, file: PackedFile, tokenizer: Tokenizer, seed: int) -> Iterator[Passage]:
    ids = tokenizer.encode(file.text)
    room = len(ids) - PROMPT_TOKENS - TRUTH_TOKENS
    if room < 0:
        return
    draw = xxhash.xxh3_64_intdigest(f"{pack.repo}\0{file.path}\0inside".encode(), seed)
    for place, first in ((Place.START, 0), (Place.INSIDE, draw % (room + 1))):
        tried = range(1) if place is Place.START else range(_TRIES)
        start = next(
            (s for s in (first + shift for shift in tried) if s <= room and _is_whole(ids, s, tokenizer)), None
        )
        if start is None:
            continue
        middle, end = start + PROMPT_TOKENS, start + PROMPT_TOKENS + TRUTH_TOKENS
        yield Passage(
            pack.repo,
            file.path,
            file.language,
            pack.kind,
            place,
            start,
            prompt=tokenizer.decode(ids[start:middle]),
            truth_ids=tuple(ids[middle:end].tolist()),
            suffix=tokenizer.decode(ids[end : end + SUFFIX_TOKENS]),
        )


def _is_whole(ids: Int32[np.ndarray, " n"], start: int, tokenizer: Tokenizer) -> bool:
    """Tell whether prompt and truth are whole characters, and the prompt's text is spelled in its tokens."""
    prompt = ids[start : start + PROMPT_TOKENS]
    truth = ids[start + PROMPT_TOKENS : start + PROMPT_TOKENS + TRUTH_TOKENS]
    try:
        text = tokenizer.decode_bytes(prompt.tolist()).decode()
        tokenizer.decode_bytes(truth.tolist()).decode()
    except UnicodeDecodeError:
        return False
    return bool(np.array_equal(tokenizer.encode(text), prompt))
