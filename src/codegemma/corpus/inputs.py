"""Lists everything that a build was given: repositories, archives of them, tables of source files, documents.

**In**: paths, each alone or as `kind=PATH`, which says what its files are to a mixture.
**Out**: one `Listing` per repository, each with a name of its own.
**Not**: what is read of them; that is `read.py`.

A path alone is code unless its documents say otherwise. With `text=` or `mathematics=` in front, only documents are
read, also from among code; with `code=` only code.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import MappingProxyType

from codegemma.corpus.columns import parse_columns
from codegemma.corpus.documents import MATH, TEXT, is_document, list_documents
from codegemma.corpus.entries import Listing
from codegemma.corpus.listing import list_repository
from codegemma.corpus.parquet import is_parquet, list_parquet
from codegemma.errors import InputError
from codegemma.records import SourceKind


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
    given: set[tuple[SourceKind | None, Path]] = set()
    listings: list[Listing] = []
    names: set[str] = set()
    for place in inputs:
        kind, path = split_kind(place)
        if (kind, path.resolve()) in given:
            raise InputError(f"{place}: given twice; give each repository once")
        given.add((kind, path.resolve()))
        language = _LANGUAGE_OF_KIND.get(kind, document_language) if kind else document_language
        for listing in _list_input(path, kind, exclude, scratch, parquet_columns, language):
            name = _find_free_name(listing.repo, names)
            names.add(name)
            listings.append(replace(listing, repo=name, kind=kind))
    return listings


_LANGUAGE_OF_KIND = MappingProxyType({SourceKind.TEXT: TEXT, SourceKind.MATHEMATICS: MATH})


def split_kind(place: Path) -> tuple[SourceKind | None, Path]:
    """Take the kind off an input. Where a folder's name really begins so, its absolute path says what is meant.

    >>> split_kind(Path("synthetic=runs/made"))
    (<SourceKind.SYNTHETIC: 'synthetic'>, PosixPath('runs/made'))
    >>> split_kind(Path("runs/a=b"))
    (None, PosixPath('runs/a=b'))
    """
    name, sign, path = str(place).partition("=")
    is_kind = bool(sign and path) and name in tuple(SourceKind)
    return (SourceKind(name), Path(path)) if is_kind else (None, Path(place))


def _list_input(
    path: Path,
    kind: SourceKind | None,
    exclude: Path | None,
    scratch: Path | None,
    parquet_columns: Sequence[str],
    document_language: str,
) -> list[Listing]:
    if is_parquet(path):
        return list_parquet(path, parse_columns(parquet_columns), scratch, document_language)
    if kind in _LANGUAGE_OF_KIND or (kind is not SourceKind.CODE and is_document(path)):
        return [list_documents(path, document_language, scratch, kind)]
    return [list_repository(path, exclude=exclude, scratch=scratch)]


def _find_free_name(name: str, taken: set[str]) -> str:
    """Number a name that is taken.

    >>> _find_free_name("app", {"app", "app#2"})
    'app#3'
    """
    if name not in taken:
        return name
    return next(free for number in count(2) if (free := f"{name}#{number}") not in taken)
