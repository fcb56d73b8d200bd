"""Lists the files of a repository without reading them: git working trees, bare repositories, folders, archives.

**In**: a folder or an archive.
**Out**: a `Listing`: the repository's name and commit, and one `Entry` per file or refused folder, in git's order.
**Not**: contents. Links are never followed, submodules and other people's folders never entered.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pygit2

from codegemma.corpus.archives import ARCHIVE_SUFFIXES, is_archive, list_archive
from codegemma.corpus.contents import DiskFile, GitBlob
from codegemma.corpus.entries import (
    ENVIRONMENT_MARK,
    FOREIGN_FOLDERS,
    MAX_PATH_CHARS,
    TOO_LONG,
    Entry,
    Listing,
    escape_path,
    make_entry,
    refuse,
)
from codegemma.corpus.ignore import IsIgnored, ignore_by_files, ignore_by_git
from codegemma.errors import DamagedError, InputError


def list_repository(
    root: Path, repo: str | None = None, exclude: Path | None = None, scratch: Path | None = None
) -> Listing:
    """List a working tree as it is on disk, a bare repository's `HEAD`, a plain folder, or an archive of one.

    A folder inside a working tree is a plain folder: it may be one that the repository around it ignores. `repo` is the
    name to give it, `exclude` a folder inside that is not part of it, such as our own output. `scratch` is a folder for
    what must be unpacked to be read again, which must outlive the listing; by default it goes with this process.

    Raises:
        InputError: no such folder or archive.
        DamagedError: a damaged archive, a damaged or empty repository, or a bare one without a commit.
    """
    if is_archive(root):
        return list_archive(root, repo, scratch)
    try:
        return _list_folder(root, Path(os.path.realpath(root)), repo, exclude)
    except pygit2.GitError as error:
        raise DamagedError(f"{root}: a damaged git repository ({error}); clone it again or move .git away") from error
    except OSError as error:
        raise DamagedError(f"{root}: cannot be read ({error.strerror or error}); wanted a readable folder") from error


def _list_folder(root: Path, folder: Path, repo: str | None, exclude: Path | None) -> Listing:
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing there"
        raise InputError(f"{root}: {came}; wanted the folder of a repository, or an archive: {ARCHIVE_SUFFIXES}")
    repository = _open_git(folder)
    name = repo or _name_repository(folder, repository)
    commit = _find_commit(repository)
    if repository is not None and not _is_working_tree(folder, repository):
        if commit is None:
            raise DamagedError(f"{root}: a bare repository whose HEAD has no commit; push a commit to it first")
        entries = tuple(walk_git_tree(repository, commit))
    else:
        entries = tuple(_walk_folder(folder, _choose_rules(folder, repository), exclude and exclude.resolve()))
    if not entries:
        raise DamagedError(f"{root}: an empty repository, or .gitignore leaves out all of it; wanted source files")
    return Listing(name, commit, entries, str(folder))


def _open_git(folder: Path) -> pygit2.Repository | None:
    looks_bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    if not looks_bare and not (folder / ".git").exists():
        return None
    _refuse_pipes(folder if looks_bare else folder / ".git")
    return pygit2.Repository(str(folder))


def _refuse_pipes(folder: Path) -> None:
    """Refuse a git folder with a pipe where a file should be, such as `index`: reading it would wait for ever."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.exists() and not path.is_file() and not path.is_dir():
            raise pygit2.GitError(f"{path.name} is a pipe, socket or device")


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


# --- on disk ----------------------------------------------------------------------------------------------------------


def _walk_folder(root: Path, is_ignored: IsIgnored, exclude: Path | None) -> Iterator[Entry]:
    # A stack, not recursion: a folder can be nested deeper than Python's stack.
    stack: list[tuple[str, os.DirEntry[str]]] = _scan(str(root), "")
    excluded = None if exclude is None else str(exclude)
    while stack:
        path, found = stack.pop()
        is_folder = found.is_dir(follow_symlinks=False)
        if found.name == ".git" or is_ignored(path, is_folder) or found.path == excluded:
            continue
        if not is_folder:
            yield _entry_on_disk(str(root), path, found)
        elif refusal := _refuse_folder(path, found):
            yield refusal
        else:
            try:
                stack += _scan(found.path, path)
            except OSError as error:
                yield refuse(f"{path}/", "unreadable", error.strerror or str(error))


