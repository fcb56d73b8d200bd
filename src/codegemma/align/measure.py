"""What tuning gained and what it cost: held-out problems solved, holes in held-out code filled.

**In**: model folders, problems, a judge; packs with a held-out side.
**Out**: `ProblemResult`s and `HoleResult`s, kept by model, so that models are compared problem by problem and hole by
hole; `Gain`: a difference with its interval.
**Not**: the figures' page (`align_report.py`).
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xxhash

from codegemma.align.choices import SamplingChoices
from codegemma.align.exercises import Problem
from codegemma.align.rewards import Judge
from codegemma.align.writing import Writer
from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.engine.rollout import Writing
from codegemma.evals.choices import EvalChoices
from codegemma.evals.general import choose_general
from codegemma.evals.heldout import HoleKind, make_holes
from codegemma.evals.heldout_suite import HELDOUT_FILE
from codegemma.evals.scoring import HoleResult, Subject, score_holes
from codegemma.evals.statistics import Interval, bootstrap_share, bootstrap_share_difference
from codegemma.files import write_whole
from codegemma.model.infill_modes import read_infill_modes
from codegemma.model.weights import load_model
from codegemma.recipe import from_plain, to_plain
from codegemma.records import InfillMode, Pack, PackedFile, Split
from codegemma.runner import Progress
from codegemma.shards import find_output, read_records
from codegemma.text.tokenizer import Tokenizer

T = TypeVar("T")

# Of a package that is measured on: as many files as a thousand holes want to be spread over.
_PACKAGE_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """How a model did on a held-out problem: greedily, and drawn once at temperature 1 (`sampled`)."""

    number: int
    has_passed: bool
    sampled_passed: bool
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference between two models on the same problems; greedy answers, and drawn ones."""

    ours: str
    theirs: str
    greedy: Interval
    sampled: Interval


def solve_problems(
    model: Path, problems: Sequence[Problem], judge: Judge, sampling: SamplingChoices, on_progress: Progress
) -> list[ProblemResult]:
    """Answer each problem greedily and once drawn; an answer passes if tests and audits hold."""
    params, config = load_model(model)
    writer = Writer(config, Tokenizer.load(model))
    passed: list[list[Any]] = []
    for place, temperature in enumerate((0.0, 1.0)):
        writing = Writing(1, sampling.max_new_tokens, temperature)
        written = writer.write(params, problems, writing, (place,))
        judged = judge.judge(problems, [[one.answer for one in group] for group in written])
        passed.append([(verdict, group[0]) for verdict, group in zip(judged, written, strict=True)])
        on_progress("held-out problems", place + 1, 2)
    return [
        ProblemResult(problem.number, greedy.is_audited, drawn.is_audited, greedy.share, one.answer.text)
        for problem, (greedy, one), (drawn, _) in zip(problems, *passed, strict=True)
    ]


def read_heldout(data: Path) -> list[Pack]:
    """Read what a build holds out."""
    return list(read_records(find_output(data, HELDOUT_FILE), Pack))


def read_package(folder: Path) -> list[Pack]:
    """Read an installed package as held-out code: no run here has seen it."""
    none = np.zeros(0, np.int32)
    return [
        Pack(text.path, folder.name, None, Split.HELDOUT, (PackedFile(
            text.path, "python", text.text, xxhash.xxh3_64_hexdigest(text.text.encode()), None, none, none
        ),))
        for text in choose_general(folder, _PACKAGE_CHARS)
    ]  # fmt: skip


def fill_holes(model: Path, packs: Sequence[Pack], holes: int, on_progress: Progress) -> list[HoleResult]:
    """Rate holes in code that was not trained on, in PSM, which every model of this family knows."""
    params, config = load_model(model)
    tokenizer = Tokenizer.load(model)
    modes = read_infill_modes(model)
    choices = EvalChoices(max_holes_per_kind=-(-holes // len(HoleKind)))
    found = make_holes(packs, choices)
    engine = Engine(params, config, tokenizer, modes)
    subject = Subject(GeneratorCompleter(engine), tokenizer, config.max_positions, modes)
    try:
        return score_holes(subject, found, InfillMode.PSM, choices, "model", on_progress)
    finally:
        engine.close()


def compare_solved(
    ours: str, ours_on: Sequence[ProblemResult], theirs: str, theirs_on: Sequence[ProblemResult]
) -> Gain:
    """Compare two models problem by problem."""
    clusters = [one.number for one in ours_on]
    pairs = [
        ([getattr(one, name) for one in ours_on], [getattr(one, name) for one in theirs_on])
        for name in ("has_passed", "sampled_passed")
    ]
    return Gain(ours, theirs, *(bootstrap_share_difference(a, b, clusters, seed=0) for a, b in pairs))


def count_solved(results: Sequence[ProblemResult], name: str = "has_passed") -> Interval:
    """Tell the share of problems that were solved, with its interval."""
    return bootstrap_share([getattr(one, name) for one in results], [one.number for one in results], seed=0)


def keep(file: Path, kind: type[T], identity: str, make: Callable[[], Sequence[T]]) -> list[T]:
    """Read results that were kept for the same model and choices, else make them and keep them."""
    if file.is_file():
        plain = json.loads(file.read_text(encoding="utf-8"))
        if plain["identity"] == identity:
            return [from_plain(kind, one) for one in plain["results"]]
    results = list(make())
    told = [to_plain(dataclasses.asdict(one)) for one in results]  # type: ignore[call-overload]
    write_whole(file, json.dumps({"identity": identity, "results": told}).encode())
    return results
