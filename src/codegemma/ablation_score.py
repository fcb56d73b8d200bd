"""Scores the runs of an ablation on three kinds of holes, and puts variants beside the reference.

**In**: a model; the data folder that all are measured on.
**Out**: a file of `HoleResult`s for each run; `ScoreRow`s with paired intervals.
**Not**: generation: exact match and bits come from teacher forcing, which needs one pass.

A hole's value is its mean over the seeds; intervals resample files, so they tell how sure the difference is on other
files of such repositories, for these seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.evals.choices import EvalChoices
from codegemma.evals.heldout import RANDOM_SPAN, HoleKind, make_holes, make_span_holes
from codegemma.evals.repository import CROSS_FILE, Repository, link_repository, make_cross_file_holes
from codegemma.evals.repository_suite import fit_hole, list_neighbors
from codegemma.evals.run import read_hole_results
from codegemma.evals.scoring import HoleResult, Subject, score_holes
from codegemma.evals.statistics import Interval, bootstrap_difference, bootstrap_share_difference
from codegemma.files import write_whole
from codegemma.model.weights import list_model_files
from codegemma.pack.imports import RULES
from codegemma.recipe import fingerprint, to_plain
from codegemma.records import InfillMode, Pack, SourceFile
from codegemma.runner import Progress
from codegemma.shards import hash_files, read_records

_METRICS = ("exact_match", "bits_per_byte")


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One figure of a variant beside the reference's; `difference` is the variant's minus it, hole by hole."""

    variant: str
    kind: str
    mode: str
    metric: str
    reference: float
    value: float
    difference: Interval

    @property
    def favours_variant(self) -> bool | None:
        """Tell whom the figure favours: the variant, or the reference; `None` where the interval holds 0."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return None
        return (low > 0) == (self.metric == "exact_match")


def score_run(model: Path, data: Path, out: Path, choices: EvalChoices, on_progress: Progress) -> Path:
    """Score a model in all its modes, once; return the file of its results."""
    key = fingerprint(choices, hash_files(list_model_files(model)))
    file = out / f"{model.parent.name}-{key}.jsonl"
    if file.exists():
        return file
    engine = Engine.load(model)
    try:
        subject = Subject(GeneratorCompleter(engine), engine.tokenizer, engine.max_context_tokens, engine.infill_modes)
        results = [r for mode in subject.infill_modes for r in _score(subject, data, mode, choices, on_progress)]
    finally:
        engine.close()
    out.mkdir(parents=True, exist_ok=True)
    write_whole(file, "".join(json.dumps(to_plain(result)) + "\n" for result in results).encode())
    return file


def _score(
    subject: Subject, data: Path, mode: InfillMode, choices: EvalChoices, on_progress: Progress
) -> list[HoleResult]:
    packs = list(read_records(data / "packs-heldout.parquet", Pack))
    limit = choices.max_holes_per_kind
    lines = [hole for hole in make_holes(packs, choices) if hole.kind == HoleKind.LINE]
    results = score_holes(subject, [*lines, *make_span_holes(packs, choices)], mode, choices, on_progress=on_progress)
    for repository, trained in _link(data):
        found = make_cross_file_holes(repository, trained, choices, limit)
        neighbors = partial(list_neighbors, repository, {cross.hole.hole_id: cross for cross in found})
        fit = partial(fit_hole, subject, neighbors)
        holes = [cross.hole for cross in found]
        results += score_holes(subject, holes, mode, choices, on_progress=on_progress, fit=fit)
    return results


def _link(data: Path) -> list[tuple[Repository, frozenset[str]]]:
    """Link each repository of a build, both sides of the border; beside it the files of the training side."""
    files: dict[str, dict[str, SourceFile]] = {}
    trained: dict[str, set[str]] = {}
    for split in ("train", "heldout"):
        for file in read_records(data / f"files-{split}.parquet", SourceFile):
            if file.language in RULES:
                files.setdefault(file.repo, {})[file.path] = file
                trained.setdefault(file.repo, set()).update([file.path] if split == "train" else [])
    return [(link_repository(data, repo, found), frozenset(trained[repo])) for repo, found in files.items()]


def compare_runs(files: Mapping[str, Sequence[Path]], reference: str) -> tuple[list[ScoreRow], dict[str, int]]:
    """Compare every variant with the reference; also count the holes of each kind."""
    values = {name: [_read_values(file) for file in paths] for name, paths in files.items()}
    rows: list[ScoreRow] = []
    holes: dict[str, int] = {}
    for name, ours in values.items():
        if name == reference:
            continue
        for kind in (HoleKind.LINE.value, RANDOM_SPAN, CROSS_FILE):
            for mode in ("psm", "spm"):
                for metric in _METRICS:
                    row = _compare(ours, values[reference], (kind, mode, metric))
                    if row is not None:
                        rows.append(ScoreRow(name, kind, mode, metric, *row))
                        holes[kind] = row[2].items
    return rows, holes


# A hole's file, bytes and value by kind, mode and metric, then by the hole's name.
_Values = dict[tuple[str, str, str], dict[str, tuple[str, int, float]]]


def _read_values(file: Path) -> _Values:
    values: _Values = {}
    for result in read_hole_results(file):
        mode = "psm" if result.mode is InfillMode.PSM else "spm"
        place = f"{result.repo}:{result.path}"
        for metric, value in zip(_METRICS, (result.exact_match, result.bits), strict=True):
            if value is not None:
                kept = values.setdefault((result.kind, mode, metric), {})
                kept[result.hole_id] = place, result.middle_bytes, float(value)
    return values


def _compare(
    ours: Sequence[_Values], theirs: Sequence[_Values], at: tuple[str, str, str]
) -> tuple[float, float, Interval] | None:
    """Average over seeds, then subtract hole by hole; bits are weighed by the bytes of their middles."""
    common = set.intersection(*(set(values.get(at, {})) for values in (*ours, *theirs)))
    if not common:
        return None
    names = sorted(common)
    places = [ours[0][at][name][0] for name in names]
    weights = [ours[0][at][name][1] if at[2] == "bits_per_byte" else 1 for name in names]
    one, other = (
        np.mean([[values[at][name][2] for name in names] for values in runs], axis=0) for runs in (ours, theirs)
    )
    if at[2] == "bits_per_byte":
        difference = bootstrap_difference(one, other, places, seed=0, denominators=weights)
    else:
        difference = bootstrap_share_difference(one, other, places, seed=0)
    return float(other.sum() / sum(weights)), float(one.sum() / sum(weights)), difference
