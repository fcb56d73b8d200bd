"""Removes records from Parquet files that a build wrote; a file that holds none of them keeps its bytes and its time.

**In**: files, the repository, and which of its paths must go.
**Out**: the files without those records, each whole at any moment; of `steps/`, only what is known to be free of them.
**Not**: which files and counts those are: each reach has its own `removal.py`.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from codegemma import array_records
from codegemma.errors import InputError, OutputError
from codegemma.shards import SUFFIXES, list_parts, read_records, write_records

T = TypeVar("T")
# Repository and path -> whether it must go.
Matches = Callable[[str, str], bool]


def list_parts_of(output: Path, repo: str) -> list[Path]:
    """List the parts of an output that hold records of a repository; only that column is read.

    Raises:
        InputError: a part is missing or damaged.
    """
    return [part for part in list_parts(output) if repo in list_repos(part)]


def list_repos(part: Path) -> set[str]:
    """List the repositories that the records of a file are of.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        if part.suffix == array_records.SUFFIX:
            return {json.loads(blob)["repo"] for blob in array_records.read_blobs(part)}
        with pq.ParquetFile(part) as parquet:
            batches = parquet.iter_batches(columns=["repo"])
            return {repo for batch in batches for repo in batch.column("repo").unique().to_pylist()}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{part}: truncated, damaged or no file of records ({reason}); build it again") from error


def rewrite(file: Path, kind: type[T], change: Callable[[T], T | None]) -> None:
    """Write the records of a file anew as `change` gives them, `None` where one goes; a part without any goes too.

    Where nothing changes, nothing is written.

    Raises:
        InputError: the file is damaged.
        OutputError: no permission or no space.
    """
    if all(change(record) is record for record in read_records(file, kind)):
        return
    kept = (changed for record in read_records(file, kind) if (changed := change(record)) is not None)
    first = next(kept, None)
    if first is None and file.parent.suffix in SUFFIXES:
        _unlink(file)
    else:
        write_records(file, kept if first is None else chain([first], kept), kind)


def remove_steps(folder: Path, matches: Matches, repo: str) -> None:
    """Remove from a folder of steps all that is not known to be free of what must go; the next build makes it anew.

    Files that share a name up to the first dot are of one task, and go together. Such a group is free of it when it
    tells the repositories of what it holds, and nothing that matches is among it. A group that tells none, such as
    hashes or verdicts by row, goes.

    Raises:
        OutputError: no permission.
    """
    for group in list_step_groups(folder, matches, repo):
        for path in group:
            _unlink(path)


def list_step_groups(folder: Path, matches: Matches, repo: str) -> Iterator[list[Path]]:
    """List the groups that `remove_steps` removes; in each, the files that tell what it holds come last.

    A kill in the middle of a group so leaves what condemns the rest.
    """
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        groups[path.name.lstrip(".").partition(".")[0]].append(path)
    for group in groups.values():
        verdicts = {path: _is_free(path, matches, repo) for path in group}
        if False in verdicts.values() or True not in verdicts.values():
            yield sorted(group, key=lambda path: verdicts[path] is False)


def _is_free(path: Path, matches: Matches, repo: str) -> bool | None:
    """Tell whether a file is free of what must go; `None` where it does not tell. What cannot be read is not free."""
    if path.is_dir() or path.suffix != ".parquet" or path.name.startswith("."):
        return None
    try:
        with pq.ParquetFile(path) as parquet:
            names = [name for name in ("repo", "path") if name in parquet.schema_arrow.names]
            if "repo" not in names:
                return None
            return not any(_holds(batch, matches, repo) for batch in parquet.iter_batches(columns=names))
    except (pa.ArrowException, OSError, ValueError):
        return False


def _holds(batch: Any, matches: Matches, repo: str) -> bool:
    repos = batch.column("repo")
    if repo not in repos.unique().to_pylist():
        return False
    # What names no path, such as a pack, is judged by its repository alone.
    if "path" not in batch.schema.names:
        return True
    return any(map(matches, repos.to_pylist(), batch.column("path").to_pylist()))


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half written, anywhere below: it may hold what must go.

    Raises:
        OutputError: no permission.
    """
    for path in list(folder.rglob(".*.tmp")):
        _unlink(path)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there.

    Raises:
        OutputError: no permission.
    """
    if folder.exists():
        _unlink(folder)


def _unlink(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed ({error.strerror}); give the permission and run again") from error
