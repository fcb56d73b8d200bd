"""Reads the train splits of GSM8K, MATH and MathQA into conversations: the problem, and its worked steps.

**In**: files as they are published, on the hub (Parquet) or in their repositories (JSON, JSON Lines), or their folders.
**Out**: `Example`s whose answers end as our scorers read them (`answers.py`); for each row that is none, its reason.
**Not**: a test or validation split. A file that is one by its name, by its field `split`, or because what it asks
stands in the given test data, is refused; in a folder it is left out and noted. Nothing is taken for a train split only
because it does not say what it is: then the test data must be given.

Which data set a file is, its fields tell.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codegemma.corpus.benchmarks import SUFFIXES, is_train_split, read_rows, strip_calculations
from codegemma.corpus.decontaminate import ContaminationIndex, Rule
from codegemma.errors import InputError
from codegemma.instruct.answers import end_as_gsm8k, end_as_math, find_boxed, split_gsm8k
from codegemma.instruct.examples import Example
from codegemma.records import Turn

_OTHER_SPLITS = frozenset(("test", "testing", "validation", "valid", "val", "dev", "eval", "challenge"))
_SPLIT_FIELDS = ("split", "subset")
# A train split shares a problem or two with its test split; more than this share of them, and it is the test split.
_MAX_TESTED_SHARE = 0.2
_MIN_ROWS = 20
NOT_TRAIN = "of another split, by its own field"


class MathSet(NamedTuple):
    """A data set: the fields by which it is known, and how a row becomes a question and a solution, or a reason."""

    name: str
    license: str
    required: tuple[str, ...]
    read: Callable[[Mapping[str, str]], tuple[str, str] | str]


def _read_gsm8k(row: Mapping[str, str]) -> tuple[str, str] | str:
    r"""Keep the steps, without the marks of the calculator.

    >>> _read_gsm8k({"question": "Half of 48?", "answer": "It is 48/2 = <<48/2=24>>24.\n#### 24"})
    ('Half of 48?', 'It is 48/2 = 24.\n#### 24')
    """
    found = split_gsm8k(strip_calculations(row["answer"]))
    return "no steps, or no answer behind ####" if found is None else (row["question"], end_as_gsm8k(*found))


def _read_math(row: Mapping[str, str]) -> tuple[str, str] | str:
    answer = find_boxed(row["solution"])
    return "no answer in a box" if answer is None else (row["problem"], end_as_math(row["solution"], answer))


_OPTION = re.compile(r"([a-e])\s*\)\s*(.*?)\s*(?=,\s*[a-e]\s*\)|$)", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_UNIT = re.compile(r"[\s%$.]|rs\b")
# What a rationale says last, of options that are not shown.
_CHOICE = re.compile(
    r"[\s,.;:]*\b(?:the )?(?:correct )?(?:answer|ans|option|choice)\b[\s:.=-]*(?:is)?[\s:.=-]*\(?[a-e]\)?[\s.\"]*$",
    re.I,
)


def _read_mathqa(row: Mapping[str, str]) -> tuple[str, str] | str:
    """Take the value of the right option; a rationale that does not come to it explains something else.

    >>> row = {"Problem": "3 pens at rs . 4 each ?", "Rationale": "3 * 4 = 12 . answer : b", "correct": "b"}
    >>> _read_mathqa(row | {"options": "a ) 7 , b ) rs . 12 , c ) none of these"})[1]
    '3 * 4 = 12\\n#### 12'
    """
    value = dict(_OPTION.findall(row["options"].strip("[]'\""))).get(row["correct"].strip())
    if value is None:
        return "no option is the correct one"
    if _NUMBER.search(value) is None:
        return "an answer that only its options explain"
    steps = _CHOICE.sub("", row["Rationale"].strip().strip('"').strip()).strip()
    if not set(_NUMBER.findall(value)) <= set(_NUMBER.findall(steps)):
        return "steps that do not come to the answer"
    number = _UNIT.sub("", value)
    is_number = _NUMBER.fullmatch(number) is not None
    return row["Problem"].strip(), end_as_gsm8k(steps, number) if is_number else end_as_math(steps, value)


MATH_SETS = (
    MathSet("GSM8K", "MIT", ("question", "answer"), _read_gsm8k),
    MathSet("MATH", "MIT", ("problem", "solution"), _read_math),
    MathSet("MathQA", "Apache-2.0", ("Problem", "Rationale", "options", "correct"), _read_mathqa),
)


def find_train_files(paths: Sequence[Path], notes: list[str], has_guard: bool) -> list[Path]:
    """List the files of train splits; of folders, what is none is noted.

    Raises:
        InputError: nothing there, a file of another split, or one that does not say what it is, without a guard.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES)) if path.is_dir() else [path]
        if not path.exists() or not found:
            raise InputError(f"{path}: no data set there; wanted files ending in {', '.join(SUFFIXES)}")
        root = path.absolute().parent if path.is_dir() else path.absolute().parent.parent
        for file in found:
            split = tell_split(file.absolute().relative_to(root))
            if split == "train" or (split is None and has_guard):
                files.append(file)
            elif path.is_dir():
                why = (
                    f"a {split} split is for measuring" if split else "nothing in its name says that it is for training"
                )
                notes.append(f"{file.absolute().relative_to(root)}: left out, {why}")
            else:
                raise _refuse(file, split)
    if not files:
        raise InputError(f"{', '.join(map(str, paths))}: no train split; {'; '.join(notes[:1])}")
    return files


