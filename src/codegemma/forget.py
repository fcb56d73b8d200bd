"""Removes a repository, or files of it, from a data folder, and keeps it out of later builds into that folder.

**In**: a data folder, its sources not needed; a `Removal`.
**Out**: a `Forgetting`: what went. The parts that held nothing of it keep their bytes.
**Not**: models: what was trained on the old packs must be trained again; `data_hash` tells which runs those are.

A kill leaves a folder that neither `build` nor `train` takes up; the same command again, or any other, finishes it:
what will stand at the end is written first (`forgetting/`), then the manifests go, then the files; manifests come last.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codegemma import round_files
from codegemma.build import REPORT_FILE, BuildReport, write_report
from codegemma.corpus import pipeline as corpus_pipeline
from codegemma.corpus import removal as corpus_removal
from codegemma.corpus import report as corpus_report
from codegemma.corpus.forgotten import Removal, add_removal, covers, make_matcher, read_forgotten, write_forgotten
from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole
from codegemma.folders import REMOVAL_FILE, REMOVAL_FOLDER, hold_folder, refuse_half_removed
from codegemma.pack import pipeline as pack_pipeline
from codegemma.pack import removal as pack_removal
from codegemma.pack import report as pack_report
from codegemma.recipe import fingerprint, from_plain, to_plain
from codegemma.records import Split
from codegemma.removal import list_step_groups, remove_leftovers
from codegemma.round_files import RoundsRemoval
from codegemma.shards import count_records, hash_files, list_parts, measure_parts
from codegemma.steps import remove_output
from codegemma.train.manifest import ROUNDS_FOLDER, RUN_FILE


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What a removal takes away, or took.

    `files`, `packs_removed` and `packs_changed` count by split. `names` counts rows of lists that name files without
    their text. `parts` are the files that are written anew or go, `step_files` counts those of `steps/` that go.
    `copies` counts pairs of the same text of which one goes: the other stays, or may come back. `data_hash` is what
    `run.json` says of the training packs as they were (`identity.data`); `runs` are runs beside the folder that say it.
    `rounds` are those of the job that the data folder is a part of, `job` that job's folder.
    """

    repo: str
    patterns: tuple[str, ...]
    files: dict[str, int]
    size_bytes: int
    packs_removed: dict[str, int]
    packs_changed: dict[str, int]
    names: int
    copies: int
    parts: tuple[str, ...]
    step_files: int
    data_hash: str
    runs: tuple[str, ...]
    job: str | None
    rounds: RoundsRemoval
    is_done: bool

    @property
    def is_trained_on(self) -> bool:
        """Whether a model that was trained on this folder, as it is now, has seen what goes."""
        return bool(self.packs_removed[Split.TRAIN] + self.packs_changed[Split.TRAIN])

    @property
    def is_nothing(self) -> bool:
        """Whether nothing of it was there any more."""
        return not (sum(self.files.values()) or self.names or self.rounds.files or self.rounds.names)


def forget(data: Path, removal: Removal | None, *, is_dry_run: bool = False) -> Forgetting:
    """Remove what is asked for from a data folder and remember it; a dry run only says what would go.

    What an earlier command began is finished first; with `removal` of `None`, that is all.

    Raises:
        InputError: no data folder, no whole build, an unknown repository, no file that matches, nothing to finish.
        OutputError: the folder is in use or cannot be written.
    """
    _check_data_folder(data)
    job = _find_job(data)
    # In the order in which `adapt` takes them.
    with contextlib.nullcontext() if job is None else hold_folder(job), hold_folder(data):
        if is_dry_run:
            refuse_half_removed(data)
        finished = None if is_dry_run else _finish(data)
        if removal is None:
            if finished is None:
                raise InputError(f"{data}: no removal was cut off here; name what to remove with --repo")
            return finished
        if finished is not None and covers([Removal(finished.repo, finished.patterns)], removal):
            return finished
        return _begin(data, removal, is_dry_run=is_dry_run)


def _check_data_folder(data: Path) -> None:
    if any((data / name).is_file() for name in (corpus_report.MANIFEST, pack_report.MANIFEST, REMOVAL_FILE)):
        return
    inside = data / "data"
    hint = f"; perhaps {inside}" if (inside / corpus_report.MANIFEST).is_file() else ""
    came = "a folder without a finished build" if data.is_dir() else "a file" if data.exists() else "nothing there"
    raise InputError(f"{data}: {came}; wanted the folder that `codegemma build` wrote{hint}")


def _begin(data: Path, removal: Removal, *, is_dry_run: bool) -> Forgetting:
    corpus, packs = corpus_report.read_manifest(data), pack_report.read_manifest(data)
    if corpus is None or packs is None:
        raise InputError(
            f"{data}: the build in it is not whole, or of another version; build it again and then forget, or remove it"
        )
    before = read_forgotten(data)
    job = _find_job(data)
    known = sorted({*corpus_removal.list_known(data, corpus), *(round_files.list_known(job) if job else ())})
    if removal.repo not in known and not covers(before, removal):
        raise InputError(f"{data} knows no repository {removal.repo!r}; known: {', '.join(known) or 'none'}")
    forgotten = add_removal(before, removal)
    plan = corpus_removal.plan_removal(data, corpus, removal, forgotten)
    matches = make_matcher(removal)
    packed = pack_removal.plan_removal(data, packs, removal.repo, matches, plan.files, is_whole=not removal.patterns)
    result = _describe(data, removal, plan, packed)
    if result.is_nothing and covers(before, removal):
        return replace(result, is_done=not is_dry_run)
    if result.is_nothing and removal.patterns:
        raise InputError(
            f"{data}: no file of {removal.repo} that it knows matches {', '.join(removal.patterns)}; nothing was done. "
            "To keep out files that were never in it, see corpus.opt_out"
        )
    if not is_dry_run:
        _stage(data, removal, result, plan.report, packed, forgotten)
        return _finish(data) or result
    return result


