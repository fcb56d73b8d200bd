"""Reads the files of a repository: each comes out decoded, or dropped with the reason.

**In**: a folder: git working tree, bare repository or plain folder.
**Out**: one `SourceFile` or `DroppedFile` (stage `read`) per entry of the listing, in its order, with its licence.
**Not**: judgement of text or licence (`intake.py`, `judge.py`). At most `max_file_bytes` of a file are ever read.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from codegemma.corpus.choices import CorpusChoices, Notebooks
from codegemma.corpus.copies import UNREACHABLE, UnreachableError
from codegemma.corpus.documents import KIND_OF_DOCUMENT
from codegemma.corpus.entries import Entry, ListedFile, Listing
from codegemma.corpus.licenses import MAX_STATEMENT_BYTES, FolderLicenses, read_header, speaks_of_license
from codegemma.corpus.listing import list_repository
from codegemma.corpus.notebooks import SUFFIX as NOTEBOOK_SUFFIX
from codegemma.corpus.notebooks import convert_notebook
from codegemma.records import BuildFile, DroppedFile, SourceFile, SourceKind
from codegemma.text.headers import list_candidates, settle_language
from codegemma.text.languages import (
    DOCUMENT_LANGUAGES,
    LANGUAGES,
    Language,
    detect_language,
    has_grammar,
    is_build_file,
)

STAGE = "read"
# Enough for any `#!` line.
FIRST_LINE_BYTES = 256
BYTE_ORDER_MARK = "\ufeff"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class _RefusedError(Exception):
    """Carries reason and detail from the check that failed to the record."""


def read_repository(root: Path, choices: CorpusChoices) -> Iterator[SourceFile | DroppedFile]:
    """Read a repository file by file.

    Raises:
        InputError: no such folder, no commit, nothing in it.
    """
    yield from read_listing(list_repository(root), choices)


def read_listing(listing: Listing, choices: CorpusChoices) -> Iterator[SourceFile | DroppedFile]:
    """Read what was listed; whatever happens to one file, the next one is read."""
    for listed in attach_licenses([listing]):
        yield read_file(listed, choices)


def attach_licenses(listings: Iterable[Listing]) -> Iterator[ListedFile]:
    """Read the licence texts and manifests of each repository, and say of each of its entries what they state.

    One that a store does not give is refused: until it is read, nobody knows what the files beside it stand under.
    """
    for listing in listings:
        folders, unreached = _read_licenses(listing)
        for entry in listing.entries:
            license = folders.find(entry.path)
            yield ListedFile(listing.repo, listing.commit, license, unreached.get(entry.path, entry), listing.kind)


def _read_licenses(listing: Listing) -> tuple[FolderLicenses, dict[str, Entry]]:
    folders, unreached = FolderLicenses(), {}
    for entry in listing.entries:
        if entry.refusal is None and speaks_of_license(entry.path):
            try:
                folders.add(entry.path, entry.read_bytes(MAX_STATEMENT_BYTES).decode("utf-8", "replace"))
            except UnreachableError as error:
                unreached[entry.path] = replace(entry, refusal=(UNREACHABLE, str(error)))
            except OSError:
                continue  # what cannot be read states nothing
    return folders, unreached


def read_file(listed: ListedFile, choices: CorpusChoices) -> SourceFile | DroppedFile:
    """Read one file, in any process, or say why not."""
    entry = listed.entry
    try:
        language, content, text = _read_checked(entry, choices)
    except _RefusedError as refused:
        reason, detail = refused.args
        return DroppedFile(listed.repo, entry.path, STAGE, reason, detail, entry.size_bytes)
    license = read_header(text) or listed.license or entry.stated_license
    kind = listed.kind or KIND_OF_DOCUMENT.get(language, SourceKind.CODE)
    return SourceFile(listed.repo, entry.path, language, text, hash_blob(content), license, listed.commit, kind=kind)


def read_build_file(listed: ListedFile, choices: CorpusChoices) -> BuildFile | None:
    """Read a build file of the wanted languages; `None` where it is none, or cannot be read: then it says nothing."""
    entry = listed.entry
    if entry.refusal is not None or not is_build_file(entry.path, choices.languages):
        return None
    try:
        return BuildFile(listed.repo, entry.path, decode_source(_read_whole(entry, choices.max_file_bytes)))
    except _RefusedError:
        return None


def _read_checked(entry: Entry, choices: CorpusChoices) -> tuple[str, bytes, str]:
    if entry.refusal is not None:
        raise _RefusedError(*entry.refusal)
    if entry.path.lower().endswith(NOTEBOOK_SUFFIX):
        return _read_notebook(entry, choices)
    if entry.language_hint in DOCUMENT_LANGUAGES:
        content = _read_whole(entry, choices.max_file_bytes)
        return entry.language_hint, content, decode_source(content)
    language = _check_language(entry, choices)
    content = _read_whole(entry, choices.max_file_bytes)
    text = decode_source(content)
    language = settle_language(entry.path, language, text)
    _check_wanted([language], choices)
    return language.name, content, text


def _read_notebook(entry: Entry, choices: CorpusChoices) -> tuple[str, bytes, str]:
    if choices.notebooks is Notebooks.DROP:
        raise _RefusedError("notebook", "notebooks are not wanted, see corpus.notebooks")
    content = _read_whole(entry, choices.max_notebook_bytes)
    if content.startswith(LFS_POINTER):
        raise _RefusedError("lfs_pointer", "the content is in Git LFS, not here")
    try:
        language, text = convert_notebook(content)
    except ValueError as error:
        raise _RefusedError("notebook", str(error)) from error
    _check_wanted([language], choices)
    source = text.encode()
    if len(source) > choices.max_file_bytes:
        raise _RefusedError("too_big", f"{len(source)} bytes of cells, at most {choices.max_file_bytes}")
    return language.name, content, decode_source(source)


def _read_whole(entry: Entry, max_bytes: int) -> bytes:
    if entry.size_bytes > max_bytes:
        raise _RefusedError("too_big", f"{entry.size_bytes} bytes, at most {max_bytes}")
    content = _read_bytes(entry, max_bytes + 1)
    if len(content) > max_bytes:
        raise _RefusedError("too_big", f"grew beyond {max_bytes} bytes while it was read")
    return content


def _check_language(entry: Entry, choices: CorpusChoices) -> Language:
    suffix = PurePosixPath(entry.path).suffix
    head = b"" if suffix else _read_bytes(entry, FIRST_LINE_BYTES)
    language = detect_language(entry.path, head.decode("utf-8", "replace").partition("\n")[0])
    if language is None and entry.language_hint is not None:
        language = LANGUAGES.get(entry.language_hint)
    if language is None:
        raise _RefusedError("language", f"unknown: {suffix or 'no extension'}")
    _check_wanted(list_candidates(entry.path, language), choices)
    return language


def _check_wanted(candidates: Sequence[Language], choices: CorpusChoices) -> None:
    wanted = [language for language in candidates if language.name in choices.languages]
    if not wanted:
        names = " and ".join(language.name for language in candidates)
        raise _RefusedError(
            "language", f"{names} {'is' if len(candidates) == 1 else 'are'} not among the wanted languages"
        )
    if not any(has_grammar(language.name) for language in wanted):
        module = wanted[0].grammar_module.replace("_", "-")
        raise _RefusedError("no_grammar", f"{wanted[0].name} needs {module} installed")


def _read_bytes(entry: Entry, max_bytes: int) -> bytes:
    try:
        return entry.read_bytes(max_bytes)
    except UnreachableError as error:
        raise _RefusedError(UNREACHABLE, str(error)) from error
    except OSError as error:
        raise _RefusedError("unreadable", error.strerror or str(error)) from error


def decode_source(content: bytes) -> str:
    r"""Decode strict UTF-8 and leave line ends alone; a byte order mark is no part of the text, as in an editor.

    >>> decode_source(b"\xef\xbb\xbfx = 1\r\n")
    'x = 1\r\n'
    """
    if content.startswith(LFS_POINTER):
        raise _RefusedError("lfs_pointer", "the content is in Git LFS, not here")
    if content.startswith(UTF16_MARKS):
        raise _RefusedError("undecodable", "UTF-16; wanted UTF-8")
    if b"\0" in content:
        raise _RefusedError("binary", f"NUL at byte {content.index(0)}")
    try:
        text = content.decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise _RefusedError("undecodable", f"not UTF-8 at byte {error.start}") from error
    if not text.strip():
        raise _RefusedError("empty", f"{len(content)} bytes of white space")
    return text


def hash_blob(content: bytes) -> str:
    """Name content as git does.

    >>> hash_blob(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
