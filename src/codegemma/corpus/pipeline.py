"""Builds the corpus: reads repositories, refuses what must not be trained on, and divides training from held-out files.

**In**: repositories and `CorpusChoices`.
**Out**: folders of parts `files-train.parquet` and `files-heldout.parquet`, `dropped.parquet`, and last `corpus.json`.
**Not**: packs; `pack/` makes them from these files. The files have the same bytes for any number of workers.

Every stage is a step over shards (`steps.py`): what one found out stays in `steps/`, named by what it was made from, so
that changed files, rules or thresholds make only those shards and steps anew that hang on them.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

import xxhash

from codegemma.corpus import block_list, decontaminate, dedup, licenses, quality, read, safety, split
from codegemma.corpus.benchmarks import read_benchmarks
from codegemma.corpus.choices import CorpusChoices, ForkPolicy, HeldoutBy, NearDuplicatePolicy, narrow
from codegemma.corpus.decontaminate import describe_contaminations, read_allow_list
from codegemma.corpus.dedup import find_duplicates
from codegemma.corpus.entries import Listing
from codegemma.corpus.forgotten import describe_forgotten, read_forgotten, refuse_forgotten
from codegemma.corpus.history import find_birth_times_s
from codegemma.corpus.inputs import list_repositories
from codegemma.corpus.intake import IntakeTask, Sighting, describe_lists, make_intake_task, take_in
from codegemma.corpus.judge import (
    LEAK_CHOICES,
    Leak,
    LeakTask,
    QualityTask,
    SelectTask,
    ShingleTask,
    Verdict,
    compare_gone,
    find_leaks,
    judge_license,
    judge_quality,
    merge_leaks,
    read_shingles,
    select_texts,
    shingle_texts,
)
from codegemma.corpus.leaks import LeakIndex, choose_sampling
from codegemma.corpus.ledger import LEDGER_FILE, read_ledger, write_ledger
from codegemma.corpus.near_duplicates import find_near_duplicate_repositories, find_near_duplicates
from codegemma.corpus.opt_out import read_opt_out, refuse_opted_out
from codegemma.corpus.partition import cut_shards
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.report import (
    MANIFEST,
    CorpusReport,
    RepoCount,
    count_drops,
    count_licenses,
    count_redactions,
    count_stages,
    read_manifest,
    write_manifest,
)
from codegemma.corpus.resemblance import Contaminated, Guarded, ResemblanceTask, find_resemblance
from codegemma.corpus.sketch_shards import read_repository_sketches, read_shard
from codegemma.corpus.split import Heldout
from codegemma.errors import InputError, OutputError
from codegemma.folders import refuse_half_removed
from codegemma.recipe import fingerprint
from codegemma.records import DroppedFile, Pack, PackedFile
from codegemma.runner import LocalRunner, Progress, Runner, ignore_progress
from codegemma.shards import count_records, measure_parts, read_records, write_records
from codegemma.steps import STEPS_FOLDER, Task, is_whole, publish, remove_output, run_missing, sweep
from codegemma.text.languages import has_grammar

TRAIN_FILE = "files-train.parquet"
HELDOUT_FILE = "files-heldout.parquet"
DROPPED_FILE = "dropped.parquet"
STEPS = f"{STEPS_FOLDER}/corpus"
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
PIPELINE_VERSION = 7

FileKey = tuple[str, str]  # repository and path
T = TypeVar("T", bound=Task)


def build_corpus(
    repos: Sequence[Path],
    out: Path,
    choices: CorpusChoices,
    runner: Runner = LocalRunner(),  # noqa: B008 (frozen)
    on_progress: Progress = ignore_progress,
    *,
    exclude: Path | None = None,
    trained: Sequence[Path] = (),
) -> CorpusReport:
    """Build the corpus of some repositories in `out`, or find that it is there already.

    `exclude` is a folder that belongs to no repository although it may lie in one: the whole output of a run that `out`
    is a part of, or else `out`. What is written there between two builds must not look like a change of the repository.
    `trained` are packs that models were trained on earlier: what they give away is not held out either, although the
    repositories may hold it no more.

    Raises:
        InputError: a repository that cannot be used, or nothing left to train on.
        OutputError: `out` cannot be written, or is itself a repository to read.
        WorkerError: a worker process died.
    """
    exclude = out if exclude is None else exclude
    if os.path.realpath(exclude) in map(os.path.realpath, repos):
        raise OutputError(f"{exclude}: is the repository itself; choose a folder of its own, inside it or elsewhere")
    refuse_half_removed(out)
    opt_out, forgotten = read_opt_out(choices.opt_out), read_forgotten(out)
    benchmarks = read_benchmarks(choices.decontaminate)
    allowed = read_allow_list(choices.decontamination_allow_list)
    lists = [
        opt_out.describe(),
        *describe_forgotten(forgotten),
        *describe_lists(choices),
        load_quality_rules(choices.quality_rules).describe(),
        *benchmarks.describe(),
        allowed.describe(),
    ]
    with _make_scratch(runner) as scratch:
        listings = [
            refuse_forgotten(refuse_opted_out(listing, opt_out), forgotten)
            for listing in list_repositories(
                repos, exclude, scratch, choices.parquet_columns, choices.document_language
            )
        ]
        key = _fingerprint_inputs(listings, choices, [*lists, benchmarks.digest, allowed.digest])
        earlier = read_manifest(out)
        if earlier is not None and earlier.fingerprint == key:
            return earlier
        _clear_results(out)
        build = _Build(listings, choices, runner, on_progress, out)
        build.take_in()
        build.judge_licenses()
        build.judge_quality()
        build.drop_duplicates()
        build.drop_resembling(benchmarks.digest, allowed.digest)
        build.hold_out()
        build.drop_leaks(trained)
        build.check_not_empty()
        report = build.report(key, build.write(), lists)
    write_manifest(out, report)
    return report


@contextlib.contextmanager
def _make_scratch(runner: Runner) -> Iterator[Path | None]:
    """Give the folder for what must be unpacked to be read: on a cluster, one that all machines see."""
    folder = None if isinstance(runner, LocalRunner) else runner.folder
    if folder is None:
        yield None  # one of this process
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="unpacked-", dir=folder))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another folder=") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fingerprint_inputs(listings: Sequence[Listing], choices: CorpusChoices, lists: Sequence[str | None]) -> str:
    """Name all that a build hangs on; `lists` hold digests of the operator's files, so that no file holds the key."""
    contents = xxhash.xxh3_128()
    for listing in listings:
        for entry in listing.entries:
            contents.update(f"{entry.path}\0{entry.size_bytes}\0{entry.stamp}\0{entry.refusal}\n".encode())
    named = [(listing.repo, listing.commit, len(listing.entries)) for listing in listings]
    return fingerprint(choices, _read_tables(choices), lists, named, contents.hexdigest())


