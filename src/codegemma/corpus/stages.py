"""The stages of a corpus build, in order: each runs its step over all shards and drops what it finds.

**In**: listings and `CorpusChoices`.
**Out**: the files of both sides, the dropped ones, and the report of what became of them.
**Not**: which lists the operator gave, or whether there is anything to do (`pipeline.py`). No text is held here.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from codegemma.corpus import block_list, decontaminate, dedup, licenses, quality, read, safety, split
from codegemma.corpus.census import Census, Drop, Mask
from codegemma.corpus.choices import (
    CorpusChoices,
    ExactDuplicatePolicy,
    ForkPolicy,
    HeldoutBy,
    NearDuplicatePolicy,
    narrow,
)
from codegemma.corpus.copies import UNREACHABLE
from codegemma.corpus.decontaminate import describe_contaminations
from codegemma.corpus.dedup import find_duplicates
from codegemma.corpus.entries import Listing
from codegemma.corpus.history import find_birth_times_s
from codegemma.corpus.intake import describe_lists, has_unreached, make_intake_task, take_in
from codegemma.corpus.judge import (
    LEAK_CHOICES,
    IndexTask,
    Leak,
    LeakTask,
    QualityTask,
    SelectTask,
    ShingleTask,
    Verdict,
    compare_gone,
    find_leaks,
    index_shingles,
    judge_license,
    judge_quality,
    merge_leaks,
    select_texts,
    shingle_texts,
)
from codegemma.corpus.leaks import choose_sampling
from codegemma.corpus.ledger import LEDGER_FILE, read_ledger, write_ledger
from codegemma.corpus.near_duplicates import find_near_duplicate_repositories, find_near_duplicates
from codegemma.corpus.partition import cut_shards
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.report import (
    CorpusReport,
    RepoCount,
    count_drops,
    count_kinds,
    count_licenses,
    count_redactions,
    count_stages,
)
from codegemma.corpus.resemblance import Contaminated, Guarded, ResemblanceTask, find_resemblance
from codegemma.corpus.sketch_shards import read_repository_sketches, read_shard
from codegemma.corpus.split import Heldout
from codegemma.errors import InputError
from codegemma.recipe import fingerprint
from codegemma.records import BuildFile, DroppedFile, FileReference, Pack, PackedFile
from codegemma.runner import Progress, Runner
from codegemma.shards import count_records, measure_parts, read_records, write_records
from codegemma.steps import STEPS_FOLDER, Task, is_whole, publish, run_missing, sweep
from codegemma.text.languages import DOCUMENT_LANGUAGES, has_grammar

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
PIPELINE_VERSION = 8

T = TypeVar("T", bound=Task)


def read_tables(choices: CorpusChoices) -> list[object]:
    """Gather what texts hang on beside the choices: the version of the code, tables of rules, installed grammars."""
    return [
        PIPELINE_VERSION,
        resources.files("codegemma.corpus").joinpath(licenses.NAMES_FILE).read_text(encoding="utf-8"),
        resources.files("codegemma.text").joinpath("languages.toml").read_text(encoding="utf-8"),
        [has_grammar(language) for language in choices.languages],
    ]


class _Shard(NamedTuple):
    """Where the texts and build files of a shard stand, and how many files it was made of."""

    texts: Path
    build_files: Path
    files: int


class _Repository(NamedTuple):
    """What is remembered of a listing."""

    repo: str
    commit: str | None
    root: str | None
    files_listed: int


class Build:
    """One build under way. Its methods are the stages, in the order in which `build_corpus` calls them."""

    census: Census

    def __init__(self, choices: CorpusChoices, runner: Runner, on_progress: Progress, out: Path) -> None:
        """Begin a build in `out`."""
        self.choices, self.runner = choices, runner
        self.on_progress, self.out = on_progress, out
        self.shards: list[_Shard] = []
        # Numbers of the copies that went, and of the text that each went for.
        self.references: dict[int, int] = {}
        self.repositories: list[_Repository] = []
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

    def take_in(self, listings: Sequence[Listing], *, has_stored: bool) -> None:
        """Read every file, drop what holds secrets, put pseudonyms in place; of stores, ask for what was missing."""
        tables = fingerprint(read_tables(self.choices), describe_lists(self.choices))
        tasks = [
            make_intake_task(files, self.choices, self.out / STEPS, tables)
            for files in cut_shards(listings, self.choices.max_file_bytes)
        ]
        for task in tasks if has_stored else ():
            if is_whole(task.out) and has_unreached(task):
                task.out.unlink()
        self._run(take_in, tasks, "read")
        self.shards = [_Shard(task.out, task.build_files, task.size) for task in tasks]
        self.found += [file for task in tasks for file in task.files_out]
        self.repositories = [_Repository(x.repo, x.commit, x.root, len(x.entries)) for x in listings]
        self.census = Census([task.sightings for task in tasks], [task.dropped for task in tasks])

    def judge_licenses(self) -> None:
        """Drop what stands under a licence that is not accepted."""
        for license, numbers in self.census.list_values("license"):
            refusal = judge_license(license, self.choices)
            if refusal is not None:
                self.census.drop(licenses.STAGE, (Drop(number, *refusal) for number in numbers.tolist()))

    def judge_quality(self) -> None:
        """Drop what people did not write, and data."""
        rules, english = self.choices.quality_rules, self.choices.english
        described = load_quality_rules(rules).describe()
        tasks = [
            QualityTask(texts, files, rules, english, self._name("quality", ".parquet", described, english, texts.name))
            for texts, _, files in self.shards
        ]
        self._run(judge_quality, tasks, "quality")
        verdicts = (
            Drop(self.census.number_at(shard, verdict.row), verdict.reason, verdict.detail)
            for shard, task in enumerate(tasks)
            for verdict in read_records(task.out, Verdict)
        )
        self.census.drop(quality.STAGE, verdicts)

    def drop_duplicates(self) -> None:
        """Keep one of each group of equal files."""
        repeated = self.census.list_repeated("digest")
        seen = self.census.list_columns(("repo", "path", "blob", "digest"), repeated)
        numbers = {}
        sightings = []
        for number, fields in zip(repeated.tolist(), seen, strict=True):
            numbers[fields[:2]] = number
            sightings.append(dedup.Sighting(*fields))
        drops = []
        is_within = self.choices.exact_duplicates is ExactDuplicatePolicy.WITHIN_REPOS
        for key, duplicate in find_duplicates(sightings, within_repos=is_within).items():
            kept = duplicate.kept
            self.references[numbers[key]] = numbers[kept.repo, kept.path]
            where = kept.path if kept.repo == key[0] else f"{kept.repo}: {kept.path}"
            drops.append(Drop(numbers[key], duplicate.reason, f"the same as {where}"))
        self.census.drop(dedup.STAGE, drops)

    def drop_resembling(self, benchmarks: str, allowed: str | None) -> None:
        """Drop what is almost another file, or another repository's fork, and what holds items of benchmarks.

        `benchmarks` and `allowed` name what the operator's lists hold.
        """
        choices = self.choices
        # Within a repository near-duplicates are left alone, so with a single one there is nothing to compare.
        has_others = (
            len(self.repositories) > 1
            or choices.near_duplicates is NearDuplicatePolicy.EVERYWHERE
            or bool(self._find_collections())
        )
        wants_files = has_others and choices.near_duplicates is not NearDuplicatePolicy.NONE
        wants_forks = has_others and choices.forks is not ForkPolicy.KEEP
        if not (wants_files or wants_forks or choices.decontaminate):
            return
        guarded = Guarded(choices.decontaminate, choices.decontamination_allow_list, (benchmarks, allowed))
        tasks: dict[int, ResemblanceTask] = {}
        for texts, rows, shard in self._list_texts(self.census.is_kept):
            sketches = self._name("sketches", "", texts.name, rows) if wants_files or wants_forks else None
            contaminated = None
            if choices.decontaminate:
                contaminated = self._name("benchmarks", ".parquet", texts.name, rows, benchmarks, allowed)
            tasks[shard] = ResemblanceTask(texts, rows, sketches, contaminated, guarded)
        self._run(find_resemblance, list(tasks.values()), "resemblance")
        if wants_forks:
            self._drop_forks([task.repositories for task in tasks.values() if task.repositories is not None])
        if wants_files:
            self._drop_near_duplicates([task.sketches for task in tasks.values() if task.sketches is not None])
        contaminations = (
            Drop(
                self.census.number_at(shard, row),
                "benchmark",
                describe_contaminations([found.contamination for found in items]),
            )
            for shard, task in tasks.items()
            if task.contaminated is not None
            for row, items in groupby(read_records(task.contaminated, Contaminated), key=lambda found: found.row)
        )
        self.census.drop(decontaminate.STAGE, contaminations)

    def _drop_forks(self, files: Sequence[Path]) -> None:
        found = find_near_duplicate_repositories(
            read_repository_sketches(files), self.choices.min_near_duplicate_jaccard
        )
        forks = {
            repo: f"{repo}: almost the same as {kept}, Jaccard index {jaccard:.2f}"
            for (repo, _), (kept, _), jaccard in found
        }
        if self.choices.forks is ForkPolicy.REPORT:
            self.notes += [f"{note}; corpus.forks=drop leaves it out" for note in forks.values()]
        elif forks:
            for repo, numbers in self.census.list_values("repo"):
                if note := forks.get(repo):
                    self.census.drop(dedup.STAGE, (Drop(number, "fork", note) for number in numbers.tolist()))

    def _drop_near_duplicates(self, folders: Sequence[Path]) -> None:
        shards = [read_shard(folder) for folder in folders]
        choices = self.choices
        policy, border = choices.near_duplicates, choices.min_near_duplicate_jaccard
        found = list(find_near_duplicates(shards, policy, border, self._find_collections()))
        numbers = self.census.find_numbers({key for each in found for key in (each.key, each.kept)})
        drops = []
        for key, (repo, path), jaccard in found:
            if self.census.is_kept[numbers[repo, path]]:
                where = path if repo == key[0] else f"{repo}: {path}"
                drops.append(Drop(numbers[key], "near_duplicate", f"Jaccard index {jaccard:.2f} with {where}"))
                self.references[numbers[key]] = numbers[repo, path]
        self.census.drop(dedup.STAGE, drops)

    def _find_collections(self) -> set[str]:
        """Name the listings of documents: none of them needs the others to stay, as the files of a repository do."""
        kept = self.census.list_columns(("repo", "language"), self.census.find(self.census.is_kept))
        return {repo for repo, language in kept if language in DOCUMENT_LANGUAGES}

    def hold_out(self) -> None:
        """Divide each repository on its own, so that one more repository changes nothing in the others.

        What an earlier build into this folder has held out or trained on stays where it is, wherever it moves.
        """
        ledger = read_ledger(self.out / LEDGER_FILE, self.choices)
        numbers_of = dict(self.census.list_values("repo"))
        for repo, _, root, _ in self.repositories:
            numbers = numbers_of.get(repo, self.census.find(np.zeros(0, np.bool_)))
            seen = list(self.census.list_columns(("path", "size_bytes", "digest"), numbers))
            sizes = {path: size_bytes for path, size_bytes, _ in seen}
            digests = {path: digest for path, _, digest in seen}
            was_heldout = ledger.find_sides(repo, digests)
            held = self._choose_heldout(root, repo, sizes, was_heldout)
            ledger.note(repo, digests, held.paths)
            self.how[repo] = held.how
            self.census.is_heldout[numbers] = [path in held.paths for path, _, _ in seen]
            if sizes and self.choices.heldout_share > 0 and not held.paths:
                self.notes.append(f"{repo}: nothing could be held out, it has too few files")
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
        order = self.census.find(self.census.is_heldout)
        if not len(order):
            return
        sampling = choose_sampling(int(self.census.size_bytes[order].sum()))
        index = self._index_heldout(sampling)
        choices = narrow(self.choices, LEAK_CHOICES)
        tasks = []
        for texts, rows, _ in self._list_texts(self.census.is_train):
            out = self._name("leaks", ".parquet", choices, index.name, texts.name, rows)
            tasks.append(LeakTask(texts, rows, index, sampling, choices, out))
        self._run(find_leaks, tasks, "leaks")
        found: dict[int, Leak] = {}
        for task in tasks:
            for leak in read_records(task.out, Leak):
                found[leak.heldout] = merge_leaks(found.get(leak.heldout), leak)
        if trained:
            for leak in compare_gone(self._list_gone(trained), index, sampling, choices):
                found[leak.heldout] = merge_leaks(found.get(leak.heldout), leak)
        leaks = sorted(found.items())
        self.census.drop(split.STAGE, (Drop(int(order[number]), *self._judge_leak(leak)) for number, leak in leaks))

    def _list_gone(self, trained: Sequence[Path]) -> Iterator[PackedFile]:
        """List what earlier runs were trained on and this build is not: files that were edited, moved or removed."""
        here = set(self.census.list_columns(("repo", "path", "blob"), self.census.find(self.census.is_train)))
        for packs in trained:
            for pack in read_records(packs, Pack):
                yield from (file for file in pack.files if (pack.repo, file.path, file.blob) not in here)

    def _index_heldout(self, sampling: int) -> Path:
        tasks = []
        for texts, rows, _ in self._list_texts(self.census.is_heldout):
            tasks.append(ShingleTask(texts, rows, sampling, self._name("shingles", ".npz", texts.name, rows, sampling)))
        self._run(shingle_texts, tasks, "leaks: held out")
        shingles = tuple(task.out for task in tasks)
        index = IndexTask(shingles, self._name("index", ".npz", [path.name for path in shingles]))
        self._run(index_shingles, [index], "leaks: index")
        return index.out

    def _judge_leak(self, leak: Leak) -> tuple[str, str]:
        if leak.jaccard >= self.choices.max_heldout_jaccard:
            return "near_duplicate_of_train", f"Jaccard index {leak.jaccard:.3f} with {leak.jaccard_path}"
        return "contained_in_train", f"{leak.containment:.1%} of it stands in {leak.containment_path}"

    def check_not_empty(self) -> None:
        """Refuse a build that leaves nothing to train on, and say what became of the files."""
        if self.census.is_train.any():
            return
        drops = sorted(count_drops(self.census.list_drops()), key=lambda drop: -drop.files)[:5]
        came = ", ".join(f"{drop.files} {drop.stage}/{drop.reason}" for drop in drops)
        wanted = ", ".join(self.choices.languages)
        raise InputError(f"nothing left to train on: dropped {came}; wanted {wanted} files, see corpus.languages")

    def write(self) -> dict[str, int]:
        """Write both sides and the dropped files; return the size of every file in bytes, by its name."""
        sides = {TRAIN_FILE: self.census.is_train, HELDOUT_FILE: self.census.is_heldout}
        tasks = {
            name: [
                SelectTask(texts, rows, self._name("files", ".parquet", texts.name, rows))
                for texts, rows, _ in self._list_texts(chosen)
            ]
            for name, chosen in sides.items()
        }
        self._run(select_texts, [task for each in tasks.values() for task in each], "write")
        for name, each in tasks.items():
            publish([task.out for task in each], self.out / name)
        write_records(self.out / DROPPED_FILE, self.census.list_drops(), DroppedFile)
        build_files = (file for shard in self.shards for file in read_records(shard.build_files, BuildFile))
        write_records(self.out / BUILD_FILES, build_files, BuildFile)
        write_records(self.out / REFERENCES, self._list_references(), FileReference)
        sweep(self.out / STEPS, self.found)
        return measure_parts(self.out, OUTPUTS)

    def _list_references(self) -> Iterator[FileReference]:
        """List the copies that went and the file that stays for each, also where that was dropped as a copy itself."""
        pairs = []
        for copy, kept in self.references.items():
            while kept in self.references:
                kept = self.references[kept]  # noqa: PLW2901 - one step along the chain
            if self.census.is_kept[kept]:
                pairs.append((copy, kept))
        numbers = np.array(pairs, np.int64).reshape(-1, 2)
        names = [self.census.list_columns(("repo", "path"), numbers[:, end]) for end in (0, 1)]
        yield from (FileReference(*copy, *kept) for copy, kept in sorted(zip(*names, strict=True)))

    def report(self, key: str, written: dict[str, int], lists: Sequence[str]) -> CorpusReport:
        """Count everything, and check that every listed file was either kept or dropped."""
        census, repositories = self.census, self.repositories
        dropped = count_drops(census.list_drops())
        stages = count_stages(STAGES, sum(x.files_listed for x in repositories), dropped)
        kept = census.find(census.is_kept)
        if stages[-1].files_kept != sum(count_records(self.out / name) for name in (TRAIN_FILE, HELDOUT_FILE)):
            raise AssertionError(f"files were lost: {stages}, but {len(kept)} were kept")
        if not census.is_heldout.any() and self.how and self.choices.heldout_share > 0 and not self.notes:
            self.notes.append("every held-out file was given away by a training file: nothing is held out")
        unreached = sum(drop.files for drop in dropped if drop.reason == UNREACHABLE)
        if unreached:
            self.notes.append(f"{unreached} files or objects could not be reached in their stores: build again")
        return CorpusReport(
            fingerprint=fingerprint(key, "unreached") if unreached else key,  # the next build looks again
            repos=tuple(RepoCount(x.repo, x.commit, x.files_listed, self.how[x.repo]) for x in repositories),
            stages=stages,
            dropped=dropped,
            kinds=count_kinds(
                (kind, size_bytes, is_heldout)
                for (kind, size_bytes), is_heldout in zip(
                    census.list_columns(("kind", "size_bytes"), kept), census.is_heldout[kept].tolist(), strict=True
                )
            ),
            licenses=count_licenses(census.list_columns(("license", "size_bytes"), kept)),
            files_train=int(census.is_train.sum()),
            files_heldout=int(census.is_heldout.sum()),
            bytes_train=int(census.size_bytes[census.is_train].sum()),
            bytes_heldout=int(census.size_bytes[census.is_heldout].sum()),
            notes=tuple(self.notes),
            lists=tuple(lists),
            redactions=count_redactions(notes for (notes,) in census.list_columns(("redactions",), kept)),
            seconds=dict(sorted(self.seconds.items())),
            parquet_bytes=written,
        )
