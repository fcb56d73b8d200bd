"""The infilling benchmark is read as published, compared by line, and asked for by name where it is missing."""

import gzip
import json
import os
from pathlib import Path

import pytest
from tests.evals.byte_completer import ByteCompleter

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.infilling import DATA_FILE, InfillTask, read_tasks, run_single_line
from codegemma.evals.ngram import train_ngram
from codegemma.evals.scoring import Subject
from codegemma.records import InfillMode


def _find_published() -> Path:
    folder = os.environ.get("CODEGEMMA_TEST_DATA")
    path = Path(folder) / "eval" / DATA_FILE if folder else None
    if path is None or not path.exists():
        pytest.skip(f"needs {DATA_FILE} in $CODEGEMMA_TEST_DATA/eval")
    return path


def test_published_file_has_its_tasks_and_problems() -> None:
    tasks = read_tasks(_find_published())
    assert len(tasks) == 1033
    assert len({task.problem for task in tasks}) == 164
    assert all(task.middle and "\n" not in task.middle for task in tasks)


def test_limit_spreads_over_problems_and_is_nested() -> None:
    few, more = read_tasks(_find_published(), limit=40), read_tasks(_find_published(), limit=80)
    assert len(few) == 40
    assert len({task.problem for task in few}) > 25
    assert {task.task_id for task in few} < {task.task_id for task in more}


def test_line_that_the_model_knows_is_matched_and_another_is_not() -> None:
    completer = ByteCompleter(train_ngram(["def area(width, height):\n    return width * height\n"] * 3, order=6))
    subject = Subject(completer, completer.tokenizer, 128, (InfillMode.PSM,))
    prefix = "def area(width, height):\n"
    tasks = [
        InfillTask("S/HumanEval/0/L0", "HumanEval/0", prefix, "    return width * height", ""),
        InfillTask("S/HumanEval/1/L0", "HumanEval/1", prefix, "    return height * width", ""),
    ]
    results = run_single_line(subject, tasks, InfillMode.PSM, EvalChoices())
    assert [(r.path, r.kind, r.generated_match) for r in results] == [
        ("HumanEval/0", "single_line", True),
        ("HumanEval/1", "single_line", False),
    ]
    assert results[0].exact_match is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; get it from .*openai/human-eval-infilling"),
        (b"not gzip", "not the infilling benchmark"),
        (gzip.compress(b'{"task_id": "a/b/c"}\n'), "prompt"),
        (gzip.compress(json.dumps({"task_id": "x"}).encode() * 99)[:40], "get it again"),
        (gzip.compress(b"[1, 2]\n"), "wanted gzipped JSON lines"),
    ],
    ids=["missing", "not gzip", "other fields", "truncated", "not objects"],
)
def test_missing_or_foreign_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / DATA_FILE
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_tasks(path)
    assert str(path) in str(error.value)
