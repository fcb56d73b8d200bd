"""HumanEval single-line infilling: one line of a known solution is missing, the model writes it.

**In**: `HumanEval-SingleLineInfilling.jsonl.gz` of openai/human-eval-infilling, as published: 1,033 tasks.
**Out**: results by exact match of the line, trailing white space aside.
**Not**: the published score, which runs the program: another line may be right too, so exact match lies below it.
"""

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Answers, Examination
from codegemma.evals.scoring import HoleResult, Subject, add_text, generate_lines
from codegemma.records import InfillMode, Request
from codegemma.runner import Progress, ignore_progress

DATA_FILE = "HumanEval-SingleLineInfilling.jsonl.gz"
ORIGIN = "https://github.com/openai/human-eval-infilling (folder data)"
FIELDS = ("task_id", "prompt", "suffix", "canonical_solution")


@dataclass(frozen=True, slots=True)
class InfillTask:
    """One missing line: `problem` groups the tasks that come from one solution."""

    task_id: str
    problem: str
    prefix: str = field(repr=False)
    middle: str
    suffix: str = field(repr=False)


def read_tasks(path: Path, limit: int | None = None) -> list[InfillTask]:
    """Read the tasks; with a limit, that many spread over the problems by a keyed hash, in the file's order.

    Raises:
        InputError: no such file, not gzip, or other fields than the benchmark's.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            tasks = [_read_task(json.loads(line)) for line in lines if line.strip()]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; get it from {ORIGIN}") from error
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not the infilling benchmark ({type(error).__name__}: {error}); wanted gzipped JSON lines with "
            f"{', '.join(FIELDS)}; get it again from {ORIGIN}"
        ) from error
    chosen = sorted(range(len(tasks)), key=lambda i: xxhash.xxh3_64_intdigest(tasks[i].task_id.encode()))[:limit]
    return [tasks[i] for i in sorted(chosen)]


def _read_task(row: dict[str, str]) -> InfillTask:
    task_id, prefix, suffix, middle = (row[name] for name in ("task_id", "prompt", "suffix", "canonical_solution"))
    problem = "/".join(task_id.split("/")[1:3])
    return InfillTask(task_id, problem, prefix, middle.rstrip(), suffix)


def run_single_line(
    subject: Subject,
    tasks: Sequence[InfillTask],
    mode: InfillMode,
    choices: EvalChoices,
    on_progress: Progress = ignore_progress,
) -> list[HoleResult]:
    """Write every missing line greedily (at most 128 tokens, as the card; a small window gives a quarter) and compare.

    No path line: the card does not say whether there was one.
    """
    max_new_tokens = min(choices.max_new_tokens, subject.max_context_tokens // 4)
    requests = [Request(task.prefix, task.suffix, mode=mode, max_new_tokens=max_new_tokens) for task in tasks]
    texts = generate_lines(subject, requests, on_progress)
    return [
        add_text(
            HoleResult(t.task_id, "HumanEval", t.problem, "single_line", "model", mode, len(t.middle.encode())),
            t.middle,
            text,
        )
        for t, text in zip(tasks, texts, strict=True)
    ]


def run_infilling_single(exam: Examination) -> Answers:
    """HumanEval single-line infilling by exact match."""
    path = exam.find(DATA_FILE, f"the benchmark as published at {ORIGIN}")
    tasks = read_tasks(path, exam.choices.limit)
    results = [
        result
        for mode in sorted(exam.subject.infill_modes)
        for result in run_single_line(exam.subject, tasks, mode, exam.choices, exam.on_progress)
    ]
    note = "exact match of the line; the published score runs the program and is higher, as other lines may pass too"
    return Answers("exact_match", len(tasks), results, (note,))
