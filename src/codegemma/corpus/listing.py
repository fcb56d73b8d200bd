"""Lists the files of a repository without reading them: git working trees, bare repositories, plain folders.

**In**: a folder.
**Out**: a `Listing`: the repository's name and commit, and one `Entry` per file or refused folder, in git's order.
**Not**: contents. Links are never followed, submodules and other people's folders never entered.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import pygit2

from codegemma.corpus.ignore import IsIgnored, ignore_by_files, ignore_by_git
from codegemma.errors import InputError

# We read repositories that other users own and run nothing of theirs: git's ownership check guards hooks and filters.
pygit2.settings.owner_validation = False

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


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, or one folder that is not entered. `stamp` changes whenever the content may have changed.

    `refusal` is the reason and detail for which the entry is dropped unread. `read_bytes(n)` gives at most `n` bytes.
    """

    path: str
    size_bytes: int
    stamp: str
    refusal: tuple[str, str] | None
    read_bytes: Callable[[int], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a repository, before anything is read."""

    repo: str
    commit: str | None
    entries: tuple[Entry, ...]


def list_repository(root: Path, repo: str | None = None, exclude: Path | None = None) -> Listing:
    """List a working tree as it is on disk, a bare repository's `HEAD`, or a plain folder.

    A folder inside a working tree is a plain folder: it may be one that the repository around it ignores. `repo` is the
    name to give it, `exclude` a folder inside that is not part of it, such as our own output.

    Raises:
        InputError: no such folder, a damaged or empty repository, or a bare one without a commit.
    """
    try:
        return _list_folder(root, Path(root).resolve(), repo, exclude)
    except pygit2.GitError as error:
        raise InputError(f"{root}: a damaged git repository ({error}); clone it again or move .git away") from error
    except OSError as error:
        raise InputError(f"{root}: cannot be read ({error.strerror or error}); wanted a readable folder") from error


def _list_folder(root: Path, folder: Path, repo: str | None, exclude: Path | None) -> Listing:
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing there"
        raise InputError(f"{root}: {came}; wanted the folder of a repository")
    repository = _open_git(folder)
    name = repo or _name_repository(folder, repository)
    commit = _find_commit(repository)
    if repository is not None and not _is_working_tree(folder, repository):
        if commit is None:
            raise InputError(f"{root}: a bare repository whose HEAD has no commit; push a commit to it first")
        entries = tuple(_walk_git_tree(repository, commit))
    else:
        entries = tuple(_walk_folder(folder, _choose_rules(folder, repository), exclude and exclude.resolve()))
    if not entries:
        raise InputError(f"{root}: an empty repository, or .gitignore leaves out all of it; wanted source files in it")
    return Listing(name, commit, entries)


def _open_git(folder: Path) -> pygit2.Repository | None:
    looks_bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    if not looks_bare and not (folder / ".git").exists():
        return None
    return pygit2.Repository(str(folder))


def _is_working_tree(folder: Path, repository: pygit2.Repository) -> bool:
    # The `.git` folder of a working tree is read like a bare repository.
    return not repository.is_bare and Path(repository.workdir).resolve() == folder


def _find_commit(repository: pygit2.Repository | None) -> str | None:
    if repository is None or repository.head_is_unborn:
        return None
    return str(repository.head.peel(pygit2.Commit).id)


def _choose_rules(folder: Path, repository: pygit2.Repository | None) -> IsIgnored:
    return ignore_by_files(folder) if repository is None else ignore_by_git(repository)


def _name_repository(folder: Path, repository: pygit2.Repository | None) -> str:
    """Name it `owner/name` after its remote, never with the password that may stand in the URL, or after its folder."""
    url = ""
    if repository is not None and "origin" in repository.remotes.names():
        url = repository.remotes["origin"].url or ""
    match = re.search(r"(?:://[^/]+|^[^/:]+:)/*(.+?)(?:\.git)?/*$", url)
    name = "/".join(match.group(1).split("/")[-2:]) if match else folder.name.removesuffix(".git")
    return escape_path(name) or "repository"


def escape_path(path: str) -> str:
    r"""Spell a path so that it can be printed and stored anywhere.

    >>> escape_path("a\udcff\n.py")
    'a\\udcff\\x0a.py'
    """
    text = path.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _make_entry(
    path: str, size_bytes: int, stamp: str, read_bytes: Callable[[int], bytes], refusal: tuple[str, str] | None = None
) -> Entry:
    escaped = escape_path(path)
    if escaped != path:
        refusal = ("path", "not UTF-8, or with control characters; shown escaped")
    return Entry(escaped, size_bytes, stamp, refusal, read_bytes)


def _refuse(path: str, reason: str, detail: str) -> Entry:
    return _make_entry(path, 0, reason, _read_nothing, (reason, detail))


def _read_nothing(max_bytes: int) -> bytes:
    return b""[:max_bytes]


# --- on disk ----------------------------------------------------------------------------------------------------------


def _walk_folder(root: Path, is_ignored: IsIgnored, exclude: Path | None) -> Iterator[Entry]:
    # A stack, not recursion: a folder can be nested deeper than Python's stack.
    stack: list[tuple[str, os.DirEntry[str]]] = _scan(root, "")
    while stack:
        path, found = stack.pop()
        is_folder = found.is_dir(follow_symlinks=False)
        if found.name == ".git" or is_ignored(path, is_folder) or (exclude is not None and Path(found.path) == exclude):
            continue
        if not is_folder:
            yield _entry_on_disk(path, found)
        elif refusal := _refuse_folder(path, found):
            yield refusal
        else:
            try:
                stack += _scan(Path(found.path), path)
            except OSError as error:
                yield _refuse(f"{path}/", "unreadable", error.strerror or str(error))


def _scan(folder: Path, path: str) -> list[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        found = [(f"{path}/{entry.name}".removeprefix("/"), entry) for entry in entries]
    return sorted(found, key=lambda item: _git_order(*item), reverse=True)


def _git_order(path: str, entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(path + "/" if entry.is_dir(follow_symlinks=False) else path)


def _refuse_folder(path: str, found: os.DirEntry[str]) -> Entry | None:
    folder = Path(found.path)
    if found.name in FOREIGN_FOLDERS:
        return _refuse(f"{path}/", FOREIGN_FOLDERS[found.name], "a folder, not entered")
    if os.path.lexists(folder / ENVIRONMENT_MARK):
        return _refuse(f"{path}/", "environment", f"a folder with {ENVIRONMENT_MARK}, not entered")
    if os.path.lexists(folder / ".git"):
        return _refuse(f"{path}/", "submodule", "a repository of its own, not entered")
    return None


def _entry_on_disk(path: str, found: os.DirEntry[str]) -> Entry:
    try:
        facts = found.stat(follow_symlinks=False)
    except OSError as error:
        return _refuse(path, "unreadable", error.strerror or str(error))
    refusal = None
    if stat.S_ISLNK(facts.st_mode):
        refusal = ("symlink", "links are not followed")
    elif not stat.S_ISREG(facts.st_mode):
        refusal = ("not_regular", "a pipe, socket or device")
    stamp = f"{facts.st_mtime_ns}:{facts.st_ino}"
    return _make_entry(path, facts.st_size, stamp, partial(_read_disk, found.path), refusal)


def _read_disk(path: str, max_bytes: int) -> bytes:
    # Should the file have become a pipe or a link since it was listed, opening it neither blocks nor follows.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(max_bytes)


# --- in a bare repository ---------------------------------------------------------------------------------------------


def _walk_git_tree(repository: pygit2.Repository, commit: str) -> Iterator[Entry]:
    stack: list[tuple[str, pygit2.Object]] = [("", repository[commit].peel(pygit2.Tree))]
    while stack:
        path, found = stack.pop()
        if not isinstance(found, pygit2.Tree):
            yield _entry_in_git(repository, path, found)
        elif path and (refusal := _refuse_tree(path, found)):
            yield refusal
        else:
            children = [(f"{path}/{os.fsdecode(child.raw_name or b'')}".removeprefix("/"), child) for child in found]
            stack += reversed(children)


def _refuse_tree(path: str, tree: pygit2.Tree) -> Entry | None:
    name = PurePosixPath(path).name
    if name in FOREIGN_FOLDERS:
        return _refuse(f"{path}/", FOREIGN_FOLDERS[name], "a folder, not entered")
    if ENVIRONMENT_MARK in tree:
        return _refuse(f"{path}/", "environment", f"a folder with {ENVIRONMENT_MARK}, not entered")
    return None


def _entry_in_git(repository: pygit2.Repository, path: str, found: pygit2.Object) -> Entry:
    if found.filemode == pygit2.enums.FileMode.COMMIT:
        return _refuse(f"{path}/", "submodule", "a repository of its own, not entered")
    if found.filemode == pygit2.enums.FileMode.LINK:
        return _refuse(path, "symlink", "links are not followed")
    try:
        _, size_bytes = repository.odb.read_header(found.id)
    except (KeyError, pygit2.GitError):
        return _refuse(path, "unreadable", "the object is not in the repository")
    return _make_entry(path, size_bytes, str(found.id), partial(_read_blob, repository, found.id))


def _read_blob(repository: pygit2.Repository, blob: pygit2.Oid, max_bytes: int) -> bytes:
    try:
        _, content = repository.odb.read(blob)
    except (KeyError, pygit2.GitError) as error:
        raise OSError(f"blob {blob} cannot be read: {error}") from error
    return content[:max_bytes]
