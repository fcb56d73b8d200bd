"""The stages of a corpus build up to its copies, in order: each runs its step over all shards and drops what it finds.

**In**: listings and `CorpusChoices`.
**Out**: a census of what stays, and which file each dropped copy stands for.
**Not**: which lists the operator gave, or whether there is anything to do (`pipeline.py`); which side a file is on
(`border.py`). No text is held here.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from codegemma.corpus import decontaminate, dedup, licenses, quality
from codegemma.corpus.census import Census, Drop
from codegemma.corpus.choices import ExactDuplicatePolicy, ForkPolicy, NearDuplicatePolicy
from codegemma.corpus.decontaminate import describe_contaminations
from codegemma.corpus.dedup import find_duplicates
from codegemma.corpus.entries import Listing
from codegemma.corpus.intake import describe_lists, has_unreached, make_intake_task, take_in
from codegemma.corpus.judge import QualityTask, Verdict, judge_license, judge_quality
from codegemma.corpus.near_duplicates import find_near_duplicate_repositories, find_near_duplicates
from codegemma.corpus.partition import cut_shards
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.resemblance import Contaminated, Guarded, ResemblanceTask, find_resemblance
from codegemma.corpus.sketch_shards import read_repository_sketches, read_shard
from codegemma.corpus.under_way import STEPS, ListedRepository, Progressing, Shard, read_tables
from codegemma.recipe import fingerprint
from codegemma.runner import start_workers
from codegemma.shards import read_records
from codegemma.steps import is_whole
from codegemma.text.languages import DOCUMENT_LANGUAGES

# Of so much, every worker will have some, whatever is refused unread; its start hides behind the cutting of shards.
MANY_BYTES = 32 * 2**20


class Judging(Progressing):
    """The methods are the stages, in the order in which `build_corpus` calls them."""

    def take_in(self, listings: Sequence[Listing], *, has_stored: bool) -> None:
        """Read every file, drop what holds secrets, put pseudonyms in place; of stores, ask for what was missing."""
        if sum(entry.size_bytes for listing in listings for entry in listing.entries) >= MANY_BYTES:
            start_workers(self.runner, take_in.__module__)
        tables = fingerprint(read_tables(self.choices), describe_lists(self.choices))
        tasks = [
            make_intake_task(files, self.choices, self.out / STEPS, tables)
            for files in cut_shards(listings, self.choices.max_file_bytes)
        ]
        for task in tasks if has_stored else ():
            if is_whole(task.out) and has_unreached(task):
                task.out.unlink()
        self._run(take_in, tasks, "read")
        self.shards = [Shard(task.out, task.build_files, task.size) for task in tasks]
        self.found += [file for task in tasks for file in task.files_out]
        self.repositories = [ListedRepository(x.repo, x.commit, x.root, len(x.entries)) for x in listings]
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
                # It is what tells that the task is done, so that its name says what else was to be written.
                wanted = sketches and sketches.name
                contaminated = self._name("benchmarks", ".parquet", texts.name, rows, benchmarks, allowed, wanted)
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
