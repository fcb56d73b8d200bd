"""Lists everything that a build was given: repositories, archives of them, tables of source files, documents.

**In**: paths.
**Out**: one `Listing` per repository, each with a name of its own.
**Not**: what is read of them; that is `read.py`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from codegemma.corpus.columns import parse_columns
from codegemma.corpus.documents import TEXT, is_document, list_documents
from codegemma.corpus.entries import Listing
from codegemma.corpus.listing import list_repository
from codegemma.corpus.parquet import is_parquet, list_parquet
from codegemma.errors import InputError


def list_repositories(
    inputs: Sequence[Path],
    exclude: Path | None = None,
    scratch: Path | None = None,
    parquet_columns: Sequence[str] = (),
    document_language: str = TEXT,
) -> list[Listing]:
    """List the repositories of all inputs, with `exclude` left out; those of one name are told apart by a number.

    `scratch` is a folder for what must be copied to be read again, which must outlive the listings; by default it goes
    with this process. `parquet_columns` name columns as `role=column`; `document_language` is that of documents which
    do not show theirs.

    Raises:
        InputError: none given, one given twice, or one that cannot be used.
    """
    if not inputs:
        raise InputError("no repository given; wanted at least one folder")
    folders: set[Path] = set()
    listings: list[Listing] = []
    names: set[str] = set()
    for path in inputs:
        folder = Path(os.path.realpath(path))  # a link to itself is no error yet
        if folder in folders:
            raise InputError(f"{path}: given twice; give each repository once")
        folders.add(folder)
        for listing in _list_input(path, exclude, scratch, parquet_columns, document_language):
            name = _find_free_name(listing.repo, names)
            names.add(name)
            listings.append(listing if name == listing.repo else replace(listing, repo=name))
    return listings


def _list_input(
    path: Path, exclude: Path | None, scratch: Path | None, parquet_columns: Sequence[str], document_language: str
) -> list[Listing]:
    if is_parquet(path):
        return list_parquet(path, parse_columns(parquet_columns), scratch, document_language)
    if is_document(path):
        return [list_documents(path, document_language, scratch)]
    return [list_repository(path, exclude=exclude, scratch=scratch)]


def _find_free_name(name: str, taken: set[str]) -> str:
    """Number a name that is taken.

    >>> _find_free_name("app", {"app", "app#2"})
    'app#3'
    """
    if name not in taken:
        return name
    return next(free for number in count(2) if (free := f"{name}#{number}") not in taken)
