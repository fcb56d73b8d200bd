"""Looks at the tokens of a shard's texts once, for what they resemble: other files, and the items of benchmarks.

**In**: a `ResemblanceTask`: a shard's texts, the rows that are still in question, and the benchmarks to guard.
**Out**: the sketches of the texts and of their repositories, by which near-duplicates are found; contaminations.
**Not**: a choice of what stays: that needs all shards (`near_duplicates.py`).
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from codegemma.corpus.decontaminate import Contamination, Rule, load_index
from codegemma.corpus.dedup import shingle_tokens
from codegemma.corpus.sketch_shards import KEYS, FileKey, make_shard, write_repository_sketches, write_shard
from codegemma.corpus.sketches import Sketch, merge_sketches, sketch_shingles
from codegemma.corpus.tokens import encode_text, hash_tokens
from codegemma.records import SourceFile
from codegemma.shards import read_rows, write_records
from codegemma.steps import CpuClock


@dataclass(frozen=True, slots=True)
class Contaminated:
    """A text in which an item of a benchmark stands, by which rule it was found, and the line, counted from 1."""

    row: int
    benchmark: str
    item: str
    rule: Rule
    line: int

    @property
    def contamination(self) -> Contamination:
        """What was found, without the place of the text."""
        return Contamination(self.benchmark, self.item, self.rule, self.line)


@dataclass(frozen=True, slots=True)
class Guarded:
    """The benchmarks that are looked for, and what is allowed none the less, as given; what both hold, by digest."""

    paths: tuple[str, ...]
    allow_list: str | None
    digests: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class ResemblanceTask:
    """`sketches` is the folder for the sketches, or `None` if none are wanted; `contaminated` likewise."""

    texts: Path
    rows: tuple[int, ...]
    sketches: Path | None
    contaminated: Path | None
    guarded: Guarded

    @property
    def size(self) -> int:
        """Files."""
        return len(self.rows)

    @property
    def out(self) -> Path:
        """What is written last."""
        out = self.contaminated or self.sketched
        if out is None:
            raise ValueError("a task that writes nothing")
        return out

    @property
    def sketched(self) -> Path | None:
        """What is written last of the sketches."""
        return self.sketches and self.sketches / KEYS

    @property
    def repositories(self) -> Path | None:
        """Where the sketches of the shard's part of each repository stand."""
        return self.sketches and self.sketches / "repositories.parquet"


def find_resemblance(task: ResemblanceTask) -> dict[str, float]:
    """Sketch the texts and look for benchmarks in them; return seconds of CPU time by step."""
    sketches: dict[FileKey, Sketch] = {}
    contaminated: list[Contaminated] = []
    wants_sketches = task.sketched is not None and not task.sketched.is_file()
    index = (
        load_index(task.guarded.paths, task.guarded.allow_list, task.guarded.digests)
        if task.contaminated is not None
        else None
    )
    clock = CpuClock()

    for row, file in zip(sorted(task.rows), read_rows(task.texts, SourceFile, task.rows), strict=True):
        clock.lap("read")
        tokens = hash_tokens(encode_text(file.text))
        clock.lap("tokens")
        if wants_sketches:
            sketches[file.repo, file.path] = sketch_shingles(shingle_tokens(tokens))
            clock.lap("sketch")
        if index is not None:
            contaminated += [Contaminated(row, *found) for found in index.find(file.text, tokens)]
            clock.lap("decontaminate")
    if wants_sketches and task.sketches is not None and task.repositories is not None:
        write_repository_sketches(task.repositories, _merge_by_repository(sketches))
        write_shard(task.sketches, make_shard(sketches))
        clock.lap("sketch")
    if task.contaminated is not None:
        write_records(task.contaminated, contaminated, Contaminated)
        clock.lap("decontaminate")
    return clock.seconds


def _merge_by_repository(sketches: dict[FileKey, Sketch]) -> dict[str, Sketch]:
    by_repo: defaultdict[str, list[Sketch]] = defaultdict(list)
    for (repo, _), sketch in sketches.items():
        by_repo[repo].append(sketch)
    return {repo: merge_sketches(each) for repo, each in by_repo.items()}
