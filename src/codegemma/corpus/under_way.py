"""What the stages of a corpus build have in common: its shards, its census, and how a step is run and named.

**In**: `CorpusChoices`, a runner, the folder of the build.
**Out**: a base of the stages, and the names of what a build leaves on disk.
**Not**: any stage (`stages.py`, `border.py`, `ending.py`). No text is held here.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple, TypeVar

from codegemma.corpus import block_list, decontaminate, dedup, licenses, quality, read, safety, split
from codegemma.corpus.census import Census, Mask
from codegemma.corpus.choices import CorpusChoices
from codegemma.recipe import fingerprint
from codegemma.runner import Progress, Runner
from codegemma.steps import STEPS_FOLDER, Task, run_missing
from codegemma.text.languages import has_grammar

TRAIN_FILE = "files-train.parquet"
HELDOUT_FILE = "files-heldout.parquet"
DROPPED_FILE = "dropped.parquet"
BUILD_FILES = "build-files.parquet"
REFERENCES = "references.parquet"
OUTPUTS = (TRAIN_FILE, HELDOUT_FILE, DROPPED_FILE, BUILD_FILES, REFERENCES)
STEPS = f"{STEPS_FOLDER}/corpus"
# Copies of inputs that lie in stores.
COPIES = f"{STEPS_FOLDER}/copies"
STAGES = (
    read.STAGE,
    block_list.STAGE,
    safety.STAGE,
    licenses.STAGE,
    quality.STAGE,
    dedup.STAGE,
    decontaminate.STAGE,
    split.STAGE,
)
# Part of the fingerprint: raise it when the same choices and files come to give another corpus.
PIPELINE_VERSION = 9

T = TypeVar("T", bound=Task)


def read_tables(choices: CorpusChoices) -> list[object]:
    """Gather what texts hang on beside the choices: the version of the code, tables of rules, installed grammars."""
    return [
        PIPELINE_VERSION,
        resources.files("codegemma.corpus").joinpath(licenses.NAMES_FILE).read_text(encoding="utf-8"),
        resources.files("codegemma.text").joinpath("languages.toml").read_text(encoding="utf-8"),
        [has_grammar(language) for language in choices.languages],
    ]


class Shard(NamedTuple):
    """Where the texts and build files of a shard stand, and how many files it was made of."""

    texts: Path
    build_files: Path
    files: int


class ListedRepository(NamedTuple):
    """What is remembered of a listing."""

    repo: str
    commit: str | None
    root: str | None
    files_listed: int


class Progressing:
    """A build under way: the shards, what is known of their files, and what steps have found out so far."""

    census: Census

    def __init__(self, choices: CorpusChoices, runner: Runner, on_progress: Progress, out: Path) -> None:
        """Begin a build in `out`."""
        self.choices, self.runner = choices, runner
        self.on_progress, self.out = on_progress, out
        self.shards: list[Shard] = []
        # Numbers of the copies that went, and of the text that each went for.
        self.references: dict[int, int] = {}
        self.repositories: list[ListedRepository] = []
        self.how: dict[str, str] = {}
        self.notes: list[str] = []
        self.found: list[Path] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def _run(self, function: Callable[[T], dict[str, float]], tasks: Sequence[T], stage: str) -> None:
        started_s = time.perf_counter()
        for step, seconds in run_missing(function, tasks, self.runner, self.on_progress, stage).items():
            self.seconds[step] += seconds
        self.seconds[f"{stage.replace(':', '').replace(' ', '_')}_wall_s"] += time.perf_counter() - started_s

    def _name(self, step: str, suffix: str, *parts: object) -> Path:
        """Name what a step finds out by all that it hangs on."""
        path = self.out / STEPS / f"{step}-{fingerprint(PIPELINE_VERSION, *parts)}{suffix}"
        self.found.append(path)
        return path

    def _list_texts(self, chosen: Mask) -> Iterator[tuple[Path, tuple[int, ...], int]]:
        """List the shards that hold chosen texts: where they stand, the rows, and the shard's number."""
        for shard, rows in self.census.rows_by_shard(chosen).items():
            yield self.shards[shard].texts, rows, shard
