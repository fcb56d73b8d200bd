"""Lists the files of an archive: zip, and tar with any usual compression.

**In**: one file.
**Out**: a `Listing`, as if the archive had been unpacked; nothing is unpacked where a name in it says.
**Not**: archives in archives, or `.gitignore` files: what was packed was meant to be.

A zip is read where it lies. A tar is read through once; the members that a corpus may want wait in a scratch file. An
archive that breaks off gives what stood before the break, and one refused entry that says so.
"""

import io
import math
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from codegemma.corpus.contents import BROKEN_ARCHIVE, NoContent, Spool, ZipMember
from codegemma.corpus.entries import MAX_PATH_CHARS, TOO_LONG, Listing, escape_path, refuse
from codegemma.corpus.members import Member, find_common_folder, list_members
from codegemma.errors import DamagedError

_ZIP_SUFFIXES = (".zip", ".whl")
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tzst")
ARCHIVE_SUFFIXES = ", ".join((*_ZIP_SUFFIXES, *_TAR_SUFFIXES))
# A larger member of a tar is listed and not kept for reading: no source file is so long.
MAX_MEMBER_BYTES = 16 * 2**20
# An archive that unpacks to more than this many times its size is no source, and one of less than a GB can do no harm.
MAX_EXPANSION = 1_000
MIN_BOMB_BYTES = 2**30
# Before a member: a longer name, set of attributes or map of holes is an attack on memory and time.
MAX_HEADER_BYTES = 2**20


def is_archive(path: Path) -> bool:
    """Say whether a path is a file whose name is that of an archive."""
    return has_archive_name(Path(path).name) and Path(path).is_file()


def has_archive_name(name: str) -> bool:
    """Say whether a file's name is that of an archive."""
    return name.lower().endswith((*_ZIP_SUFFIXES, *_TAR_SUFFIXES))


def list_archive(path: Path, repo: str | None = None, scratch: Path | None = None) -> Listing:
    """List an archive; a folder that holds all of it, as code hosts pack, is left out of the paths.

    `scratch` is where the members of a tar wait to be read; by default, a folder that goes with this process.

    Raises:
        DamagedError: it cannot be read at all, or holds no file.
        OutputError: the scratch folder cannot be written.
    """
    is_zip = Path(path).name.lower().endswith(_ZIP_SUFFIXES)
    try:
        members, trouble = _walk_zip(path) if is_zip else _walk_tar(path, scratch)
    except BROKEN_ARCHIVE as error:
        raise DamagedError(f"{path}: the archive cannot be read ({error}); download or pack it again") from error
    if not members:
        raise DamagedError(f"{path}: no file in the archive can be read; download or pack it again")
    entries = list(list_members(members, find_common_folder(member.name for member in members)))
    if trouble is not None:
        entries.append(refuse("(the rest of the archive)", "truncated", trouble))
    entries.sort(key=lambda entry: entry.path)
    name = repo or escape_path(strip_archive_suffix(Path(path).name)) or "repository"
    return Listing(name, None, tuple(entries))


def strip_archive_suffix(name: str) -> str:
    """Take the ending from an archive's name.

    >>> strip_archive_suffix("app.tar.zst")
    'app'
    """
    suffix = max((s for s in (*_ZIP_SUFFIXES, *_TAR_SUFFIXES) if name.lower().endswith(s)), key=len)
    return name[: -len(suffix)]


def _stamp(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_mtime_ns}:{facts.st_size}"


class _Allowance:
    """How much an archive may unpack to."""

    def __init__(self, path: Path) -> None:
        self._max_bytes = max(MIN_BOMB_BYTES, MAX_EXPANSION * path.stat().st_size)
        self._bytes = 0

    def spend(self, size_bytes: int) -> str | None:
        """Count the bytes; say so when it is too much."""
        self._bytes += size_bytes
        return f"it unpacks to more than {self._max_bytes} bytes" if self._bytes > self._max_bytes else None


# --- zip --------------------------------------------------------------------------------------------------------------


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith("/")  # as `is_dir` does, which fails at an empty name


