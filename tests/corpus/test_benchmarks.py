"""Benchmarks are known by their fields, in every format they come in; nothing given goes unguarded in silence."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codegemma.corpus.benchmarks import SHAPES, BenchmarkText, Part, read_benchmarks
from codegemma.errors import InputError

HUMAN_EVAL = {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n", "test": "f()"}
GSM8K = {"question": "How many?", "answer": "It is <<2*3=6>>6.\n#### 6"}
# One row of each kind, and what is guarded of it.
ROWS: dict[str, tuple[dict[str, Any], list[tuple[Part, str]]]] = {
    "HumanEval": (
        HUMAN_EVAL,
        [(Part.PROBLEM, "def f():\n"), (Part.SOLUTION, "    return 1\n"), (Part.TESTS, "f()")],
    ),
    "HumanEval-Infilling": (
        {**HUMAN_EVAL, "suffix": "    # end\n"},
        [(Part.PROGRAM, "def f():\n    return 1\n    # end\n"), (Part.TESTS, "f()")],
    ),
    "MBPP": (
        {"task_id": 7, "text": "Add.", "code": "def g(): pass", "test_list": ["assert g()", "assert not g()"]},
        [(Part.PROBLEM, "Add."), (Part.SOLUTION, "def g(): pass"), (Part.TESTS, "assert g()\nassert not g()")],
    ),
    "DS-1000": (
        {
            "prompt": "Problem:",
            "reference_code": "df.head()",
            "metadata": {"problem_id": 9},
            "code_context": "import x",
        },
        [(Part.PROBLEM, "Problem:"), (Part.SOLUTION, "df.head()")],
    ),
    "SAFIM": ({"prompt": "p", "ground_truth": "g"}, [(Part.PROBLEM, "p"), (Part.SOLUTION, "g")]),
    "CrossCodeEval": ({"prompt": "p", "groundtruth": "g"}, [(Part.PROBLEM, "p"), (Part.SOLUTION, "g")]),
    "BabelCode": (
        {
            "qid": "1",
            "language": "Go",
            "text": "Add.",
            "signature_with_docstring": "// Add.\nfunc f()",
            "solution": "s",
        },
        [(Part.PROBLEM, "Add."), (Part.PROBLEM, "// Add.\nfunc f()"), (Part.SOLUTION, "s")],
    ),
    "BabelCode-TransCoder": (
        {
            "qid": "1",
            "language": "Rust",
            "signature": "pub fn f()",
            "source_py": "py()",
            "source_cpp": "cpp();",
            "question_info": {"test_code": "t"},
        },
        [(Part.SOLUTION, "py()"), (Part.SOLUTION, "cpp();")],
    ),
    "BabelCode questions": (
        {
            "id": "3",
            "title": "Add",
            "text": "Add.",
            "solution": "s",
            "entry_fn_name": "f",
            "testing_code": "assert f()",
            "other_lang_solutions": {"C++": "int f();"},
        },
        [(Part.PROBLEM, "Add."), (Part.SOLUTION, "s"), (Part.SOLUTION, "int f();"), (Part.TESTS, "assert f()")],
    ),
    "MultiPL-E": (
        {"name": "HumanEval_0", "prompt": "fn f()", "tests": "assert!(f())"},
        [(Part.PROBLEM, "fn f()"), (Part.TESTS, "assert!(f())")],
    ),
    "GSM8K": (
        GSM8K,
        [(Part.PROBLEM, "How many?"), (Part.SOLUTION, GSM8K["answer"]), (Part.SOLUTION, "It is 6.\n#### 6")],
    ),
    "APPS": (
        {"problem_id": 3, "question": "Sort.", "solutions": ["a()", "b()"]},
        [(Part.PROBLEM, "Sort."), (Part.SOLUTION, "a()"), (Part.SOLUTION, "b()")],
    ),
    "MathQA": (
        {"Problem": "How far?", "Rationale": "Far.", "options": "a ) 1", "correct": "a"},
        [(Part.PROBLEM, "How far?"), (Part.SOLUTION, "Far.")],
    ),
    "MATH": ({"problem": "Find $x$.", "solution": "$x=1$."}, [(Part.PROBLEM, "Find $x$."), (Part.SOLUTION, "$x=1$.")]),
}


def write_rows(path: Path, rows: list[Any]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def test_every_kind_is_tried() -> None:
    assert {shape.name for shape in SHAPES} == ROWS.keys()


@pytest.mark.parametrize("kind", ROWS)
def test_kind_is_known_by_its_fields(tmp_path: Path, kind: str) -> None:
    row, wanted = ROWS[kind]
    texts = read_benchmarks([write_rows(tmp_path / "Some.Bench.jsonl", [row])]).texts
    assert [(text.part, text.text) for text in texts] == wanted
    assert {text.benchmark for text in texts} == {"Some.Bench"}


def test_item_is_named_as_the_benchmark_names_it_or_by_its_number(tmp_path: Path) -> None:
    rows = [ROWS[kind][0] for kind in ("HumanEval", "MBPP", "DS-1000", "BabelCode", "MultiPL-E", "GSM8K")]
    texts = read_benchmarks([write_rows(tmp_path / "b.jsonl", rows)]).texts
    assert list(dict.fromkeys(text.item for text in texts)) == ["HumanEval/0", "7", "9", "1", "HumanEval_0", "6"]


def test_solutions_that_are_a_list_spelled_as_text_are_read_one_by_one(tmp_path: Path) -> None:
    row = {"problem_id": 3, "question": "Sort.", "solutions": json.dumps(["a()\n", "[b()]"])}
    texts = read_benchmarks([write_rows(tmp_path / "apps.jsonl", [row])]).texts
    assert [text.text for text in texts] == ["Sort.", "a()\n", "[b()]"]


def test_every_format_gives_the_same(tmp_path: Path) -> None:
    rows = [HUMAN_EVAL, {**HUMAN_EVAL, "task_id": "HumanEval/1"}]
    write_rows(tmp_path / "b.jsonl", rows)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "b.jsonl").read_bytes()))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress((tmp_path / "b.json").read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    read = [read_benchmarks([file]) for file in sorted(tmp_path.iterdir())]
    assert len(read) == 5
    assert all(benchmarks == read[0] and len(benchmarks.texts) == 5 for benchmarks in read)
    assert read[0].describe()[0].startswith("benchmarks: b (2 items), digest ")


def test_folder_of_single_problems_is_one_benchmark(tmp_path: Path) -> None:
    for number in (1, 2):
        file = tmp_path / "MATH" / "test" / "algebra" / f"{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**ROWS["MATH"][0], "problem": f"Find {number}."}))
    texts = read_benchmarks([tmp_path / "MATH"]).texts
    assert {(text.benchmark, text.item) for text in texts} == {("MATH", "test/algebra/1"), ("MATH", "test/algebra/2")}


def test_program_that_an_infilling_set_repeats_is_guarded_once(tmp_path: Path) -> None:
    row = {"task_id": "0/L0", "prompt": "a = 1\n", "canonical_solution": "b = 2\n", "suffix": "c = 3\n", "test": "t"}
    other = {**row, "task_id": "0/L1", "prompt": "a = 1\nb = 2\n", "canonical_solution": "c = 3\n", "suffix": ""}
    texts = read_benchmarks([write_rows(tmp_path / "b.jsonl", [row, other])]).texts
    assert [text.item for text in texts] == ["0/L0", "0/L0"]


@pytest.mark.parametrize("name", ["gsm8k_train.jsonl", "train/a.jsonl", "main/train-00000-of-00001.jsonl"])
def test_train_split_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"train split.*give the test split"):
        read_benchmarks([write_rows(tmp_path / "gsm8k" / name, [GSM8K])])


def test_train_split_in_a_folder_is_left_out_and_noted(tmp_path: Path) -> None:
    write_rows(tmp_path / "gsm8k" / "train.jsonl", [GSM8K])
    write_rows(tmp_path / "gsm8k" / "test.jsonl", [GSM8K])
    benchmarks = read_benchmarks([tmp_path / "gsm8k"])
    assert {text.benchmark for text in benchmarks.texts} == {"test"}
    assert benchmarks.notes == ("gsm8k/train.jsonl: left out, a train split is training data",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.jsonl", b'{"task_id": 1, "body": "x"}\n', "item 1 is of no known benchmark; came task_id, body; wanted"),
        ("b.jsonl", b"[1]\n", "no object but list"),
        ("b.jsonl", b'{"question": "x", \n', "truncated or damaged"),
        ("b.jsonl", b"\xff\xfe", "truncated or damaged"),
        ("b.jsonl", b"[" * 100_000, "truncated or damaged"),
        ("b.jsonl", b'{"question": null, "answer": " "}\n', "no text to guard"),
        ("b.jsonl.gz", gzip.compress(b'{"question": "x"}', mtime=0)[:-9], "truncated or damaged"),
        ("b.jsonl.gz", b"plain", "truncated or damaged"),
        ("b.parquet", b"PAR1", "truncated or damaged"),
        ("b.txt", b"", "unknown kind of file"),
    ],
)
def test_file_that_cannot_be_guarded_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_benchmarks([tmp_path / name])
    assert name in str(caught.value)


def test_missing_path_and_empty_folder_are_errors(tmp_path: Path) -> None:
    for name in ("b.jsonl", "b", "b.txt"):
        with pytest.raises(InputError, match=f"{name}: no such file or folder; wanted a benchmark"):
            read_benchmarks([tmp_path / name])
    with pytest.raises(InputError, match="no benchmark in this folder"):
        read_benchmarks([tmp_path])


def test_same_texts_have_the_same_digest_and_others_another(tmp_path: Path) -> None:
    one = read_benchmarks([write_rows(tmp_path / "a" / "b.jsonl", [GSM8K])])
    same = read_benchmarks([write_rows(tmp_path / "c" / "b.jsonl", [GSM8K])])
    other = read_benchmarks([write_rows(tmp_path / "d" / "b.jsonl", [{**GSM8K, "question": "Where?"}])])
    assert one.digest == same.digest != other.digest
    assert BenchmarkText("b", "1", Part.PROBLEM, "How many?") in one.texts


def test_published_files_are_read_whole() -> None:
    folder = os.environ.get("CODEGEMMA_TEST_DATA")
    if not folder or not (Path(folder) / "eval").is_dir():
        pytest.skip("needs the published benchmarks in $CODEGEMMA_TEST_DATA/eval")
    texts = read_benchmarks([Path(folder) / "eval"]).texts
    items = {name: len({t.item for t in texts if t.benchmark == name}) for name in {t.benchmark for t in texts}}
    # Of the infilling sets, each program once.
    assert (items["HumanEval"], items["mbpp"], items["HumanEval-SingleLineInfilling"]) == (164, 974, 164)