def _read_tables(choices: CorpusChoices) -> list[object]:
    """Gather what texts hang on beside the choices: the version of the code, tables of rules, installed grammars."""
    return [
        PIPELINE_VERSION,
        resources.files("codegemma.corpus").joinpath(licenses.NAMES_FILE).read_text(encoding="utf-8"),
        resources.files("codegemma.text").joinpath("languages.toml").read_text(encoding="utf-8"),
        [has_grammar(language) for language in choices.languages],
    ]


def _clear_results(out: Path) -> None:
    """Make the folder and take away what an earlier build ended with, the manifest first: a kill leaves no mix of two.

    What its steps found out stays, for this build to take up.
    """
    try:
        (out / STEPS).mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST, TRAIN_FILE, HELDOUT_FILE, DROPPED_FILE):
            remove_output(out / name)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is remembered of a text: where it stands, and what is known of it."""

    shard: int
    row: int
    sighting: Sighting


class _Build:
    """One build under way. Its methods are the stages, in the order in which `build_corpus` calls them."""

    def __init__(
        self, listings: list[Listing], choices: CorpusChoices, runner: Runner, on_progress: Progress, out: Path
    ) -> None:
        self.listings, self.choices, self.runner = listings, choices, runner
        self.on_progress, self.out = on_progress, out
        self.shards: list[IntakeTask] = []
        self.dropped: list[DroppedFile] = []
        self.kept: dict[FileKey, _Kept] = {}
        self.heldout: set[FileKey] = set()
        self.how: dict[str, str] = {}
        self.notes: list[str] = []
        self.found: list[Path] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def _run(self, function: Callable[[T], dict[str, float]], tasks: Sequence[T], stage: str) -> None:
        started_s = time.perf_counter()
        for step, seconds in run_missing(function, tasks, self.runner, self.on_progress, stage).items():
            self.seconds[step] += seconds
        self.seconds[f"{stage.replace(':', '').replace(' ', '_')}_wall_s"] += time.perf_counter() - started_s

    def _drop(self, key: FileKey, stage: str, reason: str, detail: str) -> None:
        self.dropped.append(DroppedFile(*key, stage, reason, detail, self.kept[key].sighting.size_bytes))
        del self.kept[key]
        self.heldout.discard(key)

    def _rows_by_shard(self, keys: Collection[FileKey]) -> dict[int, tuple[int, ...]]:
        """Say where the texts of some files stand; the files in their order, the shards in theirs."""
        rows: dict[int, list[int]] = {}
        for key, kept in self.kept.items():
            if key in keys:
                rows.setdefault(kept.shard, []).append(kept.row)
        return {shard: tuple(numbers) for shard, numbers in rows.items()}

    def _name(self, step: str, suffix: str, *parts: object) -> Path:
        """Name what a step finds out by all that it hangs on."""
        path = self.out / STEPS / f"{step}-{fingerprint(PIPELINE_VERSION, *parts)}{suffix}"
        self.found.append(path)
        return path

    def take_in(self) -> None:
        """Read every file, drop what holds secrets, put pseudonyms in place."""
        tables = [*_read_tables(self.choices), *describe_lists(self.choices)]
        self.shards = [
            make_intake_task(files, self.choices, self.out / STEPS, tables)
            for files in cut_shards(self.listings, self.choices.max_file_bytes)
        ]
        self._run(take_in, self.shards, "read")
        for number, shard in enumerate(self.shards):
            self.dropped += read_records(shard.dropped, DroppedFile)
            for row, sighting in enumerate(read_records(shard.sightings, Sighting)):
                self.kept[sighting.repo, sighting.path] = _Kept(number, row, sighting)

    def judge_licenses(self) -> None:
        """Drop what stands under a licence that is not accepted."""
        for key, kept in list(self.kept.items()):
            refusal = judge_license(kept.sighting.license, self.choices)
            if refusal is not None:
                self._drop(key, licenses.STAGE, *refusal)

    def judge_quality(self) -> None:
        """Drop what people did not write, and data."""
        rules = self.choices.quality_rules
        described = load_quality_rules(rules).describe()
        tasks = [
            QualityTask(shard.out, shard.size, rules, self._name("quality", ".parquet", described, shard.out.name))
            for shard in self.shards
        ]
        self._run(judge_quality, tasks, "quality")
        key_at = {(kept.shard, kept.row): key for key, kept in self.kept.items()}
        for number, task in enumerate(tasks):
            for verdict in read_records(task.out, Verdict):
                if key := key_at.get((number, verdict.row)):
                    self._drop(key, quality.STAGE, verdict.reason, verdict.detail)

    def drop_duplicates(self) -> None:
        """Keep one of each group of equal files."""
        seen = [kept.sighting for kept in self.kept.values()]
        duplicates = find_duplicates(dedup.Sighting(s.repo, s.path, s.blob, s.digest) for s in seen)
        for key, duplicate in duplicates.items():
            kept = duplicate.kept
            where = kept.path if kept.repo == key[0] else f"{kept.repo}: {kept.path}"
            self._drop(key, dedup.STAGE, duplicate.reason, f"the same as {where}")

    def drop_resembling(self, benchmarks: str, allowed: str | None) -> None:
        """Drop what is almost another file, or another repository's fork, and what holds items of benchmarks.

        `benchmarks` and `allowed` name what the operator's lists hold.
        """
        choices = self.choices
        # Within a repository near-duplicates are left alone, so with a single one there is nothing to compare.
        has_others = len(self.listings) > 1 or choices.near_duplicates is NearDuplicatePolicy.EVERYWHERE
        wants_files = has_others and choices.near_duplicates is not NearDuplicatePolicy.NONE
        wants_forks = has_others and choices.forks is not ForkPolicy.KEEP
        if not (wants_files or wants_forks or choices.decontaminate):
            return
        guarded = Guarded(choices.decontaminate, choices.decontamination_allow_list, (benchmarks, allowed))
        tasks = []
        for shard, rows in self._rows_by_shard(self.kept.keys()).items():
            texts = self.shards[shard].out
            sketches = self._name("sketches", "", texts.name, rows) if wants_files or wants_forks else None
            contaminated = None
            if choices.decontaminate:
                contaminated = self._name("benchmarks", ".parquet", texts.name, rows, benchmarks, allowed)
            tasks.append(ResemblanceTask(texts, rows, sketches, contaminated, guarded))
        key_at = {(self.shards[kept.shard].out, kept.row): key for key, kept in self.kept.items()}
        self._run(find_resemblance, tasks, "resemblance")
        if wants_forks:
            self._drop_forks([task.repositories for task in tasks if task.repositories is not None])
        if wants_files:
            self._drop_near_duplicates([task.sketches for task in tasks if task.sketches is not None])
        for task in tasks:
            found = read_records(task.contaminated, Contaminated) if task.contaminated is not None else ()
            for row, items in itertools.groupby(found, key=lambda each: each.row):
                if (key := key_at[task.texts, row]) in self.kept:
                    self._drop(
                        key,
                        decontaminate.STAGE,
                        "benchmark",
                        describe_contaminations([each.contamination for each in items]),
                    )

    def _drop_forks(self, files: Sequence[Path]) -> None:
        found = find_near_duplicate_repositories(
            read_repository_sketches(files), self.choices.min_near_duplicate_jaccard
        )
        for (repo, _), (kept, _), jaccard in found:
            note = f"{repo}: almost the same as {kept}, Jaccard index {jaccard:.2f}"
            if self.choices.forks is ForkPolicy.REPORT:
                self.notes.append(f"{note}; corpus.forks=drop leaves it out")
                continue
            for key in [key for key in self.kept if key[0] == repo]:
                self._drop(key, dedup.STAGE, "fork", note)

    def _drop_near_duplicates(self, folders: Sequence[Path]) -> None:
        shards = [read_shard(folder) for folder in folders]
        choices = self.choices
        for key, (repo, path), jaccard in find_near_duplicates(
            shards, choices.near_duplicates, choices.min_near_duplicate_jaccard
        ):
            if key in self.kept and (repo, path) in self.kept:
                where = path if repo == key[0] else f"{repo}: {path}"
                self._drop(key, dedup.STAGE, "near_duplicate", f"Jaccard index {jaccard:.2f} with {where}")

    def hold_out(self) -> None:
        """Divide each repository on its own, so that one more repository changes nothing in the others.

        What an earlier build into this folder has held out or trained on stays where it is, wherever it moves.
        """
        ledger = read_ledger(self.out / LEDGER_FILE, self.choices)
        by_repo: dict[str, list[Sighting]] = {listing.repo: [] for listing in self.listings}
        for kept in self.kept.values():
            by_repo[kept.sighting.repo].append(kept.sighting)
        for listing in self.listings:
            seen = by_repo[listing.repo]
            sizes = {sighting.path: sighting.size_bytes for sighting in seen}
            digests = {sighting.path: sighting.digest for sighting in seen}
            was_heldout = ledger.find_sides(listing.repo, digests)
            held = self._choose_heldout(listing.root, listing.repo, sizes, was_heldout)
            ledger.note(listing.repo, digests, held.paths)
            self.how[listing.repo] = held.how
            self.heldout |= {(listing.repo, path) for path in held.paths}
            if sizes and self.choices.heldout_share > 0 and not held.paths:
                self.notes.append(f"{listing.repo}: nothing could be held out, it has too few files")
        write_ledger(self.out / LEDGER_FILE, ledger)

    def _choose_heldout(
        self, root: str | None, repo: str, sizes: Mapping[str, int], was_heldout: Mapping[str, bool]
    ) -> Heldout:
        share = self.choices.heldout_share
        if not sizes or share == 0:
            return Heldout(frozenset(), "nothing")
        if was_heldout:
            return split.keep_sides(sizes, was_heldout, share, repo, self.choices.seed)
        if self.choices.heldout_by is HeldoutBy.TIME:
            if root is None:
                raise InputError(f"{repo}: not a git repository; heldout_by=time needs its history, use directory")
            return split.hold_out_newest(sizes, find_birth_times_s(Path(root)), share, repo)
        return split.hold_out_directories(sizes, share, repo, self.choices.seed)

    def drop_leaks(self, trained: Sequence[Path]) -> None:
        """Drop held-out files that a training file gives away, one of now or one of an earlier run's packs."""
        if not self.heldout:
            return
        order = [key for key in self.kept if key in self.heldout]
        sampling = choose_sampling(sum(self.kept[key].sighting.size_bytes for key in order))
        index = self._index_heldout(sampling)
        choices = narrow(self.choices, LEAK_CHOICES)
        tasks = []
        for shard, rows in self._rows_by_shard(self.kept.keys() - self.heldout).items():
            texts = self.shards[shard].out
            out = self._name("leaks", ".parquet", choices, index.name, texts.name, rows)
            tasks.append(LeakTask(texts, rows, index, sampling, choices, out))
        self._run(find_leaks, tasks, "leaks")
        found: dict[int, Leak] = {}
        for task in tasks:
            for leak in read_records(task.out, Leak):
                found[leak.heldout] = merge_leaks(found.get(leak.heldout), leak)
        for leak in compare_gone(self._list_gone(trained), index, sampling, choices):
            found[leak.heldout] = merge_leaks(found.get(leak.heldout), leak)
        for number, leak in sorted(found.items()):
            self._drop_leaked(order[number], leak)

    def _list_gone(self, trained: Sequence[Path]) -> Iterator[PackedFile]:
        """List what earlier runs were trained on and this build is not: files that were edited, moved or removed."""
        here = {(*key, kept.sighting.blob) for key, kept in self.kept.items() if key not in self.heldout}
        for packs in trained:
            for pack in read_records(packs, Pack):
                yield from (file for file in pack.files if (pack.repo, file.path, file.blob) not in here)

    def _index_heldout(self, sampling: int) -> Path:
        tasks = []
        for shard, rows in self._rows_by_shard(self.heldout).items():
            texts = self.shards[shard].out
            tasks.append(ShingleTask(texts, rows, sampling, self._name("shingles", ".npz", texts.name, rows, sampling)))
        self._run(shingle_texts, tasks, "leaks: held out")
        index = self._name("index", ".npz", [task.out.name for task in tasks])
        if not is_whole(index):
            LeakIndex([shingles for task in tasks for shingles in read_shingles(task.out)]).save(index)
        return index

    def _drop_leaked(self, key: FileKey, leak: Leak) -> None:
        if leak.jaccard >= self.choices.max_heldout_jaccard:
            detail = f"Jaccard index {leak.jaccard:.3f} with {leak.jaccard_path}"
            self._drop(key, split.STAGE, "near_duplicate_of_train", detail)
        else:
            detail = f"{leak.containment:.1%} of it stands in {leak.containment_path}"
            self._drop(key, split.STAGE, "contained_in_train", detail)

    def check_not_empty(self) -> None:
        """Refuse a build that leaves nothing to train on, and say what became of the files."""
        if len(self.kept) > len(self.heldout):
            return
        reasons = Counter(f"{drop.stage}/{drop.reason}" for drop in self.dropped).most_common(5)
        came = ", ".join(f"{count} {reason}" for reason, count in reasons)
        wanted = ", ".join(self.choices.languages)
        raise InputError(f"nothing left to train on: dropped {came}; wanted {wanted} files, see corpus.languages")

    def write(self) -> dict[str, int]:
        """Write both sides and the dropped files; return the size of every file in bytes, by its name."""
        for name, keys in ((TRAIN_FILE, self.kept.keys() - self.heldout), (HELDOUT_FILE, self.heldout)):
            tasks = []
            for shard, rows in self._rows_by_shard(keys).items():
                texts = self.shards[shard].out
                tasks.append(SelectTask(texts, rows, self._name("files", ".parquet", texts.name, rows)))
            self._run(select_texts, tasks, name.removesuffix(".parquet").replace("files-", "write "))
            publish([task.out for task in tasks], self.out / name)
        dropped = sorted(self.dropped, key=lambda drop: (drop.repo, drop.path, drop.stage))
        write_records(self.out / DROPPED_FILE, dropped, DroppedFile)
        shard_files = [file for shard in self.shards for file in (shard.out, shard.sightings, shard.dropped)]
        sweep(self.out / STEPS, [*shard_files, *self.found])
        return measure_parts(self.out, (TRAIN_FILE, HELDOUT_FILE, DROPPED_FILE))

    def report(self, key: str, written: dict[str, int], lists: Sequence[str]) -> CorpusReport:
        """Count everything, and check that every listed file was either kept or dropped."""
        files_listed = sum(len(listing.entries) for listing in self.listings)
        stages = count_stages(STAGES, files_listed, self.dropped)
        if stages[-1].files_kept != sum(count_records(self.out / name) for name in (TRAIN_FILE, HELDOUT_FILE)):
            raise AssertionError(f"files were lost: {stages}, but {len(self.kept)} were kept")
        if self.heldout == set() and self.how and self.choices.heldout_share > 0 and not self.notes:
            self.notes.append("every held-out file was given away by a training file: nothing is held out")
        sightings = {key: kept.sighting for key, kept in self.kept.items()}
        return CorpusReport(
            fingerprint=key,
            repos=tuple(RepoCount(x.repo, x.commit, len(x.entries), self.how[x.repo]) for x in self.listings),
            stages=stages,
            dropped=count_drops(self.dropped),
            licenses=count_licenses((seen.license, seen.size_bytes) for seen in sightings.values()),
            files_train=len(sightings) - len(self.heldout),
            files_heldout=len(self.heldout),
            bytes_train=sum(seen.size_bytes for key, seen in sightings.items() if key not in self.heldout),
            bytes_heldout=sum(sightings[key].size_bytes for key in self.heldout),
            notes=tuple(self.notes),
            lists=tuple(lists),
            redactions=count_redactions(seen.redactions for seen in sightings.values()),
            seconds=dict(sorted(self.seconds.items())),
            parquet_bytes=written,
        )