def _walk_zip(path: Path) -> tuple[list[Member], str | None]:
    members: list[Member] = []
    stamp, allowance = _stamp(path), _Allowance(path)
    with zipfile.ZipFile(path) as archive:
        directory = archive.filelist
        directory.reverse()
        while directory:  # each goes when it has been looked at: a million of them take a gigabyte
            info = directory.pop()
            archive.NameToInfo.pop(info.filename, None)
            if _is_folder(info):
                continue
            if trouble := allowance.spend(info.file_size):
                return members, trouble
            members.append(_describe_zip_member(str(path), info, stamp))
    return members, None


def _describe_zip_member(archive: str, info: zipfile.ZipInfo, stamp: str) -> Member:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return _refuse_member(info.filename, "symlink", "links are not followed")
    content = ZipMember(archive, info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
    return Member(info.filename, info.file_size, f"{stamp}:{info.CRC}", None, content)


def _refuse_member(name: str, reason: str, detail: str) -> Member:
    return Member(name, 0, reason, (reason, detail), NoContent())


# --- tar --------------------------------------------------------------------------------------------------------------


class _TarMember(tarfile.TarInfo):
    """A tar's member. Each tar has a class of its own, which remembers that the tar's mark of its end was seen."""

    saw_end = False

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_TarMember":
        cls.saw_end = len(buf) == tarfile.BLOCKSIZE and not any(buf)
        return super().frombuf(buf, encoding, errors)


class _Tar(tarfile.TarFile):
    """A tar that is not read on where what stands before a member is absurdly long."""

    def __init__(self, name: Any, mode: Any, fileobj: Any, **options: Any) -> None:
        self._meter = _Meter(fileobj)
        super().__init__(name, mode, self._meter, **options)

    def next(self) -> tarfile.TarInfo | None:
        self._meter.left_bytes = MAX_HEADER_BYTES
        try:
            return super().next()
        finally:
            self._meter.left_bytes = math.inf


class _Meter:
    """A stream of which no more than `left_bytes` are read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.left_bytes = math.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int) -> bytes:
        self.left_bytes -= size
        if self.left_bytes < 0:
            raise tarfile.ReadError(f"more than {MAX_HEADER_BYTES} bytes of attributes before a member")
        content: bytes = self._stream.read(size)
        return content


def _walk_tar(path: Path, scratch: Path | None) -> tuple[list[Member], str | None]:
    members: list[Member] = []
    trouble, stamp, allowance, start = None, _stamp(path), _Allowance(path), 0
    with _open_tar(path) as archive, Spool(scratch) as spool:
        try:
            while trouble is None and (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember every member
                # A member with holes is longer than what is stored of it, one with attributes is shorter.
                trouble = allowance.spend(max(tarfile.BLOCKSIZE + info.size, archive.offset - start))
                start = archive.offset
                if trouble is None and not info.isdir():
                    members.append(_describe_tar_member(archive, info, stamp, spool))
            if trouble is None and members and not getattr(archive.tarinfo, "saw_end", True):
                trouble = "it breaks off between two members: the mark of its end is missing"
        except BROKEN_ARCHIVE as error:
            trouble = str(error) or type(error).__name__
    return members, trouble


def _describe_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, stamp: str, spool: Spool) -> Member:
    if len(info.name) > MAX_PATH_CHARS:
        return _refuse_member(info.name[: MAX_PATH_CHARS + 1], "path", TOO_LONG)
    if info.issym() or info.islnk():
        return _refuse_member(info.name, "symlink", "links are not followed")
    if not info.isreg():
        return _refuse_member(info.name, "not_regular", "a pipe, socket or device")
    if info.size > MAX_MEMBER_BYTES:
        detail = f"{info.size} bytes, at most {MAX_MEMBER_BYTES} in an archive"
        return _refuse_member(info.name, "too_big", detail)
    content = archive.extractfile(info) or io.BytesIO()
    return Member(info.name, info.size, f"{stamp}:{info.mtime}:{info.chksum}", None, spool.keep(content.read()))


def _open_tar(path: Path) -> tarfile.TarFile:
    kind = type("_TarInfo", (_TarMember,), {})
    if path.name.lower().endswith((".zst", ".tzst")):
        stream = pa.input_stream(str(path), compression="zstd")
        return _Tar.open(fileobj=stream, mode="r|", tarinfo=kind)
    return _Tar.open(path, mode="r|*", tarinfo=kind)
