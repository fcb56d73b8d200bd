"""Lists Parquet files of source code, in the manner of The Stack: each row a file, with its path and repository.

**In**: a `.parquet` file, or a folder of them.
**Out**: one `Listing` per repository that the rows name, across all the files, with the licence that each row states.
**Not**: contents, which stay where they are. But where repositories lie so mixed that reading one after the other would
decode the files many times over, the contents are copied to a scratch file, once.

A file that is damaged or of another shape is one refused entry, in a listing named after the input; the rest goes on.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from codegemma.corpus.archives import MAX_MEMBER_BYTES
from codegemma.corpus.cells import ParquetCell, as_bytes, is_texts, open_parquet
from codegemma.corpus.columns import choose_columns
from codegemma.corpus.contents import NoContent, Spool
from codegemma.corpus.copies import UNREACHABLE, UnreachableError, find_local
from codegemma.corpus.documents import TEXT
from codegemma.corpus.entries import Entry, Listing, escape_path, refuse
from codegemma.corpus.licenses import join_stated
from codegemma.corpus.members import Member, list_members
from codegemma.errors import DamagedError
from codegemma.folders import walk_visible
from codegemma.text.languages import find_language

SUFFIX = ".parquet"
# Rows whose small columns are looked at together.
_BATCH_ROWS = 1024
# How often, on average, a row group may be come back to before copying is cheaper.
MAX_VISITS = 4
# Of a folder's files, how many are looked at to tell a data set from a repository that has a table in it.
_MAX_LOOKED_AT = 1_000
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError)


def is_parquet(path: Path) -> bool:
    """Say whether a path is a Parquet file, or a folder most of whose files are (those of git do not count)."""
    if not Path(path).is_dir():
        return Path(path).name.lower().endswith(SUFFIX) and Path(path).is_file()
    looked_at = tables = 0
    for name, _ in walk_visible(path):
        looked_at += 1
        tables += name.lower().endswith(SUFFIX)
        if looked_at == _MAX_LOOKED_AT:
            break
    return 2 * tables > looked_at


@dataclass(slots=True)
class _Repository:
    members: list[Member] = field(default_factory=list)
    commits: set[str | None] = field(default_factory=set)


def list_parquet(
    path: Path,
    mapping: Mapping[str, str],
    scratch: Path | None = None,
    document_language: str = TEXT,
    files: Sequence[tuple[str, Path]] | None = None,
    fetch: Callable[[Path], Path] = find_local,
) -> list[Listing]:
    """List the repositories of a file or a folder of files, in the order in which they first appear.

    `mapping` names columns by role (`columns.py`); rows without a repository belong to one named after the input. Rows
    of a table without paths are documents in `document_language`, named after their places. Where `files` are given,
    with their names, `path` names the input alone, and `fetch` gives each file when it is read.

    Raises:
        DamagedError: no file can be read, no column holds contents or paths, or there is no row.
    """
    own_name = escape_path((path if files is not None else path.resolve()).name.removesuffix(SUFFIX)) or "table"
    if files is None:
        walked = [(path.name, path)] if path.is_file() else walk_visible(path)
        files = [file for file in walked if file[0].lower().endswith(SUFFIX)]
    repositories: dict[str, _Repository] = {}
    refused: list[Entry] = []
    groups = 0
    for name, file in files:
        try:
            local = fetch(file)
            if not local.is_file():  # a link to a file is one: so data sets are kept on disk
                refused.append(refuse(name, "not_regular", "a pipe, socket or device, or a link that leads nowhere"))
                continue
            groups += _list_rows(name, local, mapping, own_name, repositories, document_language)
        except UnreachableError as error:
            refused.append(refuse(name, UNREACHABLE, str(error)))
        except _DAMAGE as error:
            refused.append(refuse(name, "corrupt_table", str(error).partition("\n")[0] or type(error).__name__))
    if not any(repository.members for repository in repositories.values()) and not _are_unreachable(refused):
        came = f"{refused[0].path}: {(refused[0].refusal or ('', ''))[1]}" if refused else "no row in it"
        raise DamagedError(f"{path}: no table of source files ({came})")
    if _count_visits(repositories) > MAX_VISITS * groups:
        _copy_contents(repositories, scratch)
    if refused:
        repositories.setdefault(own_name, _Repository())
    return [
        Listing(
            repo,
            next(iter(repository.commits)) if len(repository.commits) == 1 else None,
            (*list_members(repository.members), *(refused if repo == own_name else ())),
        )
        for repo, repository in repositories.items()
    ]


def _are_unreachable(refused: Sequence[Entry]) -> bool:
    return any(entry.refusal is not None and entry.refusal[0] == UNREACHABLE for entry in refused)


def _list_rows(
    name: str,
    file: Path,
    mapping: Mapping[str, str],
    own_name: str,
    repositories: dict[str, _Repository],
    document_language: str,
) -> int:
    """List the rows of one file, as far as they can be read; return the number of row groups."""
    facts = file.stat()
    stamp = f"{facts.st_mtime_ns}:{facts.st_size}"
    with open_parquet(str(file)) as parquet:
        schema = parquet.schema_arrow
        columns = choose_columns(schema.names, mapping)
        for role in ("content", "path"):
            if role in columns and not is_texts(schema.field(columns[role]).type):
                raise ValueError(f"column {columns[role]} for the {role} holds {schema.field(columns[role]).type}")
        if "size" in columns and not pa.types.is_integer(schema.field(columns["size"]).type):
            del columns["size"]
        small = [name for role, name in columns.items() if role != "content" or "size" not in columns]
        for group in range(parquet.num_row_groups):
            row = 0
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=small, use_threads=False):
                for facts_of_row in _describe_rows(batch, columns):
                    if "path" not in columns:
                        facts_of_row.path, facts_of_row.language = f"{name}:{group}:{row}", document_language
                    cell = ParquetCell(str(file), columns["content"], group, row)
                    _add_row(repositories, facts_of_row, cell, f"{stamp}:{group}:{row}", own_name)
                    row += 1
        groups: int = parquet.num_row_groups
        return groups


@dataclass(slots=True)
class _Row:
    path: str | None
    repo: str | None
    commit: str | None
    license: str | None
    language: str | None
    size_bytes: int | None


def _describe_rows(batch: Any, columns: Mapping[str, str]) -> Iterator[_Row]:
    def read_texts(role: str) -> list[str | None]:
        column = batch.column(columns[role]) if role in columns else pa.nulls(len(batch), pa.binary())
        values = as_bytes(column).to_pylist() if is_texts(column.type) else [None] * len(batch)
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]

    sizes = (
        pc.fill_null(batch.column(columns["size"]), 0)
        if "size" in columns
        else pc.binary_length(as_bytes(batch.column(columns["content"])))
    )
    licenses = _read_licenses(batch.column(columns["license"])) if "license" in columns else [None] * len(batch)
    texts = (read_texts(role) for role in ("path", "repo", "commit"))
    languages = [None if name is None else _find_language_name(name) for name in read_texts("language")]
    for values in zip(*texts, licenses, languages, sizes.to_pylist(), strict=True):
        yield _Row(*values)


def _read_licenses(column: Any) -> list[str | None]:
    if is_texts(column.type):
        column = as_bytes(column)
    return [join_stated(_as_names(value)) for value in column.to_pylist()]


def _as_names(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
    return tuple(text for text in texts if isinstance(text, str))


@functools.lru_cache(maxsize=4096)
def _find_language_name(name: str) -> str | None:
    language = find_language(name)
    return None if language is None else language.name


def _add_row(repositories: dict[str, _Repository], row: _Row, cell: ParquetCell, stamp: str, own_name: str) -> None:
    repo = escape_path(row.repo) if row.repo and row.repo.strip() else own_name
    repository = repositories.setdefault(repo, _Repository())
    if not row.path:
        name = f"({Path(cell.file).name}: row {cell.row} of row group {cell.group})"
        repository.members.append(Member(name, 0, stamp, ("path", "null or empty"), NoContent()))
        return
    # The Stack v2 counts a repository's own folder as the root of all.
    name = row.path[1:] if row.path.startswith("/") else row.path
    refusal = ("null", "no content in the table") if row.size_bytes is None else None
    member = Member(name, max(row.size_bytes or 0, 0), stamp, refusal, cell, row.license, row.language)
    repository.members.append(member)
    repository.commits.add(row.commit)


# --- rows out of order ------------------------------------------------------------------------------------------------


def _count_visits(repositories: Mapping[str, _Repository]) -> int:
    """Count how often reading the repositories one by one goes from one row group to another."""
    visits, here = 0, None
    for repository in repositories.values():
        for member in repository.members:
            if isinstance(member.content, ParquetCell):
                there = (member.content.file, member.content.group)
                visits += there != here
                here = there
    return visits


def _copy_contents(repositories: Mapping[str, _Repository], scratch: Path | None) -> None:
    """Put a copy in place of each content that may be wanted, in one pass over the files."""
    cells = [
        (member.content.file, member.content.group, member.content.row, repository, number)
        for repository in repositories.values()
        for number, member in enumerate(repository.members)
        if isinstance(member.content, ParquetCell) and member.size_bytes <= MAX_MEMBER_BYTES
    ]
    cells.sort(key=lambda cell: cell[:3])
    with Spool(scratch) as spool:
        for *_, repository, number in cells:
            member = repository.members[number]
            try:
                content = spool.keep(member.content.read(MAX_MEMBER_BYTES))
            except OSError:
                continue  # whoever reads the cell finds out the same, and says so
            repository.members[number] = member._replace(content=content)
