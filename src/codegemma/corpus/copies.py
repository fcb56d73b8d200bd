"""Copies of a store's objects in a scratch folder, as many as fit: one that had to go is fetched again when it is read.

**In**: addresses, with what their listing told.
**Out**: local files, whose times are made of the objects' marks, so that a stamp of time and size tells a content.
**Not**: what is in them. Files that are read once and in small pieces need no copy (`contents.StoredFile`).
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import xxhash

from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole
from codegemma.places import StoredObject, get_file, parse_place
from codegemma.recipe import fingerprint

T = TypeVar("T")

# What copies may take on the disk, those that are being read not counted.
MAX_COPIES_BYTES = 16 * 2**30
# The reason of a drop that the next build looks at again.
UNREACHABLE = "unreachable"
# Beside each copy: what it is a copy of.
_NOTE = "source.json"
# Others may make room while a copy is opened.
_TRIES = 3
# Of an object's name, what a copy's keeps.
_FOREIGN_SIGNS = re.compile(r"[^a-z0-9.]")
_NAME_CHARS = 12
# A file's time, in nanoseconds: any time that every file system can keep.
_TIMES = 2**31 * 10**9


class UnreachableError(OSError):
    """The store did not give an object, for no fault of the object: the next build asks again."""


class Copies:
    """The copies of one build, in a folder that its workers see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._used: set[str] = set()

    def fetch(self, place: Path, found: StoredObject) -> Path:
        """Give the copy of an object, fetched now if it is not there.

        Raises:
            UnreachableError: the store does not give it.
            OutputError: the folder cannot be written, or is full.
        """
        key = fingerprint(str(place), found.mark)
        self._used.add(key)
        folder = self.folder / key
        # Its end tells what kind of file it is.
        copy = folder / f"copy-{_FOREIGN_SIGNS.sub('', place.name.lower())[-_NAME_CHARS:]}"
        if not copy.is_file():
            with contextlib.suppress(OSError):  # writing tells better what is wrong
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # nothing was taken out of them yet
            note = {"address": str(place), "mark": found.mark, "copy": copy.name}
            write_whole(folder / _NOTE, json.dumps(note).encode())
            _fetch(folder)
        return copy

    def remove_others(self) -> None:
        """Remove what no input of this build asked for."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.name not in self._used:
                shutil.rmtree(folder, ignore_errors=True)


def find_local(file: Path) -> Path:
    """Give a file of this machine as it is: what `fetch` is where nothing is to be fetched."""
    return file


def open_kept(path: str, open_file: Callable[[str], T]) -> T:
    """Open a file; a copy of an object that had to go comes back first.

    Raises:
        OSError: it cannot be read.
        UnreachableError: the store does not give it again.
    """
    for _ in range(_TRIES):
        try:
            return open_file(path)
        except FileNotFoundError:
            folder = Path(path).parent
            if not (folder / _NOTE).is_file():
                raise
            _fetch(folder)
    return open_file(path)


def _fetch(folder: Path) -> None:
    """Fetch what a note tells of, once for all processes that wait for it."""
    with _lock(folder):
        note = json.loads((folder / _NOTE).read_bytes())
        copy = folder / str(note["copy"])
        if copy.is_file():
            return
        temporary = copy.with_name(f".{copy.name}.tmp")
        try:
            get_file(parse_place(note["address"]), temporary)
            time_ns = xxhash.xxh3_64_intdigest(note["mark"].encode()) % _TIMES
            os.utime(temporary, ns=(time_ns, time_ns))
            temporary.replace(copy)
            os.utime(folder / _NOTE)
        except FileNotFoundError as error:
            raise UnreachableError(f"{note['address']}: gone since it was listed") from error
        except InputError as error:
            raise UnreachableError(str(error)) from error
        except OSError as error:
            raise OutputError(f"{copy}: cannot be written ({error.strerror or error}); make room") from error
        finally:
            temporary.unlink(missing_ok=True)
    _make_room(folder)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_room(keep: Path) -> None:
    """Remove the copies that were fetched longest ago; who has one open reads on."""
    copies = []
    for note in keep.parent.glob(f"*/{_NOTE}"):
        for copy in note.parent.glob("copy*"):
            try:
                copies.append((note.stat().st_mtime_ns, copy, copy.stat().st_size))
            except FileNotFoundError:
                continue  # another process made room
    total = sum(size for _, _, size in copies)
    for _, copy, size in sorted(copies):
        if total > MAX_COPIES_BYTES and copy.parent != keep:
            copy.unlink(missing_ok=True)
            total -= size
