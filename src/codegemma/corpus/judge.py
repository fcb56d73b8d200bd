"""What later steps ask of the texts of one shard: quality, shingles, leaks, and a selection of them.

**In**: a task with the shard's texts, and the rows that it is about.
**Out**: one file a task; rows are counted from 0 in the shard.
**Not**: which files are asked about; `pipeline.py` knows.
"""

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codegemma.corpus import licenses, quality
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.dedup import Shingles, hash_shingles
from codegemma.corpus.english import English
from codegemma.corpus.leaks import LeakIndex, sample_shingles
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.files import write_whole
from codegemma.records import PackedFile, SourceFile
from codegemma.shards import read_records, read_rows, write_records
from codegemma.text.languages import DOCUMENT_LANGUAGES

LEAK_CHOICES = ("max_heldout_jaccard", "max_heldout_containment")
# Behind the path of a training file that an earlier build held, where a leak tells of one.
TRAINED_EARLIER = ", trained on earlier"


def judge_license(license: str | None, choices: CorpusChoices) -> tuple[str, str] | None:
    """Tell why a licence is not accepted: reason and detail."""
    if license is None:
        return (
            None if choices.keep_unlicensed else ("unknown", "no tag, notice, manifest or licence text speaks for it")
        )
    accepted = licenses.expand_accepted(choices.licenses)
    return None if not accepted or licenses.is_accepted(license, accepted) else ("not_accepted", license)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A text that breaks a rule of quality."""

    row: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class QualityTask:
    """A whole shard, the file of the operator's own thresholds, if there is one, and which documents stay."""

    texts: Path
    size: int
    rules: str | None
    english: English
    out: Path


def judge_quality(task: QualityTask) -> dict[str, float]:
    """Write a `Verdict` for each text that breaks a rule."""
    started_s = time.process_time()
    verdicts, rules = [], load_quality_rules(task.rules)
    for row, file in enumerate(read_records(task.texts, SourceFile)):
        thresholds = rules.of_file(file)
        if file.language in DOCUMENT_LANGUAGES:
            defect = quality.find_document_defect(file.text, thresholds, task.english)
        else:
            defect = quality.find_defect(file.text, thresholds)
        if defect is not None:
            verdicts.append(Verdict(row, defect.reason, defect.detail))
    write_records(task.out, verdicts, Verdict)
    return {"quality_cpu_s": time.process_time() - started_s}


@dataclass(frozen=True, slots=True)
class ShingleTask:
    """The held-out texts of a shard; of their shingles, one in `sampling` is kept."""

    texts: Path
    rows: tuple[int, ...]
    sampling: int
    out: Path

    @property
    def size(self) -> int:
        """Files."""
        return len(self.rows)


def shingle_texts(task: ShingleTask) -> dict[str, float]:
    """Write the shingles of each text, one after another, and how many each has."""
    started_s = time.process_time()
    files = read_rows(task.texts, SourceFile, task.rows)
    shingles = [sample_shingles(hash_shingles(file.text), task.sampling) for file in files]
    buffer = io.BytesIO()
    np.savez(buffer, hashes=np.concatenate(shingles), counts=np.array([len(each) for each in shingles]))
    write_whole(task.out, buffer.getvalue())
    return {"leaks_cpu_s": time.process_time() - started_s}


@dataclass(frozen=True, slots=True)
class IndexTask:
    """All held-out shingles, in the order of their shards."""

    shingles: tuple[Path, ...]
    out: Path

    @property
    def size(self) -> int:
        """Shards."""
        return len(self.shingles)


def index_shingles(task: IndexTask) -> dict[str, float]:
    """Write the index of the held-out texts, numbered in their order."""
    started_s = time.process_time()
    LeakIndex([shingles for path in task.shingles for shingles in _read_shingles(path)]).save(task.out)
    return {"leaks_cpu_s": time.process_time() - started_s}


def _read_shingles(path: Path) -> list[Shingles]:
    """Read what `shingle_texts` wrote: the shingles of each text."""
    with np.load(path, allow_pickle=False) as arrays:
        return np.split(arrays["hashes"], np.cumsum(arrays["counts"])[:-1])


@dataclass(frozen=True, slots=True)
class Leak:
    """A held-out file, by its number in the index, and the training files of a shard that are most like it."""

    heldout: int
    jaccard: float
    jaccard_path: str
    containment: float
    containment_path: str


def merge_leaks(first: Leak | None, second: Leak) -> Leak:
    """Keep the higher of each measure with its path; of equals, the first stays."""
    if first is None:
        return second
    jaccard = max((first, second), key=lambda leak: leak.jaccard)
    containment = max((first, second), key=lambda leak: leak.containment)
    return Leak(
        first.heldout, jaccard.jaccard, jaccard.jaccard_path, containment.containment, containment.containment_path
    )


@dataclass(frozen=True, slots=True)
class LeakTask:
    """The training texts of a shard, to be compared with all held-out ones."""

    texts: Path
    rows: tuple[int, ...]
    index: Path
    sampling: int
    choices: CorpusChoices
    out: Path

    @property
    def size(self) -> int:
        """Files."""
        return len(self.rows)


def find_leaks(task: LeakTask) -> dict[str, float]:
    """Write a `Leak` for each held-out file that a text of the shard gives away."""
    started_s = time.process_time()
    index = LeakIndex.load(task.index)
    for file in read_rows(task.texts, SourceFile, task.rows):
        index.compare(file.path, sample_shingles(hash_shingles(file.text), task.sampling))
    write_records(task.out, _list_leaks(index, task.choices), Leak)
    return {"leaks_cpu_s": time.process_time() - started_s}


def compare_gone(files: Iterable[PackedFile], index: Path, sampling: int, choices: CorpusChoices) -> list[Leak]:
    """List the held-out files that a text of an earlier build gives away; they are few, so no task is made of them."""
    heldout = LeakIndex.load(index)
    for file in files:
        heldout.compare(file.path + TRAINED_EARLIER, sample_shingles(hash_shingles(file.text), sampling))
    return _list_leaks(heldout, choices)


def _list_leaks(index: LeakIndex, choices: CorpusChoices) -> list[Leak]:
    return [
        Leak(number, found.jaccard, found.jaccard_path, found.containment, found.containment_path)
        for number, found in index.find_alike(choices.max_heldout_jaccard, choices.max_heldout_containment)
    ]


@dataclass(frozen=True, slots=True)
class SelectTask:
    """The rows of a shard that stay, on one side of the held-out border."""

    texts: Path
    rows: tuple[int, ...]
    out: Path

    @property
    def size(self) -> int:
        """Files."""
        return len(self.rows)


def select_texts(task: SelectTask) -> dict[str, float]:
    """Write the texts that stay."""
    started_s = time.process_time()
    write_records(task.out, read_rows(task.texts, SourceFile, task.rows), SourceFile)
    return {"write_cpu_s": time.process_time() - started_s}
