"""Holes in files that training has not seen: the one place of the cursor is drawn, the rest of the line is the answer.

**In**: held-out packs and the choices; equal input gives equal holes, on every machine.
**Out**: `Hole`s, dealt file by file, so that the first n of a longer list are the list of n.
**Not**: what a model makes of them (`scoring.py`), or which files are held out (`corpus/split.py`).
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import xxhash

from codegemma.evals.choices import EvalChoices
from codegemma.records import Pack, PackedFile
from codegemma.text.languages import DOCUMENT_LANGUAGES, LANGUAGES

RANDOM_SPAN = "random_span"
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")


class HoleKind(StrEnum):
    """What is missing: a whole line after its indentation, or a line's rest from a cursor inside it."""

    LINE = "line"
    REST_OF_LINE = "rest_of_line"


@dataclass(frozen=True, slots=True)
class Hole:
    """A hole in a held-out file; `prefix + middle + suffix` is the file. `line` and `column` count from 1.

    The middle ends before the line's trailing white space.
    """

    repo: str
    path: str
    line: int
    column: int
    kind: str
    prefix: str = field(repr=False)
    middle: str
    suffix: str = field(repr=False)

    @property
    def hole_id(self) -> str:
        """Name the hole: the same in every run that has the same files."""
        return f"{self.repo}:{self.path}:{self.line}:{self.column}:{self.kind}"


@dataclass(frozen=True, slots=True)
class _Draw:
    """A line that may get a hole: its place in the order of dealing, and the draw that fixes the cursor."""

    rank: int
    draw: int
    repo: str
    file: PackedFile
    line: int
    start: int
    end: int
    kind: HoleKind


def make_holes(packs: Iterable[Pack], choices: EvalChoices) -> list[Hole]:
    """Cut holes of both kinds: lines first, then rests of lines, each kind dealt evenly over the files.

    A file gives its second hole only after every other file has given its first.
    """
    draws: list[_Draw] = []
    for pack in packs:
        # Training cuts no hole into a document either.
        for file in (file for file in pack.files if file.language not in DOCUMENT_LANGUAGES):
            for kind in HoleKind:
                draws += _deal_file(pack.repo, file, kind, choices)
    holes = []
    for kind in HoleKind:
        dealt = sorted((d for d in draws if d.kind is kind), key=lambda d: (d.rank, d.draw, d.repo, d.file.path))
        holes += [_cut(draw, choices) for draw in dealt[: choices.max_holes_per_kind]]
    return holes


def make_span_holes(packs: Iterable[Pack], choices: EvalChoices) -> list[Hole]:
    """Cut spans that begin anywhere, of a length that is uniform in its logarithm; a file gives one after the other."""
    longest = math.log(choices.max_middle_chars / choices.min_middle_chars)
    dealt: list[tuple[int, int, Hole]] = []
    for pack in packs:
        for file in (file for file in pack.files if file.language not in DOCUMENT_LANGUAGES):
            for rank in range(min(choices.max_holes_per_file, len(file.text) // choices.max_middle_chars)):
                key = f"{pack.repo}\0{file.path}\0{RANDOM_SPAN}\0{rank}".encode()
                draw = xxhash.xxh3_64_intdigest(key, choices.seed)
                length = round(choices.min_middle_chars * math.exp(longest * (draw % 1000) / 1000))
                start = (draw >> 12) % (len(file.text) - length)
                dealt.append((rank, draw, _cut_span(pack.repo, file, start, start + length)))
    return [hole for *_, hole in sorted(dealt, key=lambda at: at[:2])[: choices.max_holes_per_kind]]


def _cut_span(repo: str, file: PackedFile, start: int, end: int) -> Hole:
    text = file.text
    line_start = text.rfind("\n", 0, start) + 1
    place = (text.count("\n", 0, start) + 1, start - line_start + 1)
    return Hole(repo, file.path, *place, RANDOM_SPAN, prefix=text[:start], middle=text[start:end], suffix=text[end:])


def find_lines(text: str, comment_sign: str, choices: EvalChoices) -> Iterator[tuple[int, int, int]]:
    """Find lines worth a hole: line number from 1, and the half-open span of the content.

    >>> list(find_lines("# note\\n    return 1  \\nx\\n", "#", EvalChoices()))
    [(2, 11, 19)]
    """
    for number, match in enumerate(_LINE.finditer(text), start=1):
        line = match.group()
        content = line.strip()
        if content.startswith(comment_sign or "\0"):
            continue
        if choices.min_middle_chars <= len(content) <= choices.max_middle_chars:
            start = match.start() + len(line) - len(line.lstrip())
            yield number, start, start + len(content)


def _deal_file(repo: str, file: PackedFile, kind: HoleKind, choices: EvalChoices) -> list[_Draw]:
    language = LANGUAGES.get(file.language)
    key = f"{repo}\0{file.path}\0{kind}".encode()
    shortest = choices.min_middle_chars + (kind is HoleKind.REST_OF_LINE)
    drawn = sorted(
        (xxhash.xxh3_64_intdigest(b"%s\0%d" % (key, line), choices.seed), line, start, end)
        for line, start, end in find_lines(file.text, language.comment_sign if language else "", choices)
        if end - start >= shortest
    )
    return [
        _Draw(rank, draw, repo, file, line, start, end, kind)
        for rank, (draw, line, start, end) in enumerate(drawn[: choices.max_holes_per_file])
    ]


def _cut(draw: _Draw, choices: EvalChoices) -> Hole:
    text, cursor = draw.file.text, draw.start
    line_start = max(text.rfind(end, 0, cursor) for end in "\r\n") + 1
    if draw.kind is HoleKind.REST_OF_LINE:
        # Its low bits choose the cursor; the order of dealing hangs on the high ones.
        cursor += 1 + draw.draw % (draw.end - draw.start - choices.min_middle_chars)
    return Hole(
        draw.repo,
        draw.file.path,
        draw.line,
        cursor - line_start + 1,
        draw.kind,
        prefix=text[:cursor],
        middle=text[cursor : draw.end],
        suffix=text[draw.end :],
    )
