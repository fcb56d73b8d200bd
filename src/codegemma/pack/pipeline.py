"""Builds packs from a corpus: parses each file, links the files of each repository, groups them.

**In**: `files-train.parquet` and `files-heldout.parquet` of a corpus, files or folders of parts, what leads its imports
(`guides.py`), and `PackChoices`.
**Out**: the like-wise divided `packs-train.parquet` and `packs-heldout.parquet`, `dropped-syntax.parquet`, and last
`packs.json`, the manifest.
**Not**: reading repositories, which is `corpus/`, or cutting for training, which is `feed/`. Held-out files never share
a pack with training files. The files have the same bytes for any number of workers.

As in the corpus, what a step found out stays in `steps/`: a file that is added makes one part be parsed anew.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from codegemma.errors import InputError, OutputError
from codegemma.folders import refuse_half_removed
from codegemma.pack.choices import PackChoices
from codegemma.pack.guides import GuideIndex
from codegemma.pack.link import LINK_VERSION, LinkTask, PackPlan, RepoLinks, link_repositories, make_link_task
from codegemma.pack.parse import PARSE_VERSION, FileFacts, ParseTask, list_grammars, make_parse_task, parse_part
from codegemma.pack.report import MANIFEST, PackReport, SplitCount, read_manifest, write_manifest
from codegemma.pack.write import make_write_task, write_packs
from codegemma.recipe import fingerprint
from codegemma.records import DroppedFile, Split
from codegemma.runner import LocalRunner, Progress, Runner, ignore_progress
from codegemma.shards import list_parts, measure_parts, read_records, write_records
from codegemma.steps import STEPS_FOLDER, Task, publish, remove_output, run_missing, sweep

STAGE = "syntax"
DROPPED_FILE = "dropped-syntax.parquet"
STEPS = f"{STEPS_FOLDER}/pack"
# Part of the fingerprint: raise it when the same choices and files come to give other packs.
PIPELINE_VERSION = 3
# Repositories are linked together until they have so many files, and packs written together until they have so many
# characters: tasks of some seconds.
LINK_FILES = 1_000
WRITE_CHARS = 8_000_000

T = TypeVar("T", bound=Task)


def build_packs(
    corpus: Path,
    out: Path,
    choices: PackChoices,
    runner: Runner = LocalRunner(),  # noqa: B008 (frozen)
    on_progress: Progress = ignore_progress,
) -> PackReport:
    """Build the packs of a corpus in `out`, or find that they are there already.

    Raises:
        InputError: no corpus there, a language whose grammar is not installed, or nothing left to train on.
        OutputError: `out` cannot be written.
        WorkerError: a worker process died.
    """
    refuse_half_removed(corpus)
    parsed = {split: _list_parse_tasks(corpus, split, choices, out) for split in Split}
    guides = GuideIndex(corpus)
    names = [[task.out.name for task in parsed[split]] for split in Split]
    key = fingerprint(PIPELINE_VERSION, choices, guides.select_all().digest, names)
    earlier = read_manifest(out)
    if earlier is not None and earlier.fingerprint == key:
        return earlier
    _clear_results(out)
    started_s = time.perf_counter()
    build = _Build(choices, runner, on_progress, out)
    build.parse(corpus, parsed)
    build.check_not_empty()
    build.pack(parsed, guides)
    write_records(out / DROPPED_FILE, build.dropped, DroppedFile)
    sweep(out / STEPS, build.found)
    build.seconds["all_wall_s"] = time.perf_counter() - started_s
    report = PackReport(
        fingerprint=key,
        order=choices.order.value,
        budget_tokens=choices.budget_tokens,
        splits={split.value: build.counts[split] for split in Split},
        seconds=dict(sorted(build.seconds.items())),
        parquet_bytes=measure_parts(out, OUTPUTS),
        chars_per_token=choices.chars_per_token,
    )
    write_manifest(out, report)
    return report


def describe_packing(choices: PackChoices) -> str:
    """Name all that packs hang on, besides the corpus."""
    return fingerprint(PIPELINE_VERSION, PARSE_VERSION, LINK_VERSION, choices, list_grammars())


def _list_parse_tasks(corpus: Path, split: Split, choices: PackChoices, out: Path) -> list[ParseTask]:
    parts = list_parts(corpus / f"files-{split}.parquet")
    return [make_parse_task(part, choices.import_top_lines, out / STEPS) for part in parts]


def name_packs(split: Split) -> str:
    """Name the folder that holds the packs of one split; in ArrayRecord its name ends so (`shards.find_format`)."""
    return f"packs-{split}.parquet"


OUTPUTS = (*map(name_packs, Split), DROPPED_FILE)


def _clear_results(out: Path) -> None:
    """Make the folder and take away what an earlier build ended with, the manifest first.

    Training packs of this build beside held-out packs of another would measure on what was trained on.
    """
    try:
        (out / STEPS).mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST, *OUTPUTS):
            remove_output(out / name)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


@dataclass(slots=True)
class _Build:
    """One build under way; it holds plans, never texts."""

    choices: PackChoices
    runner: Runner
    on_progress: Progress
    out: Path
    found: list[Path] = field(default_factory=list)
    dropped: list[DroppedFile] = field(default_factory=list)
    counts: dict[Split, SplitCount] = field(default_factory=lambda: {split: SplitCount() for split in Split})
    # For each split, how many admitted files of each repository stand in each part; the repositories in their order.
    repos: dict[Split, dict[str, dict[int, int]]] = field(default_factory=lambda: {split: {} for split in Split})
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def _run(self, function: Callable[[T], dict[str, float]], tasks: Sequence[T], stage: str) -> None:
        for step, seconds in run_missing(function, tasks, self.runner, self.on_progress, stage).items():
            self.seconds[step] += seconds

    def parse(self, corpus: Path, tasks: Mapping[Split, Sequence[ParseTask]]) -> None:
        """Parse every file of both splits and drop what does not parse."""
        self._run(parse_part, [task for split in Split for task in tasks[split]], "parse")
        for split in Split:
            last = None
            for number, task in enumerate(tasks[split]):
                self.found += [task.out, task.facts, task.imports]
                for facts in read_records(task.facts, FileFacts):
                    if facts.repo != last and facts.repo in self.repos[split]:
                        raise InputError(f"{corpus}: the files of {facts.repo} do not stand together; build it again")
                    last = facts.repo
                    files = self.repos[split].setdefault(facts.repo, {})
                    if self._admit(split, facts):
                        files[number] = files.get(number, 0) + 1

    def _admit(self, split: Split, facts: FileFacts) -> bool:
        count = self.counts[split]
        count.files_in += 1
        if facts.error_share <= self.choices.max_error_share:
            count.add_file(facts)
            return True
        count.files_dropped += 1
        detail = f"{facts.error_share:.1%} of its bytes do not parse"
        self.dropped.append(DroppedFile(facts.repo, facts.path, STAGE, "syntax_errors", detail, facts.size_bytes))
        return False

    def pack(self, parsed: Mapping[Split, Sequence[ParseTask]], guides: GuideIndex) -> None:
        """Link the files of the repositories of both splits and write their packs."""
        links = {split: list(self._list_link_tasks(split, parsed[split], guides)) for split in Split}
        self._run(link_repositories, [task for split in Split for task in links[split]], "link")
        by_name = {task.out.name: task for split in Split for task in parsed[split]}
        suffix, folder = f".{self.choices.format}", self.out / STEPS
        writes = {
            split: [make_write_task(plans, by_name, folder, suffix) for plans in self._read_plans(split, links[split])]
            for split in Split
        }
        self._run(write_packs, [task for split in Split for task in writes[split]], "pack")
        for split in Split:
            self.found += [task.out for task in writes[split]]
            publish([task.out for task in writes[split]], self.out / name_packs(split))

    def _list_link_tasks(self, split: Split, parsed: Sequence[ParseTask], guides: GuideIndex) -> Iterator[LinkTask]:
        repos: dict[str, dict[int, int]] = {}
        size = 0
        remaining = len(self.repos[split])
        for repo, files in self.repos[split].items():
            repos[repo] = files
            size += sum(files.values())
            remaining -= 1
            if size >= LINK_FILES or not remaining:
                parts = sorted({part for counts in repos.values() for part in counts})
                here, leading = [parsed[part] for part in parts], guides.select(repos)
                yield make_link_task(
                    tuple(repos), split, here, leading, self.choices, size=size, folder=self.out / STEPS
                )
                repos, size = {}, 0

    def _read_plans(self, split: Split, links: Sequence[LinkTask]) -> Iterator[list[PackPlan]]:
        """Count what the links are, and yield the plans that are written together."""
        count = self.counts[split]
        plans: list[PackPlan] = []
        chars = 0
        for task in links:
            self.found += [task.out, task.counts]
            for repo in read_records(task.counts, RepoLinks):
                count.edges += repo.edges
                count.reference_edges += repo.reference_edges
                count.outside_edges += repo.outside_edges
                count.broken_edges += repo.broken_edges
                count.paired_tests += repo.paired_tests
                count.colocated_edges.update(dict(zip(repo.orders, repo.colocated, strict=True)))
            for plan in read_records(task.out, PackPlan):
                count.packs += 1
                plans.append(plan)
                chars += plan.chars
                if chars >= WRITE_CHARS:
                    yield plans
                    plans, chars = [], 0
        if plans:
            yield plans

    def check_not_empty(self) -> None:
        """Refuse a build that leaves nothing to train on."""
        count = self.counts[Split.TRAIN]
        if not count.files_packed:
            raise InputError(
                f"nothing left to train on: {count.files_dropped} of {count.files_in} files have more than "
                f"{self.choices.max_error_share:.0%} syntax errors; see pack.max_error_share"
            )
