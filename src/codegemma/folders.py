"""Takes a folder for a job: nothing of anybody else's is in it, and no other process works there.

**In**: the path that a user gave as `--out`.
**Out**: the folder, made and locked; or an error that says what is in the way.
**Not**: files in it; each job writes its own, whole or not at all. Nor a lock under an address in a store, where none
goes with its process: two jobs there at once write each file whole, and the later one's stays.
"""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from codegemma.errors import InputError, OutputError, UserError
from codegemma.places import is_remote, list_names, put_bytes

LOCK_FILE = ".lock"
# Inside a data folder, while a repository is being removed from it: what is asked for, and what is to stand at the end.
REMOVAL_FOLDER = "forgetting"
REMOVAL_FILE = f"{REMOVAL_FOLDER}/request.json"
# A folder with one of these was made by a job: the lock, or what a job writes last.
_MARKS = (LOCK_FILE, "packs.json", "run.json", "key.json", "build.json", "frozen.json")
_MAX_NAMED = 3


@contextlib.contextmanager
def hold_folder(out: Path) -> Iterator[None]:
    """Claim the folder and lock it; the lock goes with the process, however it ends.

    Raises:
        OutputError: what `claim_folder` refuses, or another process holds it.
    """
    if is_remote(out):
        claim_folder(out)
        yield
        return
    made = _list_missing(out)
    claim_folder(out)
    with (out / LOCK_FILE).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"another process works in {out}; wait for it or choose another --out") from error
        try:
            yield
        except UserError:
            _remove_empty(out, made)
            raise


def _list_missing(out: Path) -> list[Path]:
    """List the folders that are to be made for `out`, the deepest first."""
    return [folder for folder in (out, *out.parents) if not folder.exists()]


def _remove_empty(out: Path, made: list[Path]) -> None:
    """Take away what `hold_folder` made, as far as nothing else came into it."""
    if not made or list_names(out) != [LOCK_FILE]:
        return
    with contextlib.suppress(OSError):
        (out / LOCK_FILE).unlink()
        for folder in made:
            folder.rmdir()


def claim_folder(out: Path) -> None:
    """Make the folder, or find that a job made it; a folder with other people's files in it stays as it is.

    Raises:
        OutputError: it holds something else, or cannot be written.
    """
    try:
        if foreign := [] if _is_ours(out) else list_names(out):
            named = ", ".join(foreign[:_MAX_NAMED]) + (", ..." if len(foreign) > _MAX_NAMED else "")
            raise OutputError(f"{out} holds something else ({named}); choose a new or empty folder for --out")
        if is_remote(out):
            put_bytes(out / LOCK_FILE, b"")
            return
        out.mkdir(parents=True, exist_ok=True)
        (out / LOCK_FILE).open("a").close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{out}: cannot be written ({reason}); choose another --out or make room") from error


def refuse_half_removed(folder: Path) -> None:
    """Refuse a data folder in which a removal was begun and is not done: part of what had to go may still be there.

    Raises:
        InputError: the message says how to finish it.
    """
    # Nothing is removed in a store.
    if not is_remote(folder) and (folder / REMOVAL_FILE).exists():
        raise InputError(
            f"{folder}: a repository is being removed from it, or that work was cut off; "
            f"finish it with: codegemma forget {shlex.quote(str(folder))}"
        )


def _is_ours(folder: Path) -> bool:
    """Tell whether jobs alone made what is there: it has their mark, or holds nothing but folders of theirs."""
    if is_remote(folder):
        return not (names := list_names(folder)) or not set(names).isdisjoint(_MARKS)
    if not folder.is_dir() or any((folder / mark).exists() for mark in _MARKS):
        return True
    return all(entry.is_dir() and not entry.is_symlink() and _is_ours(entry) for entry in folder.iterdir())


def walk_visible(folder: Path) -> Iterator[tuple[str, Path]]:
    """Walk the files of a data set, sorted: path below the folder, and whole; nothing hidden, no linked folder.

    What cannot be listed is passed over.
    """
    stack = [folder]  # not recursion: folders can be nested deeper than Python's stack
    while stack:
        parent = stack.pop()
        try:
            with os.scandir(parent) as found:
                entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda entry: entry.name)
        except OSError:
            continue
        stack += [Path(entry) for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
        files = (Path(entry) for entry in entries if not entry.is_dir(follow_symlinks=False))
        yield from ((file.relative_to(folder).as_posix(), file) for file in files if not file.is_dir())