def _scan(folder: str, path: str) -> list[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        found = [(f"{path}/{entry.name}".removeprefix("/"), entry) for entry in entries]
    return sorted(found, key=lambda item: _git_order(*item), reverse=True)


def _git_order(path: str, entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(path + "/" if entry.is_dir(follow_symlinks=False) else path)


def _refuse_folder(path: str, found: os.DirEntry[str]) -> Entry | None:
    if found.name in FOREIGN_FOLDERS:
        return refuse(f"{path}/", FOREIGN_FOLDERS[found.name], "a folder, not entered")
    if os.path.lexists(f"{found.path}/{ENVIRONMENT_MARK}"):
        return refuse(f"{path}/", "environment", f"a folder with {ENVIRONMENT_MARK}, not entered")
    if os.path.lexists(f"{found.path}/.git"):
        return refuse(f"{path}/", "submodule", "a repository of its own, not entered")
    return None


def _entry_on_disk(root: str, path: str, found: os.DirEntry[str]) -> Entry:
    try:
        facts = found.stat(follow_symlinks=False)
    except OSError as error:
        return refuse(path, "unreadable", error.strerror or str(error))
    refusal = None
    if stat.S_ISLNK(facts.st_mode):
        refusal = ("symlink", "links are not followed")
    elif not stat.S_ISREG(facts.st_mode):
        refusal = ("not_regular", "a pipe, socket or device")
    stamp = f"{facts.st_mtime_ns}:{facts.st_ino}"
    return make_entry(path, facts.st_size, stamp, DiskFile(root, path), refusal)


# --- in a bare repository ---------------------------------------------------------------------------------------------


def walk_git_tree(repository: pygit2.Repository, commit: str) -> Iterator[Entry]:
    """List the files of a commit; nothing is checked out."""
    # Iterators, not lists: a tree may hold a million names.
    top = repository[commit].peel(pygit2.Tree)
    stack: list[tuple[str, Iterator[pygit2.Object], set[bytes]]] = [("", iter(top), set())]
    while stack:
        folder, children, names = stack[-1]
        if (found := next(children, None)) is None:
            stack.pop()
            continue
        name = found.raw_name or b""
        path = f"{folder}/{os.fsdecode(name)}".removeprefix("/")
        if name in (b"", b".", b"..") or b"/" in name or name in names:
            yield refuse(path, "unsafe_path", "no name of a file, or a second file of the same name")
            continue
        names.add(name)
        if not isinstance(found, pygit2.Tree):
            yield _entry_in_git(repository, path, found)
        elif refusal := _refuse_tree(path, found):
            yield refusal
        else:
            stack.append((path, iter(found), set()))


def _refuse_tree(path: str, tree: pygit2.Tree) -> Entry | None:
    if len(path) >= MAX_PATH_CHARS:
        return refuse(f"{path}/", "path", TOO_LONG)
    name = PurePosixPath(path).name
    if name in FOREIGN_FOLDERS:
        return refuse(f"{path}/", FOREIGN_FOLDERS[name], "a folder, not entered")
    try:
        is_environment = ENVIRONMENT_MARK in tree
    except (KeyError, pygit2.GitError):
        return refuse(f"{path}/", "unreadable", "the object is not in the repository")
    if is_environment:
        return refuse(f"{path}/", "environment", f"a folder with {ENVIRONMENT_MARK}, not entered")
    return None


def _entry_in_git(repository: pygit2.Repository, path: str, found: pygit2.Object) -> Entry:
    if found.filemode == pygit2.enums.FileMode.COMMIT:
        return refuse(f"{path}/", "submodule", "a repository of its own, not entered")
    if found.filemode == pygit2.enums.FileMode.LINK:
        return refuse(path, "symlink", "links are not followed")
    try:
        _, size_bytes = repository.odb.read_header(found.id)
    except (KeyError, pygit2.GitError):
        return refuse(path, "unreadable", "the object is not in the repository")
    blob = str(found.id)
    return make_entry(path, size_bytes, blob, GitBlob(repository.path, blob))