def _describe(
    data: Path, removal: Removal, plan: corpus_removal.CorpusRemoval, packed: pack_removal.PackRemoval
) -> Forgetting:
    matches = make_matcher(removal)
    groups = [
        group
        for steps in (corpus_pipeline.STEPS, pack_pipeline.STEPS)
        for group in list_step_groups(data / steps, matches, removal.repo)
    ]
    data_hash = hash_files(list_parts(data / pack_pipeline.name_packs(Split.TRAIN)))
    return Forgetting(
        repo=removal.repo,
        patterns=removal.patterns,
        files={split.value: plan.files[split] for split in Split},
        size_bytes=plan.size_bytes,
        packs_removed={split.value: packed.packs_removed[split] for split in Split},
        packs_changed={split.value: packed.packs_changed[split] for split in Split},
        names=plan.names,
        copies=plan.copies,
        parts=(*plan.parts, *packed.parts),
        step_files=sum(map(len, groups)),
        data_hash=data_hash,
        runs=tuple(_find_runs(data, data_hash)),
        job=None if (job := _find_job(data)) is None else str(job),
        rounds=RoundsRemoval() if job is None else round_files.plan_removal(job, removal.repo, matches),
        is_done=False,
    )


def _find_job(data: Path) -> Path | None:
    """Find the job whose rounds keep packs of their own, if the data folder is a part of one."""
    folder = data.resolve().parent
    return folder if data.resolve().name == "data" and (folder / ROUNDS_FOLDER).is_dir() else None


def _find_runs(data: Path, data_hash: str) -> list[str]:
    """Look for the run of the job that the data folder is a part of."""
    folder = data.resolve().parent
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        return [str(folder)] if run["identity"]["data"] == data_hash else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _stage(
    data: Path,
    removal: Removal,
    result: Forgetting,
    corpus: corpus_report.CorpusReport,
    packed: pack_removal.PackRemoval,
    forgotten: Sequence[Removal],
) -> None:
    """Write down what is to be done and what will stand afterwards; with the last line of it, the removal has begun."""
    staging = data / REMOVAL_FOLDER
    if not packed.is_linked_anew:
        note = f"the imports counted in `{pack_report.MANIFEST}` are still those of the build, removed files included"
        corpus = replace(corpus, notes=tuple(dict.fromkeys((*corpus.notes, note))))
    # No build has these fingerprints: the next one looks at everything again.
    marks = [fingerprint("forgotten", each.fingerprint, removal) for each in (corpus, packed.report)]
    corpus_report.write_manifest(staging, replace(corpus, fingerprint=marks[0]))
    pack_report.write_manifest(staging, replace(packed.report, fingerprint=marks[1]))
    write_forgotten(data, forgotten)
    write_whole(data / REMOVAL_FILE, json.dumps(to_plain(replace(result, is_done=True))).encode())


def _finish(data: Path) -> Forgetting | None:
    """Do what is written down, or the rest of it; `None` where nothing is."""
    if not (data / REMOVAL_FILE).exists():
        _remove(data / REMOVAL_FOLDER)
        return None
    result = _read_request(data / REMOVAL_FILE)
    for name in (pack_report.MANIFEST, corpus_report.MANIFEST, REPORT_FILE):
        _remove(data / name)
    removal = Removal(result.repo, result.patterns)
    pack_removal.remove_files(data, result.repo, make_matcher(removal))
    corpus_removal.remove_files(data, removal)
    if (job := _find_job(data)) is not None:
        round_files.remove_files(job, result.repo, make_matcher(removal))
    remove_leftovers(data)
    _write_manifests(data)
    # The request goes first: without it, the rest of the folder means nothing.
    _remove(data / REMOVAL_FILE)
    _remove(data / REMOVAL_FOLDER)
    return result


def _read_request(file: Path) -> Forgetting:
    try:
        found: Forgetting = from_plain(Forgetting, json.loads(file.read_text(encoding="utf-8")))
        return found
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{file}: cannot be read ({error!r}); remove it and give the whole `codegemma forget` command again, or "
            "remove the data folder"
        ) from error


def _write_manifests(data: Path) -> None:
    staging = data / REMOVAL_FOLDER
    corpus, packs = corpus_report.read_manifest(staging), pack_report.read_manifest(staging)
    if corpus is None or packs is None:
        _remove(data / REMOVAL_FILE)
        raise InputError(f"{staging}: its manifests cannot be read; the removal is done, now build {data} again")
    kept = sum(count_records(data / name) for name in (corpus_pipeline.TRAIN_FILE, corpus_pipeline.HELDOUT_FILE))
    packed = {split.value: count_records(data / pack_pipeline.name_packs(split)) for split in Split}
    if kept != corpus.stages[-1].files_kept or packed != {name: split.packs for name, split in packs.splits.items()}:
        raise AssertionError(
            f"files were lost: {kept} files and {packed} packs, wanted {corpus.stages}, {packs.splits}"
        )
    outputs = [name for name in corpus_pipeline.OUTPUTS if (data / name).exists()]
    corpus = replace(corpus, parquet_bytes=measure_parts(data, outputs), is_reused=False)
    packs = replace(packs, parquet_bytes=measure_parts(data, pack_pipeline.OUTPUTS), is_reused=False)
    write_report(data, BuildReport(corpus, packs))
    corpus_report.write_manifest(data, corpus)
    pack_report.write_manifest(data, packs)


def _remove(path: Path) -> None:
    try:
        if path.is_symlink() or path.exists():
            remove_output(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed ({error.strerror}); give the permission and run again") from error
