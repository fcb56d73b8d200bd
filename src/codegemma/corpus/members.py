"""Lists files that name their own paths, as members of an archive and rows of a table do.

**In**: names that nobody has checked, with sizes and contents.
**Out**: one `Entry` per file or refused folder, as if all had been unpacked into an empty folder and walked.
**Not**: opening what holds them (`archives.py`, `parquet.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from codegemma.corpus.entries import (
    ENVIRONMENT_MARK,
    FOREIGN_FOLDERS,
    MAX_PATH_CHARS,
    Content,
    Entry,
    make_entry,
    refuse,
)


class Member(NamedTuple):
    """A file as whoever packed it names it. The last two are what a table of files states beside it."""

    name: str
    size_bytes: int
    stamp: str
    refusal: tuple[str, str] | None
    content: Content
    stated_license: str | None = None
    language_hint: str | None = None


def list_members(members: Sequence[Member], common: str = "") -> Iterator[Entry]:
    """List members as a walk over unpacked files would: what is packed twice, the last time; no folder of others.

    `common` is left out at the start of the paths.
    """
    last = {_clean_name(member.name): number for number, member in enumerate(members)}
    marked = _find_marked_folders(last, common)
    refused: set[str] = set()
    for number, member in enumerate(members):
        cleaned = _clean_name(member.name)
        path = cleaned.removeprefix(common)
        if len(path) > MAX_PATH_CHARS:
            yield make_entry(path, member.size_bytes, member.stamp, member.content)
        elif _is_unsafe(member.name):
            yield refuse(cleaned or ".", "unsafe_path", "leads out of the archive")
        elif (foreign := _find_foreign_folder(path, marked)) is not None:
            folder, reason, detail = foreign
            if reason and folder not in refused:
                refused.add(folder)
                yield refuse(f"{folder}/", reason, detail)
        elif last[cleaned] != number:
            yield refuse(path, "packed_twice", "a later member of the same name takes its place")
        else:
            entry = make_entry(path, member.size_bytes, member.stamp, member.content, member.refusal)
            if member.stated_license is not None or member.language_hint is not None:
                entry = replace(entry, stated_license=member.stated_license, language_hint=member.language_hint)
            yield entry


def _find_marked_folders(names: dict[str, int], common: str) -> dict[str, tuple[str, str]]:
    """Find folders that something in them shows to be environments or other repositories."""
    marked = {}
    for name in names:
        parts = name.removeprefix(common).split("/")
        if parts[-1] == ENVIRONMENT_MARK and len(parts) > 1:
            marked["/".join(parts[:-1])] = ("environment", f"a folder with {ENVIRONMENT_MARK}, not entered")
        if ".git" in parts[1:]:
            folder = "/".join(parts[: parts.index(".git", 1)])
            marked[folder] = ("submodule", "a repository of its own, not entered")
    return marked


def _find_foreign_folder(path: str, marked: dict[str, tuple[str, str]]) -> tuple[str, str, str] | None:
    """Find the outermost folder of a path that is not entered, why, and in more words; git's own has no reason."""
    *parts, name = path.split("/")
    if ".git" in (parts or [name])[:1]:
        return ".git", "", ""
    folder = ""
    for part in parts:
        folder = f"{folder}/{part}" if folder else part
        if part in FOREIGN_FOLDERS:
            return folder, FOREIGN_FOLDERS[part], "a folder, not entered"
        if folder in marked:
            return folder, *marked[folder]
    return None


def find_common_folder(names: Iterable[str]) -> str:
    """Find the folder that all names are in, with its slash; none is empty.

    >>> find_common_folder(["app-1a2b/a.py", "app-1a2b/src/b.py"]), find_common_folder(["a/b.py", "c.py"])
    ('app-1a2b/', '')
    """
    top = None
    for name in names:
        first, slash, _ = _clean_name(name).partition("/")
        if not slash or (top is not None and first != top):
            return ""
        top = first
    return "" if top is None else f"{top}/"


def _clean_name(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _is_unsafe(name: str) -> bool:
    r"""Say whether a name leads out of the archive, or is none.

    >>> [_is_unsafe(n) for n in ("a/b.py", "../b.py", "/etc/b.py", "C:\\b.py", "./")]
    [False, True, True, True, True]
    """
    return name.startswith("/") or ".." in name.split("/") or "\\" in name or not _clean_name(name)
