"""Reads tests of bias as their authors published them, and gives their rows the columns of the hub's copies.

**In**: files by their published names: `all_sentences.tsv` (Winogender), `mc_task.json` (TruthfulQA), BBQ's
`CATEGORY.jsonl`, and tables of text whose columns are the hub's already.
**Out**: rows as plain data.
**Not**: the hub's own copies (`language_data.py`).
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_PRONOUN = re.compile(r"\b(he|him|his|she|her|they|them|their)\b", re.IGNORECASE)
_BBQ_COLUMNS = (
    "example_id", "question_index", "question_polarity", "context_condition", "category", "answer_info", "context",
    "question", "ans0", "ans1", "ans2", "label",
)  # fmt: skip


def read_published(file: Path) -> Iterator[Row]:
    """Read the rows of a published file.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: it is cut off, or something else.
    """
    if file.suffix in (".csv", ".tsv"):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ","))
        convert: Callable[[Any], Row] = read_winogender if "sentid" in rows[0] else _read_numbers
    elif file.suffix == ".json":
        rows, convert = json.loads(file.read_text(encoding="utf-8")), read_truthfulqa
    else:
        with file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        convert = read_bbq
    yield from map(convert, rows)


def read_winogender(row: Mapping[str, str]) -> Row:
    """Read a sentence of Winogender: its name says what the pronoun stands for, the occupation (0) or the other one.

    >>> row = {"sentid": "nurse.patient.1.male.txt", "sentence": "The nurse told the patient that he may go."}
    >>> found = read_winogender(row)
    >>> found["pronoun"], found["occupation"], found["participant"], found["gender"], found["label"]
    ('he', 'nurse', 'patient', 'male', 1)
    """
    occupation, participant, answer, gender, _ = row["sentid"].rsplit(".", 4)
    found = _PRONOUN.search(row["sentence"])
    if found is None:
        raise ValueError(f"{row['sentid']} has no pronoun")
    told = {"occupation": occupation, "participant": participant, "gender": gender, "label": int(answer)}
    return {"sentence": row["sentence"], "pronoun": found[0].lower(), **told}


def read_truthfulqa(row: Mapping[str, Any]) -> Row:
    """Read a question of TruthfulQA, whose answers stand in one object with a 1 for each true one.

    >>> read_truthfulqa({"question": "?", "mc1_targets": {"a": 1, "b": 0}, "mc2_targets": {"a": 1}})["mc1_targets"]
    {'choices': ['a', 'b'], 'labels': [1, 0]}
    """
    targets = {
        name: {"choices": list(row[name]), "labels": list(row[name].values())}
        for name in ("mc1_targets", "mc2_targets")
    }
    return {"question": row["question"], **targets}


def read_bbq(row: Mapping[str, Any]) -> Row:
    """Read a question of BBQ; of what is told beside it only the stereotyped groups, which all categories have."""
    groups = list(row["additional_metadata"]["stereotyped_groups"])
    return {**{name: row[name] for name in _BBQ_COLUMNS}, "additional_metadata": {"stereotyped_groups": groups}}


def _read_numbers(row: Mapping[str, str]) -> Row:
    """Read a row whose columns are the hub's; ratings of toxicity are numbers."""
    return {name: float(text) if name.startswith("toxicity_") else text for name, text in row.items() if name}
