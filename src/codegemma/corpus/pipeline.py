"""Builds the corpus: reads repositories, refuses what must not be trained on, and divides training from held-out files.

**In**: repositories and `CorpusChoices`.
**Out**: `files-train.parquet`, `files-heldout.parquet`, `dropped.parquet`, and last `corpus.json`, the manifest.
**Not**: packs; `pack/` makes them from these files. The files have the same bytes for any number of workers.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import xxhash

from codegemma.corpus import dedup, licenses, quality, read, safety, split
from codegemma.corpus.choices import CorpusChoices, HeldoutBy
from codegemma.corpus.dedup import find_duplicates, hash_shingles
from codegemma.corpus.entries import Listing
from codegemma.corpus.history import find_birth_times_s
from codegemma.corpus.inputs import list_repositories
from codegemma.corpus.inspect import FileKey, Intake, Kept, stream_kept
from codegemma.corpus.leaks import LeakIndex, Likeness
from codegemma.corpus.opt_out import read_opt_out, refuse_opted_out
from codegemma.corpus.personal import describe_key
from codegemma.corpus.report import (
    MANIFEST,
    CorpusReport,
    RepoCount,
    count_drops,
    count_licenses,
    count_stages,
    read_manifest,
    write_manifest,
)
from codegemma.corpus.split import Heldout
from codegemma.errors import InputError, OutputError
from codegemma.recipe import fingerprint
from codegemma.records import DroppedFile, SourceFile
from codegemma.runner import Progress, ignore_progress, map_ordered
from codegemma.shards import read_records, write_records
from codegemma.text.languages import has_grammar

TRAIN_FILE = "files-train.parquet"
HELDOUT_FILE = "files-heldout.parquet"
DROPPED_FILE = "dropped.parquet"
SPOOL_FILE = ".files-read.parquet"
STAGES = (read.STAGE, licenses.STAGE, safety.STAGE, quality.STAGE, dedup.STAGE, split.STAGE)
# Part of the fingerprint: raise it when the same choices and files come to give another corpus.
PIPELINE_VERSION = 3


def build_corpus(
    repos: Sequence[Path],
    out: Path,
    choices: CorpusChoices,
    workers: int = 1,
    on_progress: Progress = ignore_progress,
    exclude: Path | None = None,
) -> CorpusReport:
    """Build the corpus of some repositories in `out`, or find that it is there already.

    `exclude` is a folder that belongs to no repository although it may lie in one: the whole output of a run that `out`
    is a part of, or else `out`. What is written there between two builds must not look like a change of the repository.

    Raises:
        InputError: a repository that cannot be used, or nothing left to train on.
        OutputError: `out` cannot be written, or is itself a repository to read.
        WorkerError: a worker process died.
    """
    exclude = out if exclude is None else exclude
    if Path(exclude).resolve() in {Path(repo).resolve() for repo in repos}:
        raise OutputError(f"{exclude}: is the repository itself; choose a folder of its own, inside it or elsewhere")
    opt_out = read_opt_out(choices.opt_out)
    listings = [
        refuse_opted_out(listing, opt_out)
        for listing in list_repositories(repos, exclude, None, choices.parquet_columns)
    ]
    key = _fingerprint_inputs(listings, choices)
    earlier = read_manifest(out)
    if earlier is not None and earlier.fingerprint == key:
        return earlier
    _clear_folder(out)
    build = _Build(listings, choices, workers, on_progress, out / SPOOL_FILE)
    try:
        build.inspect()
        build.drop_duplicates()
        build.hold_out(repos)
        build.drop_leaks()
        build.check_not_empty()
        written = build.write(out)
    finally:
        build.spool.unlink(missing_ok=True)
    report = build.report(key, written, lists=(opt_out.describe(), describe_key(choices.pseudonym_key_file)))
    write_manifest(out, report)
    return report


def _fingerprint_inputs(listings: Sequence[Listing], choices: CorpusChoices) -> str:
    contents = xxhash.xxh3_128()
    for listing in listings:
        for entry in listing.entries:
            contents.update(f"{entry.path}\0{entry.size_bytes}\0{entry.stamp}\0{entry.refusal}\n".encode())
    # The key's digest, so that a changed key is another build and no file holds the key.
    pseudonyms = describe_key(choices.pseudonym_key_file)
    tables = [
        pseudonyms,
        resources.files("codegemma.corpus").joinpath(safety.RULES_FILE).read_text(encoding="utf-8"),
        resources.files("codegemma.corpus").joinpath(licenses.NAMES_FILE).read_text(encoding="utf-8"),
        resources.files("codegemma.text").joinpath("languages.toml").read_text(encoding="utf-8"),
        [has_grammar(language) for language in choices.languages],
    ]
    named = [(listing.repo, listing.commit, len(listing.entries)) for listing in listings]
    return fingerprint(PIPELINE_VERSION, choices, tables, named, contents.hexdigest())


def _clear_folder(out: Path) -> None:
    """Make the folder and take away what an earlier build left, the manifest first: a kill leaves no mix of two."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (MANIFEST, TRAIN_FILE, HELDOUT_FILE, DROPPED_FILE, SPOOL_FILE):
            (out / name).unlink(missing_ok=True)
            for left_by_a_kill in out.glob(f".{name}.*.tmp"):
                left_by_a_kill.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


