"""Reads the benchmarks that training must not see, from the files in which they are published.

**In**: paths of JSON, JSON Lines (gzipped or not) and Parquet files, or of folders of them.
**Out**: the texts to guard of every item: its problem, solution, whole program and tests, as far as it has them.
**Not**: a train split: GSM8K's and MATH's are training data. Given by name one is refused; in a folder it is left out
and noted. Which benchmark a file is, its fields tell.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from codegemma.errors import InputError


class Part(StrEnum):
    """What a guarded text is to its item. A program is a problem with its solution in place."""

    PROBLEM = "problem"
    SOLUTION = "solution"
    PROGRAM = "program"
    TESTS = "tests"


class BenchmarkText(NamedTuple):
    """One text to guard. `item` is the benchmark's own name for it, or else its number in the file, from 1."""

    benchmark: str
    item: str
    part: Part
    text: str


class Shape(NamedTuple):
    """How the rows of a kind of benchmark are known, and what in them is guarded.

    Fields in one inner tuple are one text, in that order; those of different tuples are different texts.
    """

    name: str
    required: tuple[str, ...]
    guarded: Mapping[Part, tuple[tuple[str, ...], ...]]


# The first shape all of whose required fields a row has is its kind: the more telling ones come first.
SHAPES = (
    Shape(
        "HumanEval-Infilling",
        ("prompt", "suffix", "canonical_solution"),
        {Part.PROGRAM: (("prompt", "canonical_solution", "suffix"),), Part.TESTS: (("test",),)},
    ),
    # As HumanEval+, HumanEval-X and HumanEvalPack.
    Shape(
        "HumanEval",
        ("prompt", "canonical_solution"),
        {Part.PROBLEM: (("prompt",),), Part.SOLUTION: (("canonical_solution",),), Part.TESTS: (("test",),)},
    ),
    # The sanitized edition says `prompt` instead of `text`.
    Shape(
        "MBPP",
        ("code", "test_list"),
        {Part.PROBLEM: (("text",), ("prompt",)), Part.SOLUTION: (("code",),), Part.TESTS: (("test_list",),)},
    ),
    Shape(
        "DS-1000", ("prompt", "reference_code"), {Part.PROBLEM: (("prompt",),), Part.SOLUTION: (("reference_code",),)}
    ),
    Shape("SAFIM", ("prompt", "ground_truth"), {Part.PROBLEM: (("prompt",),), Part.SOLUTION: (("ground_truth",),)}),
    Shape(
        "CrossCodeEval", ("prompt", "groundtruth"), {Part.PROBLEM: (("prompt",),), Part.SOLUTION: (("groundtruth",),)}
    ),
    Shape(
        "BabelCode",
        ("qid", "signature_with_docstring"),
        {Part.PROBLEM: (("text",), ("signature_with_docstring",)), Part.SOLUTION: (("solution",),)},
    ),
    # BabelCode's translations of TransCoder's functions.
    Shape(
        "BabelCode-TransCoder",
        ("qid", "source_py"),
        {Part.SOLUTION: (("source_py",), ("source_cpp",), ("source_java",))},
    ),
    # The questions from which BabelCode makes its sets.
    Shape(
        "BabelCode questions",
        ("entry_fn_name", "testing_code"),
        {
            Part.PROBLEM: (("text",),),
            Part.SOLUTION: (("solution",), ("other_lang_solutions",)),
            Part.TESTS: (("testing_code",),),
        },
    ),
    Shape("MultiPL-E", ("prompt", "tests"), {Part.PROBLEM: (("prompt",),), Part.TESTS: (("tests",),)}),
    Shape("GSM8K", ("question", "answer"), {Part.PROBLEM: (("question",),), Part.SOLUTION: (("answer",),)}),
    Shape("APPS", ("question", "solutions"), {Part.PROBLEM: (("question",),), Part.SOLUTION: (("solutions",),)}),
    Shape("MathQA", ("Problem", "Rationale"), {Part.PROBLEM: (("Problem",),), Part.SOLUTION: (("Rationale",),)}),
    Shape("MATH", ("problem", "solution"), {Part.PROBLEM: (("problem",),), Part.SOLUTION: (("solution",),)}),
)
ITEM_FIELDS = ("task_id", "qid", "problem_id", "unique_id", "name", "id")
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_CALCULATIONS = re.compile(r"<<[^<>\n]*>>")
_TRAIN_WORDS = {"train", "training"}


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """What was read: the texts to guard, each once, and notes for the report."""

    texts: tuple[BenchmarkText, ...]
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Name the contents, for fingerprints and reports.

        >>> Benchmarks((), ()).digest == Benchmarks((), ("a note",)).digest
        True
        """
        digest = xxhash.xxh3_128()
        for text in self.texts:
            digest.update(json.dumps(text).encode())
        return digest.hexdigest()

    def describe(self) -> tuple[str, ...]:
        """Say in the report which benchmarks were given.

        >>> Benchmarks((), ()).describe()
        ('benchmarks: none given',)
        """
        names = sorted({text.benchmark for text in self.texts})
        if not names:
            return ("benchmarks: none given", *self.notes)
        items = {name: len({text.item for text in self.texts if text.benchmark == name}) for name in names}
        listed = ", ".join(f"{name} ({count} items)" for name, count in items.items())
        return (f"benchmarks: {listed}, digest {self.digest}", *self.notes)


def read_benchmarks(paths: Sequence[str | Path]) -> Benchmarks:
    """Read files and folders, in the order given.

    Raises:
        InputError: a file that is missing, damaged, a train split, or of an unknown kind; nothing may go unguarded.
    """
    texts: dict[tuple[str, str, str], BenchmarkText] = {}
    notes: list[str] = []
    for path in map(Path, paths):
        for file, benchmark in _find_files(path, notes):
            for text in _read_file(file, benchmark):
                # Infilling sets repeat each program and its tests for every hole in it: the first item is named.
                item = "" if text.part in (Part.PROGRAM, Part.TESTS) else text.item
                texts.setdefault((text.benchmark, item, "".join(text.text.split())), text)
    return Benchmarks(tuple(texts.values()), tuple(notes))


def is_train_split(path: Path) -> bool:
    """Say whether a name in a path tells of a train split.

    >>> is_train_split(Path("gsm8k/main/train-00000-of-00001.parquet")), is_train_split(Path("constrained.jsonl"))
    (True, False)
    """
    return any(_TRAIN_WORDS & set(re.split(r"[^a-z]+", part.lower())) for part in path.parts)


def _find_files(path: Path, notes: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield files with the name of their benchmark: that of the file, or of the folder where each file is one item."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
        if not files:
            raise InputError(f"{path}: no benchmark in this folder; wanted files ending in {', '.join(SUFFIXES)}")
        for file in files:
            if is_train_split(Path(path.name) / file.relative_to(path)):
                notes.append(f"{file.relative_to(path.parent)}: left out, a train split is training data")
            else:
                yield file, path.name if file.name.endswith(".json") else _strip_suffix(file.name)
        return
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; wanted a benchmark to guard")
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: unknown kind of file; wanted a name ending in {', '.join(SUFFIXES)}")
    if is_train_split(Path(path.absolute().parent.name) / path.name):
        raise InputError(f"{path}: by its name a train split, which is training data; give the test split")
    yield path, _strip_suffix(path.name)


def _strip_suffix(name: str) -> str:
    return name[: -len(next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)))]


def _read_file(file: Path, benchmark: str) -> Iterator[BenchmarkText]:
    for place, row in read_rows(file):
        yield from _read_row(row, benchmark, place, file)


def read_rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Read the rows of a file as they are, each with its place in it.

    Raises:
        InputError: truncated or damaged.
    """
    try:
        yield from _parse_rows(file)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{file}: truncated or damaged ({reason}); get it again") from error


