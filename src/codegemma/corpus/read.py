"""Reads the files of a repository: each comes out decoded, or dropped with the reason.

**In**: a folder: git working tree, bare repository or plain folder.
**Out**: one `SourceFile` or `DroppedFile` (stage `read`) per entry of the listing, in its order, with its licence.
**Not**: judgement of the text or the licence; that is `inspect.py`. At most `max_file_bytes` of a file are ever read.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.entries import Entry, Listing
from codegemma.corpus.licenses import MAX_STATEMENT_BYTES, FolderLicenses, read_header, speaks_of_license
from codegemma.corpus.listing import list_repository
from codegemma.records import DroppedFile, SourceFile
from codegemma.text.headers import list_candidates, settle_language
from codegemma.text.languages import Language, detect_language, has_grammar

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
    folders = _read_licenses(listing)
    for entry in listing.entries:
        try:
            yield _read_entry(listing, entry, choices, folders)
        except _RefusedError as refused:
            reason, detail = refused.args
            yield DroppedFile(listing.repo, entry.path, STAGE, reason, detail, entry.size_bytes)


def _read_licenses(listing: Listing) -> FolderLicenses:
    """Read the licence texts and manifests of a repository; what cannot be read states nothing."""
    folders = FolderLicenses()
    for entry in listing.entries:
        if entry.refusal is None and speaks_of_license(entry.path):
            with contextlib.suppress(OSError):
                folders.add(entry.path, entry.read_bytes(MAX_STATEMENT_BYTES).decode("utf-8", "replace"))
    return folders


def _read_entry(listing: Listing, entry: Entry, choices: CorpusChoices, folders: FolderLicenses) -> SourceFile:
    if entry.refusal is not None:
        raise _RefusedError(*entry.refusal)
    language = _check_language(entry, choices)
    if entry.size_bytes > choices.max_file_bytes:
        raise _RefusedError("too_big", f"{entry.size_bytes} bytes, at most {choices.max_file_bytes}")
    content = _read_bytes(entry, choices.max_file_bytes + 1)
    if len(content) > choices.max_file_bytes:
        raise _RefusedError("too_big", f"grew beyond {choices.max_file_bytes} bytes while it was read")
    text = decode_source(content)
    language = settle_language(entry.path, language, text)
    _check_wanted([language], choices)
    blob = hash_blob(content)
    license = read_header(text) or folders.find(entry.path)
    return SourceFile(listing.repo, entry.path, language.name, text, blob, license, listing.commit)


def _check_language(entry: Entry, choices: CorpusChoices) -> Language:
    suffix = PurePosixPath(entry.path).suffix
    head = b"" if suffix else _read_bytes(entry, FIRST_LINE_BYTES)
    language = detect_language(entry.path, head.decode("utf-8", "replace").partition("\n")[0])
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
