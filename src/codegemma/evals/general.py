"""How well a model reads whole files: bits per byte, on the repository's held-out files and on general code.

**In**: a `Subject`; files that are held out, or of an installed package that no run here has seen.
**Out**: `FileLoss`es, file by file; `LossChange`, before and after a training with its interval.
**Not**: holes (`heldout.py`). Which package is general code, and what becomes of a model that lost it, is the caller's.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import xxhash

from codegemma.evals.scoring import CHUNK_HOLES, Subject
from codegemma.evals.statistics import Interval, bootstrap_difference, bootstrap_ratio
from codegemma.records import Pack
from codegemma.runner import Progress, ignore_progress
from codegemma.text.control_tokens import BOS_ID
from codegemma.text.infill_format import encode_path

# Shorter files are stubs; longer ones would be most of the set.
_MIN_CHARS, _MAX_CHARS = 400, 12_000
# A longer context lowers the loss of all models alike and costs its square.
_MAX_WINDOW_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Text:
    """A file to read: its path as training spells it, and what stands in it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class FileLoss:
    """What a model needs to write a file down."""

    path: str
    bits: float
    text_bytes: int


@dataclass(frozen=True, slots=True)
class LossChange:
    """Bits per byte of one set of files before and after; `before` is `None` where no model was there to begin with.

    `source` names where the files are from, with the version of a package.
    """

    name: str
    source: str
    before: Interval | None
    after: Interval
    change: Interval | None

    @property
    def change_share(self) -> float | None:
        """By which share the loss grew; below zero it fell."""
        return None if self.before is None else self.after.mean / self.before.mean - 1


def choose_general(folder: Path, max_chars: int) -> list[Text]:
    """Take files of a package in the order of a hash of their paths: the same on every machine with that version."""
    paths = (path for path in folder.rglob("*.py") if path.is_file())
    texts = (Text(path.relative_to(folder).as_posix(), _read(path)) for path in paths)
    return _take(texts, max_chars)


def choose_heldout(packs: Iterable[Pack], max_chars: int) -> list[Text]:
    """Take held-out files in the order of such a hash."""
    return _take((Text(file.path, file.text) for pack in packs for file in pack.files), max_chars)


def name_package(folder: Path) -> str:
    """Name a package's folder with the version of what brought it.

    >>> name_package(Path("somewhere/no_package/part"))
    'no_package/part'
    """
    name = folder.parent.name
    try:
        return f"{name}/{folder.name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"{name}/{folder.name}"


def measure_files(subject: Subject, texts: Sequence[Text], on_progress: Progress = ignore_progress) -> list[FileLoss]:
    """Rate every token of each file, in windows: a file longer than one goes on after `<bos>` and its path again."""
    items: list[tuple[list[int], list[int]]] = []
    owners: list[int] = []
    for number, text in enumerate(texts):
        start = [BOS_ID, *encode_path(subject.tokenizer, text.path).tolist()]
        ids: list[int] = subject.tokenizer.encode(text.text).tolist()
        room = max(1, min(subject.max_context_tokens, _MAX_WINDOW_TOKENS) - len(start))
        parts = [ids[at : at + room] for at in range(0, len(ids), room)]
        items += [(start, part) for part in parts]
        owners += [number] * len(parts)
    bits = [0.0] * len(texts)
    for first in range(0, len(items), CHUNK_HOLES):
        on_progress("read files", first, len(items))
        chunk = slice(first, first + CHUNK_HOLES)
        for owner, score in zip(owners[chunk], subject.completer.score(items[chunk]), strict=True):
            bits[owner] -= float(score.logprobs.sum(dtype=float)) / math.log(2)
    return [FileLoss(t.path, b, len(t.text.encode())) for t, b in zip(texts, bits, strict=True)]


def compare_losses(name: str, source: str, before: Sequence[FileLoss] | None, after: Sequence[FileLoss]) -> LossChange:
    """Put the same files before and after side by side, with intervals over files."""
    sizes, paths = [loss.text_bytes for loss in after], [loss.path for loss in after]
    ours = [loss.bits for loss in after]
    if before is None:
        return LossChange(name, source, None, bootstrap_ratio(ours, sizes, paths, seed=0), None)
    theirs = [loss.bits for loss in before]
    return LossChange(
        name,
        source,
        bootstrap_ratio(theirs, sizes, paths, seed=0),
        bootstrap_ratio(ours, sizes, paths, seed=0),
        bootstrap_difference(ours, theirs, paths, seed=0, denominators=sizes),
    )


def _take(texts: Iterable[Text], max_chars: int) -> list[Text]:
    fitting = (text for text in texts if _MIN_CHARS <= len(text.text) <= _MAX_CHARS)
    chosen: list[Text] = []
    left = max_chars
    for text in sorted(fitting, key=lambda text: (xxhash.xxh3_64_intdigest(text.path.encode()), text.path)):
        if len(text.text) <= left:
            chosen.append(text)
            left -= len(text.text)
    return chosen


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""  # too short to be chosen
