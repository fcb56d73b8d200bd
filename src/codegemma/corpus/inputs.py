"""Lists everything that a build was given: repositories, archives of them, tables of source files, documents.

**In**: paths, and addresses in stores; each may say of what kind its files are to a mixture.
**Out**: one `Listing` per repository, each with a name of its own.
**Not**: what is read of them; that is `read.py`.

A path alone is code unless its documents say otherwise. With `text=` or `mathematics=` in front, only documents are
read, also from among code; with `code=` only code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from codegemma.corpus.columns import parse_columns
from codegemma.corpus.contents import choose_scratch
from codegemma.corpus.copies import Copies
from codegemma.corpus.documents import MATH, TEXT, is_document, list_documents
from codegemma.corpus.entries import Listing, escape_path, refuse
from codegemma.corpus.listing import list_repository
from codegemma.corpus.parquet import is_parquet, list_parquet
from codegemma.corpus.stored import list_stored
from codegemma.errors import DamagedError, InputError
from codegemma.places import identify_place, is_remote, parse_place
from codegemma.records import SourceKind

# Why an input gave nothing; mended, the next build takes it up.
DAMAGED = "damaged"


class Input(NamedTuple):
    """A place to read, and what its files are to a mixture, where the user says so."""

    place: Path
    kind: SourceKind | None = None


def list_repositories(
    inputs: Sequence[Path | Input],
    exclude: Path | None = None,
    scratch: Path | None = None,
    parquet_columns: Sequence[str] = (),
    document_language: str = TEXT,
    copies: Path | None = None,
) -> list[Listing]:
    """List the repositories of all inputs, with `exclude` left out; those of one name are told apart by a number.

    `scratch` is a folder for what must be copied to be read again, which must outlive the listings; by default it goes
    with this process. `parquet_columns` name columns as `role=column`; `document_language` is that of documents which
    do not show theirs. `copies` is a folder for copies of objects from stores; those of this call's inputs stay there.
    Beside others, an input that is damaged is a listing of one refused entry.

    Raises:
        InputError: none given, one given twice, one that is no input, or all are damaged.
    """
    if not inputs:
        raise InputError("no repository given; wanted at least one folder")
    kept = Copies(copies or choose_scratch(scratch) / "copies")
    given: set[tuple[SourceKind | None, str]] = set()
    listings: list[Listing] = []
    names: set[str] = set()
    damaged: list[DamagedError] = []
    for place, kind in map(as_input, inputs):
        identity = (kind, identify_place(place))
        if identity in given:
            raise InputError(f"{place}: given twice; give each repository once")
        given.add(identity)
        language = _LANGUAGE_OF_KIND.get(kind, document_language) if kind else document_language
        try:
            found = _list_input(Input(place, kind), exclude, scratch, parquet_columns, language, kept)
        except DamagedError as error:
            damaged.append(error)
            found = [_refuse_input(place, error)]
        for listing in found:
            name = _find_free_name(listing.repo, names)
            names.add(name)
            listings.append(replace(listing, repo=name, kind=kind))
    kept.remove_others()
    if len(damaged) == len(inputs):
        raise damaged[0]
    return listings


def _refuse_input(place: Path, error: DamagedError) -> Listing:
    name = escape_path(place.resolve().name if not is_remote(place) else place.name) or "input"
    return Listing(name, None, (refuse(name, DAMAGED, str(error).removeprefix(f"{place}: ")),))


def tell_damaged(listings: Sequence[Listing]) -> Iterator[str]:
    """Say of each damaged input what is wrong with it."""
    for listing in listings:
        for entry in listing.entries[:1]:
            if entry.refusal is not None and entry.refusal[0] == DAMAGED:
                yield f"{listing.repo}: left out: {entry.refusal[1]}"


# Conversations come to `codegemma align` as they are: no filter of a corpus knows turns.
_CORPUS_KINDS = tuple(kind for kind in SourceKind if kind is not SourceKind.CONVERSATION)
_LANGUAGE_OF_KIND = MappingProxyType({SourceKind.TEXT: TEXT, SourceKind.MATHEMATICS: MATH})


def parse_input(text: str) -> Input:
    """Read an input as a user gives it, `PLACE` or `KIND=PLACE`.

    Where a folder's name really begins with a kind, its absolute path says what is meant.

    >>> parse_input("synthetic=runs/made")
    Input(place=PosixPath('runs/made'), kind=<SourceKind.SYNTHETIC: 'synthetic'>)
    >>> parse_input("runs/a=b")
    Input(place=PosixPath('runs/a=b'), kind=None)
    """
    name, sign, place = text.partition("=")
    if sign and place and name in _CORPUS_KINDS:
        return Input(parse_place(place), SourceKind(name))
    return Input(parse_place(text))


def as_input(given: Path | Input) -> Input:
    """Take a path alone as an input that says nothing of its kind."""
    return given if isinstance(given, Input) else Input(given)


def _list_input(
    given: Input,
    exclude: Path | None,
    scratch: Path | None,
    parquet_columns: Sequence[str],
    document_language: str,
    copies: Copies,
) -> list[Listing]:
    path, kind = given
    if is_remote(path):
        return list_stored(path, copies, parse_columns(parquet_columns), document_language, scratch, kind)
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