def _parse_rows(file: Path) -> Iterator[tuple[str, Any]]:
    if file.name.endswith(".parquet"):
        with pq.ParquetFile(file) as parquet:
            rows = (row for batch in parquet.iter_batches(batch_size=1024) for row in batch.to_pylist())
            yield from ((str(number), row) for number, row in enumerate(rows, start=1))
        return
    with gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb") as stream:
        if not file.name.endswith((".json", ".json.gz")):
            yield from ((str(n), json.loads(line)) for n, line in enumerate(stream, start=1) if line.strip())
            return
        rows = json.load(stream)
    if isinstance(rows, list):
        yield from ((str(number), row) for number, row in enumerate(rows, start=1))
    else:
        yield "/".join((*file.parts[-3:-1], _strip_suffix(file.name))), rows


def _read_row(row: Any, benchmark: str, place: str, file: Path) -> Iterator[BenchmarkText]:
    fields = row if isinstance(row, dict) else {}
    shape = next((shape for shape in SHAPES if all(name in fields for name in shape.required)), None)
    if shape is None:
        known = "; ".join(f"{shape.name}: {', '.join(shape.required)}" for shape in SHAPES)
        came = ", ".join(map(str, fields)) or f"no object but {type(row).__name__}"
        raise InputError(f"{file}: item {place} is of no known benchmark; came {came}; wanted the fields of {known}")
    item = _find_item(fields) or place
    found = False
    for part, groups in shape.guarded.items():
        for names in groups:
            for text in _join_fields([fields.get(name) for name in names], part):
                found = True
                yield BenchmarkText(benchmark, item, part, text)
    if not found:
        raise InputError(f"{file}: item {place} has no text to guard; wanted some in {', '.join(shape.required)}")


def _find_item(fields: Mapping[str, Any]) -> str | None:
    metadata = fields.get("metadata")
    values = [holder.get(name) for holder in (fields, metadata) if isinstance(holder, dict) for name in ITEM_FIELDS]
    return next((str(value) for value in values if isinstance(value, str | int)), None)


def _join_fields(values: list[Any], part: Part) -> list[str]:
    """Make one text of several fields; several of a field that holds several, except for tests, which are one."""
    if len(values) == 1 and (several := _list_several(values[0])) is not None:
        texts = ["\n".join(several)] if part is Part.TESTS else several
    else:
        texts = ["".join(value for value in values if isinstance(value, str))]
    # GSM8K's solutions go about with and without the marks of its calculator.
    texts += [without for text in texts if (without := strip_calculations(text)) != text]
    return [text for text in texts if text.strip()]


def strip_calculations(text: str) -> str:
    """Take away the marks of GSM8K's calculator.

    >>> strip_calculations("48/2 = <<48/2=24>>24")
    '48/2 = 24'
    """
    return _CALCULATIONS.sub("", text)


def _list_several(value: Any) -> list[str] | None:
    """List the texts of a field that holds several: a list, a table by language, or a list as APPS spells it.

    >>> _list_several('["a = 1", "b = 2"]'), _list_several({"C++": "int a;"}), _list_several("a = [1]")
    (['a = 1', 'b = 2'], ['int a;'], None)
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, dict):
        value = list(value.values())
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else None
