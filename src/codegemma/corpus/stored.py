"""Lists what lies in an object store: an archive, a table, a file of documents, many of them, or a tree of loose files.

**In**: an address, `s3://bucket/key` or `gs://bucket/prefix`.
**Out**: the listings that the same files in a folder would give; stamps are made of what the store tells of them.
**Not**: git repositories: reading one object of them takes many requests. Nor hidden files among tables and documents.

Loose files are read one by one when their turn comes. Of the others, one object at a time is copied (`copies.py`). An
object that the store does not give is a refused entry, `unreachable`, and the next build asks for it again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from codegemma.corpus.archives import has_archive_name, list_archive, strip_archive_suffix
from codegemma.corpus.contents import StoredFile
from codegemma.corpus.copies import UNREACHABLE, Copies, UnreachableError
from codegemma.corpus.documents import SUFFIXES as DOCUMENT_SUFFIXES
from codegemma.corpus.documents import list_documents
from codegemma.corpus.entries import Entry, Listing, escape_path, refuse
from codegemma.corpus.members import Member, list_members
from codegemma.corpus.parquet import SUFFIX as TABLE_SUFFIX
from codegemma.corpus.parquet import list_parquet
from codegemma.errors import InputError
from codegemma.places import StoredObject, find_object, list_objects
from codegemma.records import SourceKind
from codegemma.text.languages import detect_language

# Of these, only documents are read.
_PROSE = (SourceKind.TEXT, SourceKind.MATHEMATICS)


def list_stored(
    place: Path,
    copies: Copies,
    mapping: Mapping[str, str],
    document_language: str,
    scratch: Path | None = None,
    kind: SourceKind | None = None,
) -> list[Listing]:
    """List what lies at an address, or below it as a prefix.

    `mapping` names columns of tables by role; `scratch` is for what is read once, as everywhere. Of text and
    mathematics, only documents are read, of code none.

    Raises:
        InputError: nothing there, a git repository, or a single object that is damaged or nothing to build from.
        OutputError: the scratch folder cannot be written.
    """
    single = find_object(place)
    if single is not None:
        if not _is_packed(place.name):
            raise InputError(
                f"{place}: a single file; wanted an archive, a table ({TABLE_SUFFIX}), documents "
                f"({', '.join(DOCUMENT_SUFFIXES)}), or the prefix of a tree of files"
            )
        objects, root = {place.name: single}, place.parent
    else:
        objects, root = list_objects(place), place
    if not objects:
        raise InputError(f"{place}: nothing there; wanted the address of an object, or a prefix of some")
    if {"HEAD", "config"} <= objects.keys() and any(name.startswith("objects/") for name in objects):
        raise InputError(
            f"{place}: a git repository in a store cannot be read from here; copy it to this machine, or put "
            "`git archive --format=tar.gz HEAD` in its place"
        )
    repo = escape_path(place.name or place.parts[0].strip("/")) or "repository"
    if single is None and kind not in _PROSE and not _is_data_set(objects):
        return [_list_loose_files(root, repo, objects)]
    return _PackedInput(place, root, objects, copies, scratch).list_all(repo, mapping, document_language, kind)


def _is_packed(name: str) -> bool:
    return has_archive_name(name) or name.lower().endswith((TABLE_SUFFIX, *DOCUMENT_SUFFIXES))


def _is_data_set(names: Mapping[str, StoredObject]) -> bool:
    """Tell archives, tables and documents from a tree of source files that has some of those in it."""
    visible = [name for name in names if not _is_hidden(name)]
    strict = sum(has_archive_name(name) or name.lower().endswith(TABLE_SUFFIX) for name in visible)
    if 2 * strict > len(visible):
        return True
    has_code = any(detect_language(name, "") is not None for name in visible)
    return not has_code and 2 * sum(map(_is_packed, visible)) > len(visible)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _list_loose_files(root: Path, repo: str, objects: Mapping[str, StoredObject]) -> Listing:
    prefix = str(root)  # one text for all
    members = [
        Member(name, found.size_bytes, found.mark, None, StoredFile(prefix, name, found.size_bytes))
        for name, found in objects.items()
    ]
    return Listing(repo, None, tuple(sorted(list_members(members), key=lambda entry: entry.path)))


class _PackedInput:
    """Archives, tables and documents below one address."""

    def __init__(
        self, place: Path, root: Path, objects: Mapping[str, StoredObject], copies: Copies, scratch: Path | None
    ) -> None:
        self.place, self.root, self.copies, self.scratch = place, root, copies, scratch
        self.is_single = root != place
        self.objects = {name: found for name, found in objects.items() if self.is_single or not _is_hidden(name)}

    def fetch(self, file: Path) -> Path:
        """Give a copy of one of the objects. Raises `UnreachableError`."""
        return self.copies.fetch(file, self.objects[self._name(file)])

    def _name(self, file: Path) -> str:
        return str(file).removeprefix(str(self.root)).lstrip("/")

    def list_all(
        self, repo: str, mapping: Mapping[str, str], document_language: str, kind: SourceKind | None
    ) -> list[Listing]:
        """List each archive as a repository, all tables as one data set, all documents as one listing."""
        names = () if kind in _PROSE else self.objects
        archives = [name for name in names if has_archive_name(name)]
        tables = [name for name in names if name.lower().endswith(TABLE_SUFFIX)]
        names = () if kind is SourceKind.CODE else self.objects
        records = [name for name in names if name.lower().endswith(DOCUMENT_SUFFIXES)]
        listings, refused = self._list_archives(archives)
        if tables:
            files = [(name, self.root / name) for name in tables]
            listings += list_parquet(self.place, mapping, self.scratch, document_language, files, self.fetch)
        if records:
            files = [(name, self.root / name) for name in records]
            listings.append(list_documents(self.place, document_language, self.scratch, kind, files, self.fetch))
        known = {*archives, *tables, *records}
        refused += [refuse(name, "language", "no archive, table or document") for name in self.objects.keys() - known]
        if refused:
            listings.append(Listing(repo, None, tuple(sorted(refused, key=lambda entry: entry.path))))
        return listings

    def _list_archives(self, names: Sequence[str]) -> tuple[list[Listing], list[Entry]]:
        listings, refused = [], []
        for name in names:
            repo, place = escape_path(strip_archive_suffix(PurePosixPath(name).name)) or "repository", self.root / name
            try:
                copy = self.fetch(place)
                listings.append(list_archive(copy, repo, self.scratch))
            except UnreachableError as error:
                refused.append(refuse(name, UNREACHABLE, str(error)))
            except InputError as error:
                reason = str(error).replace(str(copy), str(place))  # the same on every machine
                if self.is_single:
                    raise type(error)(reason) from error
                refused.append(refuse(name, "corrupt_archive", reason))
        return listings, refused
