"""Where the content of a listed file is: on disk, in a git repository, in a store, in an archive, in a scratch file.

**In**: what a walk found out: a path, an object's name, a place in a file.
**Out**: small values that can be pickled and read in any process that sees the same disk.
**Not**: listing. What cannot be read any more raises `OSError`, whatever stands behind it.

A repository may have a million files, so each value holds little and nothing is open between two reads, but for a few
git repositories.
"""

import atexit
import contextlib
import functools
import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pygit2

from codegemma.corpus.copies import UnreachableError, open_kept
from codegemma.errors import InputError, OutputError
from codegemma.places import get_bytes, parse_place

# We read repositories that other users own and run nothing of theirs: git's ownership check guards hooks and filters.
pygit2.settings.owner_validation = False

# What a broken archive raises.
BROKEN_ARCHIVE = (
    OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, ValueError,
    struct.error, UnicodeError, MemoryError, OverflowError, lzma.LZMAError,
)  # fmt: skip
# Each holds file descriptors and an index of its packs.
_MAX_OPEN_REPOSITORIES = 8
# The header before a member of a zip: signature, version, flags, method, time, date, check sum, two sizes, two lengths.
_ZIP_HEADER = struct.Struct("<4s5H3L2H")
_ZIP_SIGNATURE = b"PK\x03\x04"
_ZIP_LOCKED = 0x1


@dataclass(frozen=True, slots=True)
class NoContent:
    """What is refused is not read."""

    def read(self, max_bytes: int) -> bytes:
        """Read nothing."""
        return b""[:max_bytes]


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A file below a folder; folder and path are apart because a million entries share the one and have the other."""

    folder: str
    path: str

    def read(self, max_bytes: int) -> bytes:
        """Read the file as it is now."""
        # Should the file have become a pipe or a link since it was listed, opening it neither blocks nor follows.
        path = os.path.join(self.folder, self.path)  # noqa: PTH118  # no object for each read
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = open_kept(path, lambda path: os.open(path, flags))
        with os.fdopen(descriptor, "rb") as file:
            return file.read(max_bytes)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object of a store, by a prefix that many share and the rest of its key."""

    prefix: str
    key: str
    size_bytes: int

    def read(self, max_bytes: int) -> bytes:
        """Read the object as it is now, in one request."""
        if self.size_bytes == 0:
            return b""  # no range of it can be asked for
        place = parse_place(self.prefix) / self.key
        try:
            return get_bytes(place, None if self.size_bytes <= max_bytes else max_bytes)[:max_bytes]
        except FileNotFoundError as error:
            raise UnreachableError(f"{place}: gone since it was listed") from error
        except InputError as error:
            raise UnreachableError(str(error)) from error


@dataclass(frozen=True, slots=True)
class GitBlob:
    """A blob of a git repository, by its hexadecimal name."""

    folder: str
    blob: str

    def read(self, max_bytes: int) -> bytes:
        """Read the blob."""
        try:
            _, content = _open_repository(self.folder, os.getpid()).odb.read(self.blob)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise OSError(f"blob {self.blob} cannot be read: {error}") from error
        return content[:max_bytes]


@functools.lru_cache(maxsize=_MAX_OPEN_REPOSITORIES)
def _open_repository(folder: str, _process: int) -> pygit2.Repository:
    # The process is part of the key so that a fork does not share file positions with its parent.
    return pygit2.Repository(folder)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")  # noqa: PTH123


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member of a zip, by where its header lies: reading it needs no look at the others."""

    archive: str
    header_offset: int
    compressed_bytes: int
    size_bytes: int
    method: int
    crc: int

    def read(self, max_bytes: int) -> bytes:
        """Read the member and, if it is read to its end, check it."""
        try:
            with open_kept(self.archive, _open) as file:
                return self._read_member(file, max_bytes)
        except UnreachableError:
            raise
        except BROKEN_ARCHIVE as error:
            # A wrong check sum, a password, an unknown method: this member's trouble alone.
            raise OSError(f"damaged or locked in the archive: {error}") from error

    def _read_member(self, file: BinaryIO, max_bytes: int) -> bytes:
        file.seek(self.header_offset)
        signature, _, flags, _, *_, name_bytes, extra_bytes = _ZIP_HEADER.unpack(file.read(_ZIP_HEADER.size))
        if signature != _ZIP_SIGNATURE:
            raise zipfile.BadZipFile("no member where the directory says")
        if flags & _ZIP_LOCKED:
            raise zipfile.BadZipFile("a password is needed")
        file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        info = zipfile.ZipInfo()
        info.compress_type, info.CRC = self.method, self.crc
        info.compress_size, info.file_size = self.compressed_bytes, self.size_bytes
        with zipfile.ZipExtFile(file, "r", info) as member:
            return member.read(max_bytes)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A run of bytes in a file of ours."""

    file: str
    start: int
    size_bytes: int

    def read(self, max_bytes: int) -> bytes:
        """Read the run."""
        with open(self.file, "rb") as file:  # noqa: PTH123
            file.seek(self.start)
            content = file.read(min(self.size_bytes, max_bytes))
        if len(content) < min(self.size_bytes, max_bytes):
            raise OSError(f"{self.file}: the scratch file has lost its end")
        return content


class Spool:
    """A file in a scratch folder that takes in contents one after another.

    Its name is new each time, so that what a killed run has left is never taken for content. Whoever gave the folder
    removes it; without one, it goes when this process ends.
    """

    def __init__(self, scratch: Path | None) -> None:
        """Make the file. Raises `OutputError`."""
        folder = choose_scratch(scratch)
        self._path = str(folder)
        with self._as_output_error():
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, self._path = tempfile.mkstemp(prefix="spool-", dir=folder)
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._as_output_error():
            self._file.close()

    def keep(self, content: bytes) -> FilePart:
        """Take in one content. Raises `OutputError`: what an input's own damage excuses, a full disk does not."""
        with self._as_output_error():
            start = self._file.tell()
            return FilePart(self._path, start, self._file.write(content))

    @contextlib.contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"{self._path}: scratch cannot be written ({reason}); make room or choose another"
            ) from error


def choose_scratch(scratch: Path | None) -> Path:
    """Take the folder that was given, or one that goes when this process ends."""
    return _make_scratch(os.getpid()) if scratch is None else Path(scratch)


@functools.lru_cache(maxsize=1)
def _make_scratch(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"codegemma-{process}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