def tell_split(path: Path) -> str | None:
    """Tell a split by the name of a file, or of the folder that it lies in, the nearest first.

    >>> tell_split(Path("gsm8k/test-0.parquet")), tell_split(Path("MATH/train/algebra/1.json")), tell_split(Path("a"))
    ('test', 'train', None)
    """
    for part in reversed(path.parts):
        if others := _OTHER_SPLITS & set(re.split(r"[^a-z]+", part.lower())):
            return min(others)
        if is_train_split(Path(part)):
            return "train"
    return None


def read_mathematics(files: Sequence[Path], guard: ContaminationIndex | None) -> Iterator[Example | str]:
    """Read the conversations of files.

    Raises:
        InputError: a damaged file, one of no known data set, or one that turns out to be a test split.
    """
    for file in files:
        rows = list(read_rows(file))
        kept = [(place, row) for place, row in rows if not _is_of_other_split(row)]
        if rows and not kept:
            raise _refuse(file, "other")
        yield from [NOT_TRAIN] * (len(rows) - len(kept))
        read = [(place, row, _find_set(file, place, row)) for place, row in kept]
        _refuse_tested(file, [row[known.required[0]] for _, row, known in read], guard)
        for place, row, known in read:
            found = known.read(row)
            if isinstance(found, str):
                yield found
                continue
            origin = {"kind": known.name, "file": file.name, "item": place, "license": known.license}
            yield Example((Turn("user", found[0].strip()), Turn("model", found[1])), origin)


def _is_of_other_split(row: Any) -> bool:
    named = (row.get(name) for name in _SPLIT_FIELDS) if isinstance(row, dict) else ()
    return any(isinstance(name, str) and not is_train_split(Path(name)) for name in named)


def _find_set(file: Path, place: str, row: Any) -> MathSet:
    fields = row if isinstance(row, dict) else {}
    for known in MATH_SETS:
        if all(isinstance(fields.get(name), str) for name in known.required):
            return known
    wanted = "; ".join(f"{known.name}: {', '.join(known.required)}" for known in MATH_SETS)
    came = ", ".join(map(str, fields)) or f"no object but {type(row).__name__}"
    raise InputError(f"{file}: row {place} is of no known data set; came {came}; wanted the texts of {wanted}")


def _refuse_tested(file: Path, questions: Sequence[str], guard: ContaminationIndex | None) -> None:
    """Refuse a file whose problems are those of the test data, whatever it is called."""
    if guard is None or (len(questions) < _MIN_ROWS and tell_split(Path(file.parent.name) / file.name) == "train"):
        return
    tested = sum(any(found.rule is Rule.WHOLE_TEXT for found in guard.find(question)) for question in questions)
    if tested > _MAX_TESTED_SHARE * len(questions):
        raise InputError(
            f"{file}: {tested:,} of its {len(questions):,} problems stand in the test data; give the train split"
        )


def _refuse(file: Path, split: str | None) -> InputError:
    if split is None:
        return InputError(
            f"{file}: nothing in its name says that it is a train split; rename it if it is one, or give the test data "
            "with --against, so that the two can be compared"
        )
    return InputError(
        f"{file}: a {split} split, by its name or its field; models are measured by it; give the train split"
    )
