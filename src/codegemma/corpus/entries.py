"""What a listing is made of, whatever it lists: folders, git objects, archives.

**In**: a path, a size, and where the content is.
**Out**: `Entry` and `Listing`; both can be pickled, and read in another process.
**Not**: how anything is walked (`listing.py`, `archives.py`) or read (`contents.py`).
"""

from dataclasses import dataclass, field

from codegemma.corpus.cells import ParquetCell
from codegemma.corpus.contents import DiskFile, FilePart, GitBlob, NoContent, StoredFile, ZipMember
from codegemma.records import SourceKind

# Folders whose files the repository's people did not write, wherever they lie below the root.
FOREIGN_FOLDERS = {
    **dict.fromkeys(
        ("node_modules", "bower_components", "site-packages", "dist-packages", "_vendor", "third_party", "vendor"),
        "vendored",
    ),
    **dict.fromkeys((".venv", ".tox", ".nox", ".eggs"), "environment"),
    **dict.fromkeys(("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"), "cache"),
    **dict.fromkeys((".hg", ".svn"), "version_control"),
}
# A folder with this file is a virtual environment, whatever its name. The name `venv` alone says nothing: the standard
# library has a package of that name.
ENVIRONMENT_MARK = "pyvenv.cfg"
# No system opens a longer path; some loops go through all folders of one.
MAX_PATH_CHARS = 4_096
TOO_LONG = f"more than {MAX_PATH_CHARS} characters; its beginning is shown"
_SHOWN_CHARS = 100
_NO_CONTENT = NoContent()

# Where a file's bytes may be. All are plain data: an entry travels to a cluster as JSON.
Content = DiskFile | GitBlob | StoredFile | ZipMember | FilePart | ParquetCell | NoContent


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, or one folder that is not entered. `stamp` changes whenever the content may have changed.

    `refusal` is the reason and detail for which the entry is dropped unread. `stated_license` and `language_hint` are
    what a table of files says beside the file: an SPDX expression, and a name of `languages.toml`.
    """

    path: str
    size_bytes: int
    stamp: str
    refusal: tuple[str, str] | None
    content: Content = field(repr=False)
    stated_license: str | None = None
    language_hint: str | None = None

    def read_bytes(self, max_bytes: int) -> bytes:
        """Read at most `max_bytes` from the start. Raises `OSError` where the content is gone or damaged."""
        return self.content.read(max_bytes)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """An entry with what stands around it: repository, commit, the licence that its folder states, and its kind."""

    repo: str
    commit: str | None
    license: str | None
    entry: Entry
    kind: SourceKind | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a repository, before anything is read. `root` is its folder, where it has one of its own.

    `kind` is what the user called it; without one, the language of each file tells.
    """

    repo: str
    commit: str | None
    entries: tuple[Entry, ...]
    root: str | None = None
    kind: SourceKind | None = None


def escape_path(path: str) -> str:
    r"""Spell a path so that it can be printed and stored anywhere.

    >>> escape_path("a\udcff\n.py")
    'a\\udcff\\x0a.py'
    """
    if path.isprintable():  # no lone surrogate is
        return path
    text = path.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def make_entry(
    path: str, size_bytes: int, stamp: str, content: Content, refusal: tuple[str, str] | None = None
) -> Entry:
    """Make an entry; a path that cannot be stored as it is gets refused and shown escaped or cut."""
    if len(path) > MAX_PATH_CHARS:
        path, refusal = path[:_SHOWN_CHARS], ("path", TOO_LONG)
    escaped = escape_path(path)
    if escaped != path:
        refusal = ("path", "not UTF-8, or with control characters; shown escaped")
    return Entry(escaped, size_bytes, stamp, refusal, content)


def refuse(path: str, reason: str, detail: str) -> Entry:
    """Make an entry that is dropped unread."""
    return make_entry(path, 0, reason, _NO_CONTENT, (reason, detail))