class _Build:
    """One build under way. Its methods are the stages, in the order in which `build_corpus` calls them."""

    def __init__(
        self, listings: list[Listing], choices: CorpusChoices, workers: int, on_progress: Progress, spool: Path
    ) -> None:
        self.listings, self.choices, self.workers = listings, choices, workers
        self.on_progress, self.spool = on_progress, spool
        self.intake = Intake()
        self.kept: dict[FileKey, Kept] = {}
        self.heldout: set[FileKey] = set()
        self.how: dict[str, str] = {}
        self.notes: list[str] = []
        self.wall_s: dict[str, float] = {}

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        self.wall_s[f"{step}_wall_s"] = time.perf_counter() - started_s

    def _drop(self, key: FileKey, stage: str, reason: str, detail: str) -> None:
        self.intake.dropped.append(DroppedFile(*key, stage, reason, detail, self.kept[key].size_bytes))
        del self.kept[key]
        self.heldout.discard(key)

    def inspect(self) -> None:
        """Read and judge every file; the texts wait in the spool, so that memory does not grow with the corpus."""
        with self._timed("inspect"):
            stream = stream_kept(self.listings, self.choices, self.workers, self.intake, self.on_progress)
            write_records(self.spool, stream, SourceFile)
        self.kept = {kept.key: kept for kept in self.intake.kept}

    def drop_duplicates(self) -> None:
        """Keep one of each group of equal files."""
        duplicates = find_duplicates(kept.sighting for kept in self.kept.values())
        for key, duplicate in duplicates.items():
            kept = duplicate.kept
            where = kept.path if kept.repo == key[0] else f"{kept.repo}: {kept.path}"
            self._drop(key, dedup.STAGE, duplicate.reason, f"the same as {where}")

    def hold_out(self, repos: Sequence[Path]) -> None:
        """Divide each repository on its own, so that one more repository changes nothing in the others."""
        with self._timed("split"):
            sizes_by_repo: dict[str, dict[str, int]] = {listing.repo: {} for listing in self.listings}
            for (repo, path), kept in self.kept.items():
                sizes_by_repo[repo][path] = kept.size_bytes
            for root, listing in zip(repos, self.listings, strict=True):
                sizes = sizes_by_repo[listing.repo]
                held = self._choose_heldout(root, listing.repo, sizes)
                self.how[listing.repo] = held.how
                self.heldout |= {(listing.repo, path) for path in held.paths}
                if sizes and self.choices.heldout_share > 0 and not held.paths:
                    self.notes.append(f"{listing.repo}: nothing could be held out, it has too few files")

    def _choose_heldout(self, root: Path, repo: str, sizes: Mapping[str, int]) -> Heldout:
        share = self.choices.heldout_share
        if not sizes or share == 0:
            return Heldout(frozenset(), "nothing")
        if self.choices.heldout_by is HeldoutBy.TIME:
            return split.hold_out_newest(sizes, find_birth_times_s(Path(root)), share, repo)
        return split.hold_out_directories(sizes, share, repo, self.choices.seed)

    def drop_leaks(self) -> None:
        """Drop held-out files that a training file gives away."""
        with self._timed("leaks"):
            order = [key for key in self.kept if key in self.heldout]
            index = LeakIndex([hash_shingles(file.text) for file in self._read_spool(self.heldout)])
            train = [key for key in self.kept if key not in self.heldout]
            texts = (file.text for file in self._read_spool(set(train)))
            hashed = map_ordered(hash_shingles, texts, self.workers, self.on_progress, "leaks", len(train))
            for (_, path), shingles in zip(train, hashed, strict=True):
                index.compare(path, shingles)
        for key, likeness in zip(order, index.nearest(), strict=True):
            self._drop_if_leaked(key, likeness)

    def _drop_if_leaked(self, key: FileKey, likeness: Likeness) -> None:
        if likeness.jaccard >= self.choices.max_heldout_jaccard:
            detail = f"Jaccard index {likeness.jaccard:.3f} with {likeness.jaccard_path}"
            self._drop(key, split.STAGE, "near_duplicate_of_train", detail)
        elif likeness.containment >= self.choices.max_heldout_containment:
            detail = f"{likeness.containment:.1%} of it stands in {likeness.containment_path}"
            self._drop(key, split.STAGE, "contained_in_train", detail)

    def check_not_empty(self) -> None:
        """Refuse a build that leaves nothing to train on, and say what became of the files."""
        if len(self.kept) > len(self.heldout):
            return
        reasons = Counter(f"{drop.stage}/{drop.reason}" for drop in self.intake.dropped).most_common(5)
        came = ", ".join(f"{count} {reason}" for reason, count in reasons)
        wanted = ", ".join(self.choices.languages)
        raise InputError(f"nothing left to train on: dropped {came}; wanted {wanted} files, see corpus.languages")

    def write(self, out: Path) -> dict[str, int]:
        """Write both sides and the dropped files; return how many records each file holds."""
        with self._timed("write"):
            dropped = sorted(self.intake.dropped, key=lambda drop: (drop.repo, drop.path, drop.stage))
            sides = {TRAIN_FILE: self.kept.keys() - self.heldout, HELDOUT_FILE: self.heldout}
            written = {
                name: write_records(out / name, self._read_spool(keys), SourceFile) for name, keys in sides.items()
            }
            written[DROPPED_FILE] = write_records(out / DROPPED_FILE, dropped, DroppedFile)
        return written

    def _read_spool(self, keys: set[FileKey]) -> Iterator[SourceFile]:
        return (file for file in read_records(self.spool, SourceFile) if (file.repo, file.path) in keys)

    def report(self, key: str, written: Mapping[str, int], lists: tuple[str, ...]) -> CorpusReport:
        """Count everything, and check that every listed file was either kept or dropped."""
        files_listed = sum(len(listing.entries) for listing in self.listings)
        stages = count_stages(STAGES, files_listed, self.intake.dropped)
        if stages[-1].files_kept != written[TRAIN_FILE] + written[HELDOUT_FILE]:
            raise AssertionError(f"files were lost: {stages} but {written} were written")
        if self.heldout == set() and self.how and self.choices.heldout_share > 0 and not self.notes:
            self.notes.append("every held-out file was given away by a training file: nothing is held out")
        out = self.spool.parent
        return CorpusReport(
            fingerprint=key,
            repos=tuple(RepoCount(x.repo, x.commit, len(x.entries), self.how[x.repo]) for x in self.listings),
            stages=stages,
            dropped=count_drops(self.intake.dropped),
            licenses=count_licenses((kept.license, kept.size_bytes) for kept in self.kept.values()),
            files_train=written[TRAIN_FILE],
            files_heldout=written[HELDOUT_FILE],
            bytes_train=sum(kept.size_bytes for k, kept in self.kept.items() if k not in self.heldout),
            bytes_heldout=sum(self.kept[k].size_bytes for k in self.heldout),
            notes=tuple(self.notes),
            lists=lists,
            redactions=dict(sorted(self.intake.redactions.items())),
            seconds={**self.wall_s, **self.intake.cpu_s},
            parquet_bytes={name: (out / name).stat().st_size for name in written},
        )
