"""The suite `heldout`: holes in files that training has not seen, the model in its modes beside two baselines.

**In**: `packs-heldout.parquet` and, for the baselines, `packs-train.parquet` of one build.
**Out**: results hole by hole; every system answers the same holes.
**Not**: figures (`measure.py`).
"""

import dataclasses
from collections.abc import Sequence

from codegemma.errors import InputError
from codegemma.evals.baselines import gather_texts, run_ngram, run_retrieval
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Answers, Examination, Suite
from codegemma.evals.heldout import Hole, HoleKind, make_holes
from codegemma.evals.lines import write_lines
from codegemma.evals.scoring import HoleResult, add_text, fit_window, score_holes, start_result
from codegemma.records import InfillMode, Pack, Request
from codegemma.shards import read_records

HELDOUT_FILE, TRAIN_FILE = "packs-heldout.parquet", "packs-train.parquet"
_NEED = (HELDOUT_FILE, "the folder that `codegemma build` wrote")


def run_heldout(exam: Examination) -> Answers:
    """Holes in held-out files: rated by teacher forcing, some written out; the baselines on the same holes."""
    packs = read_records(exam.find(*_NEED), Pack)
    choices = exam.choices
    if choices.limit is not None:
        choices = dataclasses.replace(choices, max_holes_per_kind=-(-choices.limit // len(HoleKind)))
    holes = make_holes(packs, choices)
    if not holes:
        raise InputError("the held-out files have no line to ask for; build with a larger held-out share")
    written = choose_generated(holes, choices)
    results, notes = [], []
    not_run: dict[str, str] = {}
    for mode in sorted(exam.subject.infill_modes):
        mode_results, note, lack = _examine(exam, holes, written, mode)
        results += mode_results
        notes += note
        not_run |= {f"written lines, {mode.upper()}": lack} if lack else {}
    if choices.has_baselines:
        baseline_results, note = _run_baselines(exam, holes, written)
        results += baseline_results
        notes += note
    scored_by = "teacher forcing; generated_match and edit_similarity by text"
    return Answers(scored_by, len(holes), results, tuple(dict.fromkeys(notes)), not_run=not_run)


def choose_generated(holes: Sequence[Hole], choices: EvalChoices) -> list[Hole]:
    """Take the first holes of each kind: they are dealt evenly over the files."""
    share = choices.generated_holes // len(HoleKind)
    return [hole for kind in HoleKind for hole in [h for h in holes if h.kind is kind][:share]]


def _examine(
    exam: Examination, holes: Sequence[Hole], written: Sequence[Hole], mode: InfillMode
) -> tuple[list[HoleResult], list[str], str]:
    """Ask in one mode; the last value is why nothing counts as written, where an answer is missing."""
    notes: list[str] = []
    try:
        results = score_holes(exam.subject, holes, mode, exam.choices, on_progress=exam.on_progress)
    except NotImplementedError:
        results = [start_result(hole, "model", mode) for hole in holes]
        notes.append("exact_match, line_match and bits: not run, this completer cannot rate given tokens")
    max_new_tokens = exam.subject.reserve_tokens(exam.choices)
    requests = {
        h.hole_id: fit_window(
            exam.subject, Request(h.prefix, h.suffix, h.path, mode=mode, max_new_tokens=max_new_tokens)
        )
        for h in written
    }
    texts, lack = write_lines(exam, requests, f"generate {mode}")
    for index, (result, hole) in enumerate(zip(results, holes, strict=True)):
        if result.hole_id in texts:
            results[index] = add_text(result, hole.middle, texts[result.hole_id])
    return results, notes, lack


def _run_baselines(
    exam: Examination, holes: Sequence[Hole], written: Sequence[Hole]
) -> tuple[list[HoleResult], list[str]]:
    packs = read_records(exam.find(TRAIN_FILE, "the training packs beside the held-out ones, for the baselines"), Pack)
    texts, left_out = gather_texts(packs, exam.choices)
    if not texts:
        return [], ["baselines: not run, there is no training file"]
    exam.on_progress("baselines", 0, 2)
    ngram, order = run_ngram(texts, holes)
    exam.on_progress("baselines", 1, 2)
    retrieval = run_retrieval(texts, holes, {hole.hole_id for hole in written})
    exam.on_progress("baselines", 2, 2)
    notes = [f"n-gram: {order} bytes of context, chosen on training files; it sees the prefix, not the suffix"]
    if left_out:
        notes.append(f"baselines: {left_out} training files left out by max_baseline_bytes")
    return [*ngram, *retrieval], notes


HELDOUT = Suite(
    "heldout",
    "holes in files that training has not seen, in the learned modes, beside an n-gram and a retrieval baseline",
    run_heldout,
    (_NEED,),
)
