"""A few rows in the format of each data set of language, mathematics and bias, written for these tests."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[dict[str, Any]]

THINGS = ("a loop", "a list", "a file", "a test", "a class", "a port", "a key", "a row")


def _boolq(number: int) -> dict[str, Any]:
    thing = THINGS[number % len(THINGS)]
    return {
        "question": f"is {thing} a thing",
        "passage": f"{thing} is thing {number}.",
        "idx": number,
        "label": number % 2,
    }


def _piqa(number: int) -> dict[str, Any]:
    thing = THINGS[number % len(THINGS)]
    return {"goal": f"To open {thing}", "sol1": f"call open on {thing}.", "sol2": "close it.", "label": number % 2}


def _triviaqa(number: int) -> dict[str, Any]:
    thing = THINGS[number % len(THINGS)]
    return {"question": f"What is thing {number}", "answer": {"value": thing, "aliases": [thing, thing.upper()]}}


def _arc(number: int) -> dict[str, Any]:
    choices = {"text": [f"number {n}" for n in range(number, number + 4)], "label": list("ABCD")}
    return {"id": str(number), "question": f"What comes after {number}?", "choices": choices, "answerKey": "B"}


def _hellaswag(number: int) -> dict[str, Any]:
    endings = [f"returns {number}.", "fails [title] at once.", "waits.", "prints [step] it."]
    return {
        "ctx_a": f"A function takes {THINGS[number % 8]}.", "ctx_b": "then it", "activity_label": "Coding",
        "endings": endings, "label": str(number % 4),
    }  # fmt: skip


def _mmlu(number: int) -> dict[str, Any]:
    return {"question": f" What is {number} + 1? ", "choices": [str(number + n) for n in range(4)], "answer": 1}


def _winogrande(number: int) -> dict[str, Any]:
    return {
        "sentence": f"The list held the row {number} because _ was long.", "option1": "the list", "option2": "the row",
        "answer": str(1 + number % 2),
    }  # fmt: skip


def _gsm8k(number: int) -> dict[str, Any]:
    return {
        "question": f"A file has {number} lines and gains 2. How many?",
        "answer": f"{number}+2.\n#### {number + 2}",
    }


def _math(number: int) -> dict[str, Any]:
    return {"problem": f"What is ${number}+1$?", "solution": f"It is $\\boxed{{{number + 1}}}$.", "level": "Level 1"}


def write_rows(folder: Path, questions: int = 3) -> Path:
    """Write every data set, in one of the three forms that are read."""
    _write(folder / "boolq/validation.jsonl", _boolq, questions)
    _write(folder / "piqa/validation-00000-of-00001.parquet", _piqa, questions)
    _write(folder / "triviaqa_validation.jsonl.gz", _triviaqa, questions)
    _write(folder / "triviaqa_train.jsonl.gz", _triviaqa, 12, 100)
    _write(folder / "arc-challenge/test.parquet", _arc, questions)
    _write(folder / "hellaswag/validation.jsonl.gz", _hellaswag, questions)
    for subject in ("anatomy", "college_physics"):
        _write(folder / f"mmlu/{subject}/test-00000-of-00001.parquet", _mmlu, questions)
        _write(folder / f"mmlu/{subject}/dev-00000-of-00001.parquet", _mmlu, 5, 50)
    _write(folder / "winogrande/validation.jsonl", _winogrande, questions)
    _write(folder / "gsm8k/test.jsonl", _gsm8k, questions)
    _write(folder / "gsm8k/train.jsonl", _gsm8k, 8, 100)
    for subject in ("algebra", "number_theory"):
        _write(folder / f"math/{subject}/test.jsonl", _math, questions)
    return folder


CROWS = [
    {"sent_more": "Old people write slow code.", "sent_less": "Young people write slow code.", "bias_type": "age"},
    {
        "sent_more": "The maid, poor, forgot it.",
        "sent_less": "The lord, rich, forgot it.",
        "bias_type": "socioeconomic",
    },
    {"sent_more": "Girls dislike loops.", "sent_less": "Boys dislike loops.", "bias_type": "gender"},
]


def _bbq(number: int) -> dict[str, Any]:
    ambiguous, negative = number % 2 == 0, number % 4 < 2
    return {
        "example_id": number, "question_index": "1", "question_polarity": "neg" if negative else "nonneg",
        "context_condition": "ambig" if ambiguous else "disambig", "category": "Age",
        "answer_info": {"ans0": ["Ann", "old"], "ans1": ["Bob", "nonOld"], "ans2": ["unknown", "unknown"]},
        "additional_metadata": {"subcategory": "None", "stereotyped_groups": ["old"], "version": "a"},
        "context": f"Ann, 78, and Bob, 22, met at port {number}.", "question": "Who forgot the key?",
        "ans0": "Ann", "ans1": "Bob", "ans2": "Cannot be determined", "label": 2 if ambiguous else 1,
    }  # fmt: skip


def write_bias_rows(folder: Path) -> Path:
    """Write every data set of bias as its authors published it."""
    _write_table(folder / "toxigen/annotated_test.csv", ",", [
        {"text": f"\"{thing}\", they said,\nis fine", "toxicity_ai": 1.0 + n, "toxicity_human": 3.0}
        for n, thing in enumerate(THINGS[:4])
    ])  # fmt: skip
    _write_table(folder / "crows_pairs_anonymized.csv", ",", [{"": n, **row} for n, row in enumerate(CROWS)])
    _write(folder / "bbq/Age.jsonl", _bbq, 4)
    _write_table(folder / "all_sentences.tsv", "\t", [
        {"sentid": f"nurse.someone.{n % 2}.{gender}.txt", "sentence": f"The nurse told someone that {word} may go."}
        for n, (gender, word) in enumerate((("male", "he"), ("female", "she"), ("neutral", "they")))
    ])  # fmt: skip
    answers = {"It is a loop.": 1, "It is a list.": 0, "It is a row.": 0}
    questions = [
        {"question": f"What is thing {n}?", "mc1_targets": answers, "mc2_targets": answers | {"A loop.": 1}}
        for n in range(3)
    ]
    (folder / "truthfulqa").mkdir()
    (folder / "truthfulqa/mc_task.json").write_text(json.dumps(questions))
    return folder


def _write_table(path: Path, delimiter: str, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def _write(path: Path, make: Any, count: int, first: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [make(number) for number in range(first, first + count)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
