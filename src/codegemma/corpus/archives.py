"""Lists the files of an archive: zip, and tar with any usual compression.

**In**: one file.
**Out**: a `Listing`, as if the archive had been unpacked; nothing is unpacked where a name in it says.
**Not**: archives in archives, or `.gitignore` files: what was packed was meant to be.

A zip is read where it lies. A tar is read through once; the members that a corpus may want wait in an unnamed temporary
file. An archive that breaks off gives what stood before the break, and one refused entry that says so.
"""

import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow as pa

from codegemma.corpus.entries import FOREIGN_FOLDERS, Entry, Listing, escape_path, make_entry, refuse
from codegemma.errors import InputError

_ZIP_SUFFIXES = (".zip", ".whl")
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tzst")
ARCHIVE_SUFFIXES = ", ".join((*_ZIP_SUFFIXES, *_TAR_SUFFIXES))
# A larger member of a tar is listed and not kept for reading: no source file is so long.
MAX_MEMBER_BYTES = 16 * 2**20
# A tar that unpacks to more than this many times its size is no source, and one of less than a GB cannot do harm.
MAX_EXPANSION = 1_000
MIN_BOMB_BYTES = 2**30

_BROKEN = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Say whether a path is a file whose name is that of an archive."""
    return Path(path).name.lower().endswith((*_ZIP_SUFFIXES, *_TAR_SUFFIXES)) and Path(path).is_file()


def list_archive(path: Path, repo: str | None = None) -> Listing:
    """List an archive; a folder that holds all of it, as code hosts pack, is left out of the paths.

    Raises:
        InputError: it cannot be read at all, or holds no file.
    """
    is_zip = Path(path).name.lower().endswith(_ZIP_SUFFIXES)
    try:
        entries = list(_walk_zip(path) if is_zip else _walk_tar(path))
    except _BROKEN as error:
        raise InputError(f"{path}: the archive cannot be read ({error}); download or pack it again") from error
    if all(entry.refusal is not None and entry.refusal[0] == "truncated" for entry in entries):
        raise InputError(f"{path}: no file in the archive can be read; download or pack it again")
    entries.sort(key=lambda entry: entry.path)
    name = repo or escape_path(_strip_suffix(Path(path).name)) or "repository"
    return Listing(name, None, tuple(_refuse_foreign(entries)))


def _strip_suffix(name: str) -> str:
    suffix = max((s for s in (*_ZIP_SUFFIXES, *_TAR_SUFFIXES) if name.lower().endswith(s)), key=len)
    return name[: -len(suffix)]


def _refuse_foreign(entries: list[Entry]) -> Iterator[Entry]:
    """Refuse the folders that a walk over unpacked files would not enter, once each."""
    refused: set[str] = set()
    for entry in entries:
        parents = [p for p in reversed(PurePosixPath(entry.path).parents) if p.name in FOREIGN_FOLDERS]
        if not parents:
            yield entry
        elif (folder := str(parents[0])) not in refused:
            refused.add(folder)
            yield refuse(f"{folder}/", FOREIGN_FOLDERS[parents[0].name], "a folder, not entered")


def _find_common_folder(names: list[str]) -> str:
    tops = {name.partition("/")[0] for name in names}
    return f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in names) else ""


def _clean_name(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _is_unsafe(name: str) -> bool:
    r"""Say whether a name leads out of the archive.

    >>> [_is_unsafe(n) for n in ("a/b.py", "../b.py", "/etc/b.py", "C:\\b.py")]
    [False, True, True, True]
    """
    return name.startswith("/") or ".." in name.split("/") or "\\" in name


def _stamp(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_mtime_ns}:{facts.st_size}"


def _make_member(name: str, common: str, size_bytes: int, stamp: str, read: partial[bytes]) -> Entry:
    if _is_unsafe(name):
        return refuse(_clean_name(name), "unsafe_path", "leads out of the archive")
    return make_entry(_clean_name(name).removeprefix(common), size_bytes, stamp, read)


# --- zip --------------------------------------------------------------------------------------------------------------


def _walk_zip(path: Path) -> Iterator[Entry]:
    archive, stamp = zipfile.ZipFile(path), _stamp(path)
    members = [info for info in archive.infolist() if not info.is_dir()]
    common = _find_common_folder([_clean_name(info.filename) for info in members])
    for info in members:
        if stat.S_ISLNK(info.external_attr >> 16):
            yield refuse(_clean_name(info.filename).removeprefix(common), "symlink", "links are not followed")
        else:
            read = partial(_read_zip, archive, info)
            yield _make_member(info.filename, common, info.file_size, f"{stamp}:{info.CRC}", read)


def _read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int) -> bytes:
    try:
        with archive.open(info) as member:
            return member.read(max_bytes)
    except _BROKEN as error:
        # A wrong check sum, a password, an unknown method: this member's trouble alone.
        raise OSError(f"damaged or locked in the archive: {error}") from error


# --- tar --------------------------------------------------------------------------------------------------------------


def _walk_tar(path: Path) -> Iterator[Entry]:
    spool, found, trouble = _Spool(), [], None
    most_bytes = max(MIN_BOMB_BYTES, MAX_EXPANSION * path.stat().st_size)
    with _open_tar(path) as archive:
        try:
            unpacked = 0
            for member in archive:
                unpacked += member.size
                if unpacked > most_bytes:
                    trouble = f"it unpacks to more than {most_bytes} bytes"
                    break
                if member.isdir():
                    continue
                content = archive.extractfile(member) if member.isreg() and member.size <= MAX_MEMBER_BYTES else None
                found.append((member, *spool.keep(b"" if content is None else content.read())))
        except _BROKEN as error:
            trouble = str(error)
    common = _find_common_folder([_clean_name(member.name) for member, _, _ in found])
    for member, start, end in found:
        yield _list_tar_member(member, common, _stamp(path), partial(spool.read, start, end))
    if trouble is not None:
        yield refuse("(the rest of the archive)", "truncated", trouble)


def _list_tar_member(member: tarfile.TarInfo, common: str, stamp: str, read: partial[bytes]) -> Entry:
    path = _clean_name(member.name).removeprefix(common)
    if member.issym() or member.islnk():
        return refuse(path, "symlink", "links are not followed")
    if not member.isreg():
        return refuse(path, "not_regular", "a pipe, socket or device")
    if member.size > MAX_MEMBER_BYTES:
        return refuse(path, "too_big", f"{member.size} bytes, at most {MAX_MEMBER_BYTES} in an archive")
    return _make_member(member.name, common, member.size, f"{stamp}:{member.mtime}:{member.chksum}", read)


def _open_tar(path: Path) -> tarfile.TarFile:
    if path.name.lower().endswith((".zst", ".tzst")):
        return tarfile.open(fileobj=pa.input_stream(str(path), compression="zstd"), mode="r|")
    return tarfile.open(path, mode="r|*")


class _Spool:
    """An unnamed file that is gone with the last entry that reads it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def __del__(self) -> None:
        self._file.close()

    def keep(self, content: bytes) -> tuple[int, int]:
        start = self._file.seek(0, os.SEEK_END)
        return start, start + self._file.write(content)

    def read(self, start: int, end: int, max_bytes: int) -> bytes:
        self._file.seek(start)
        return self._file.read(min(end - start, max_bytes))
