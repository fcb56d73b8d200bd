"""Finds and reads the local files of a data set of natural language or mathematics.

**In**: folders of `--data`; the name of a data set, perhaps of a part of it, and of a split.
**Out**: its rows as an Arrow table, with the columns of the data set's copy on the Hugging Face hub.
**Not**: downloading; and no conversion of other columns: what a task reads is what lm-evaluation-harness reads.

A split is `NAME/SPLIT*`, `NAME/PART/SPLIT*` or `NAME_SPLIT*`, in one or several files of `.parquet` (as the hub has
them), `.jsonl` or `.jsonl.gz`. Tests of bias are read as their authors published them too (`published_rows.py`).
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from codegemma.errors import InputError
from codegemma.evals.published_rows import read_published

_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
_SEPARATORS = "_-./"


def find_split(places: Sequence[Path], name: str, part: str | None, split: str) -> list[Path]:
    """List the files of a split, in order, from the first of the places that has any; none where there is none."""
    for place in places:
        roots = [root for root in (place / name, place) if root.is_dir() and (root != place or place.name == name)]
        folders = [root / part if part else root for root in roots]
        found = [file for folder in folders for file in _list_files(folder, split)]
        if not found and part is None and place.is_dir():
            found = [file for mark in "_-" for file in _list_files(place, f"{name}{mark}{split}")]
        if found:
            return found
    return []


def find_published(places: Sequence[Path], name: str, files: Sequence[str]) -> list[Path]:
    """List the files that the authors of a data set published, from the first folder that has any of them."""
    for place in places:
        for folder in (place / name, place):
            if found := [folder / file for file in files if (folder / file).is_file()]:
                return found
    return []


def list_parts(places: Sequence[Path], name: str, split: str) -> list[str]:
    """List the parts of a data set that have the split: folders below its own."""
    for place in places:
        for root in (place / name, place):
            if root.name == name and root.is_dir():
                return sorted(f.name for f in root.iterdir() if f.is_dir() and _list_files(f, split))
    return []


def read_table(files: Sequence[Path], columns: Sequence[str], published: Sequence[str] = ()) -> pa.Table:
    """Read the rows of all files; those of the published names are not in the hub's form.

    Raises:
        InputError: a file that is cut off or something else, without rows, or without one of the columns.
    """
    tables = [_read_file(file, file.name in published) for file in files]
    for file, table in zip(files, tables, strict=True):
        missing = [column for column in columns if column not in table.column_names]
        if missing:
            raise InputError(
                f"{file} has no column {missing[0]!r}; it has {', '.join(table.column_names) or 'none'}; wanted "
                f"{', '.join(columns)}, as the data set's copy on the hub"
            )
    return pa.concat_tables(tables, promote_options="default")


def _list_files(folder: Path, start: str) -> list[Path]:
    if not folder.is_dir():
        return []
    named = sorted(file for file in folder.iterdir() if file.name.startswith(start) and file.is_file())
    return [f for f in named if f.name.endswith(_SUFFIXES) and f.name[len(start) : len(start) + 1] in _SEPARATORS]


def _read_file(file: Path, is_published: bool) -> pa.Table:
    try:
        if file.suffix == ".parquet":
            table = pq.read_table(file)
        else:
            table = pa.Table.from_pylist(list(read_published(file) if is_published else _read_lines(file)))
    except (OSError, EOFError, zlib.error, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} cannot be read ({type(error).__name__}: {error}); wanted Parquet or JSON lines; get it again"
        ) from error
    if not table.num_rows:
        raise InputError(f"{file} holds no row; get it again")
    return table


def _read_lines(file: Path) -> Iterator[dict[str, object]]:
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no object")
                yield row
