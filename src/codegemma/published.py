"""A build in an object store: made in a folder of this machine, published whole, lent to those that read it.

**In**: a finished data folder and an address; later, the address.
**Out**: objects that are named by their content and never change, and last `build.json`, which names them: until it is
written the build before stands, from then on this one, and at no moment a mix. Back: a local folder like the first.
**Not**: a lock. Of two machines that publish at once, the later one's build stands; what is missing then, its next run
uploads again.
"""

import atexit
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import xxhash

from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole
from codegemma.folders import REMOVAL_FOLDER, walk_visible
from codegemma.manifests import narrow_build_manifest
from codegemma.places import (
    choose_cache,
    get_bytes,
    get_file,
    identify_place,
    is_remote,
    list_objects,
    put_bytes,
    put_file,
    remove_object,
)
from codegemma.recipe import fingerprint, from_plain, to_plain
from codegemma.runner import Progress, ignore_progress
from codegemma.steps import STEPS_FOLDER

MANIFEST = "build.json"
# Of a work folder: what it has published last, or taken up. Hidden, so that it is not published itself.
_RECORD = ".published.json"
# What of a data folder is nobody else's.
_PRIVATE = (STEPS_FOLDER, REMOVAL_FOLDER)
# Pages for people keep their names.
_PAGE_SUFFIX = ".html"
# Objects that go to the store, or come from it, at one time.
_TRANSFERS = 4
# A connection that broke off can look like a file's end: what came is another content than its name says.
_TRIES = 3
_CONTENT_NAME = re.compile(r"-[0-9a-f]{32}(\.[a-z]+)?$")
_MAX_NAMED = 3
# How often a reader looks again when a build is published while it reads.
_LOOKS = 3

_held: list[IO[bytes]] = []


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file: its path in a data folder, and the object that holds it."""

    name: str
    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Publication:
    """What `build.json` says. `choices` hash what the build was made by, besides its inputs."""

    choices: str
    files: tuple[PublishedFile, ...]

    def find(self, name: str) -> PublishedFile | None:
        """Find a file by its path in a data folder."""
        return next((file for file in self.files if file.name == name), None)


def read_publication(place: Path) -> Publication | None:
    """Read what is published at an address, `None` where nothing is.

    Raises:
        InputError: the store does not answer, or the manifest is not of this version.
    """
    try:
        data = get_bytes(place / MANIFEST)
    except FileNotFoundError:
        return None
    try:
        return _parse(data)
    except (ValueError, TypeError) as error:
        raise InputError(f"{place / MANIFEST}: damaged or of another version ({error}); remove it and build") from error


def _parse(data: bytes) -> Publication:
    found: Publication = from_plain(Publication, json.loads(data.decode()))
    # A name leads to a file of ours below the folder, whoever wrote the manifest.
    for file in found.files:
        parts = PurePosixPath(file.name).parts
        if not parts or ".." in parts or file.name.startswith("/") or "\0" in file.name:
            raise ValueError(f"{file.name!r} is no name of a file in a build")
    return found


def is_published_whole(place: Path, publication: Publication) -> bool:
    """Tell whether every object that a publication names is there."""
    there = list_objects(place)
    return all(file.key in there and there[file.key].size_bytes == file.size_bytes for file in publication.files)


# --- writing ----------------------------------------------------------------------------------------------------------


def choose_work_folder(out: Path, parent: Path | None = None) -> Path:
    """Name the folder in which a build for an address is made: below the user's cache, or below `parent`."""
    return (choose_cache("builds") if parent is None else parent) / _name_place(out)


def _name_place(place: Path) -> str:
    address = identify_place(place)
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', address)[-60:].strip('-')}-{fingerprint(address)}"


def take_up(
    work: Path, out: Path, publication: Publication | None, results: Sequence[str], state: Sequence[str]
) -> None:
    """Make a work folder go on from what is published, where another machine published it, or the folder is new.

    `results` are manifests, which go: what they vouch for was made beside other state. `state` are the files that a
    build goes on from.

    Raises:
        InputError: a file of the state is missing in the store, or it does not answer.
    """
    if publication is None or is_current(work, publication):
        return
    for name in results:
        (work / name).unlink(missing_ok=True)
    for name in state:
        file = publication.find(name)
        (work / name).unlink(missing_ok=True)
        if file is not None:
            try:
                _fetch(out, file, work)
            except FileNotFoundError as error:
                raise InputError(
                    f"{out / file.key}: {MANIFEST} names it, but it is gone; remove {MANIFEST} to begin anew"
                ) from error
    _write_record(work, publication)


def is_current(work: Path, publication: Publication | None) -> bool:
    """Tell whether a work folder published last, or took up, what is published; or whether nothing is."""
    return publication is None or publication == _read_record(work)


def _read_record(work: Path) -> Publication | None:
    try:
        return _parse((work / _RECORD).read_bytes())
    except (OSError, ValueError, TypeError):
        return None


def _write_record(work: Path, publication: Publication) -> None:
    write_whole(work / _RECORD, _spell(publication))


def _spell(publication: Publication) -> bytes:
    return (json.dumps(to_plain(publication), indent=1) + "\n").encode()


def publish_folder(work: Path, out: Path, choices: str, on_progress: Progress = ignore_progress) -> None:
    """Publish the finished build of a work folder; objects that are there already are not uploaded again.

    Raises:
        OutputError: the store does not take something; all else is uploaded, and the build before still stands.
    """
    local = [(name, path) for name, path in walk_visible(work) if name.partition("/")[0] not in _PRIVATE]
    pages = [(name, path) for name, path in local if path.suffix == _PAGE_SUFFIX]
    files = {_describe_file(name, path): path for name, path in local if path.suffix != _PAGE_SUFFIX}
    there = list_objects(out)
    missing = [
        (out / file.key, path)
        for file, path in files.items()
        if file.key not in there or there[file.key].size_bytes != file.size_bytes
    ]
    _upload([*missing, *((out / name, path) for name, path in pages)], on_progress)
    publication = Publication(choices, tuple(files))
    put_bytes(out / MANIFEST, _spell(publication))
    named = {file.key for file in files}
    for key in there:
        if key not in named and _CONTENT_NAME.search(key):
            remove_object(out / key)
    _write_record(work, publication)


def is_up_to_date(work: Path, out: Path, publication: Publication | None, choices: str) -> bool:
    """Tell whether what the work folder published last is what stands at the address, whole."""
    return (
        publication is not None
        and publication.choices == choices
        and publication == _read_record(work)
        and is_published_whole(out, publication)
    )


def _describe_file(name: str, path: Path) -> PublishedFile:
    digest = xxhash.xxh3_128()
    size_bytes = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size_bytes += len(block)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read again ({error.strerror}); build again") from error
    pure = PurePosixPath(name)
    return PublishedFile(name, str(pure.with_name(f"{pure.stem}-{digest.hexdigest()}{pure.suffix}")), size_bytes)


def _upload(files: Sequence[tuple[Path, Path]], on_progress: Progress) -> None:
    """Upload all that can be uploaded, then say what could not."""
    failures = []
    with ThreadPoolExecutor(_TRANSFERS) as pool:
        under_way = [pool.submit(put_file, place, path) for place, path in files]
        for done, upload in enumerate(under_way, start=1):
            if (error := upload.exception()) is not None:
                failures.append(error)
                if not isinstance(error, OutputError):
                    raise error
            on_progress("upload", done, len(files))
    if failures:
        rest = f"; and {len(failures) - _MAX_NAMED} more" if len(failures) > _MAX_NAMED else ""
        told = "; ".join(str(error) for error in failures[:_MAX_NAMED]) + rest
        raise OutputError(f"{told}. Uploaded {len(files) - len(failures)} of {len(files)}: run again for the rest")


# --- reading ----------------------------------------------------------------------------------------------------------


def lend_build(place: Path, is_wanted: Callable[[str], bool], on_progress: Progress = ignore_progress) -> Path:
    """Give a build as a local folder: the folder itself, or a copy of what is published at an address.

    Of that, the files whose names are wanted; a copy is kept for the next reader, until another build is published and
    nobody reads it.

    Raises:
        InputError: nothing is published there, it is damaged, or the store does not answer.
    """
    if not is_remote(place):
        return place
    lost: Exception | None = None
    for _ in range(_LOOKS):
        publication = read_publication(place)
        if publication is None:
            raise InputError(
                f"{place}: no finished build here; wanted the address that `codegemma build --out` was given"
            )
        copies = choose_cache("data", _name_place(place))
        folder = copies / fingerprint(publication)
        _hold_copy(folder)
        wanted = [file for file in publication.files if is_wanted(file.name)]
        try:
            _fetch_missing(place, wanted, folder, on_progress)
        except FileNotFoundError as error:  # published anew, and the old objects went
            lost = error
            continue
        for file in wanted:
            if file.name.endswith(".json"):
                narrow_build_manifest(folder / file.name)
        _remove_idle(copies, folder)
        return folder
    raise InputError(f"{place}: {MANIFEST} names an object that is gone ({lost}); build again") from lost


def _fetch_missing(place: Path, files: Sequence[PublishedFile], folder: Path, on_progress: Progress) -> None:
    missing = [file for file in files if not (folder / file.name).is_file()]
    with ThreadPoolExecutor(_TRANSFERS) as pool:
        for done, _ in enumerate(pool.map(lambda file: _fetch(place, file, folder), missing), start=1):
            on_progress("download", done, len(missing))


def _fetch(place: Path, file: PublishedFile, folder: Path) -> None:
    """Fetch one file; it stands there only when it is whole and what was published."""
    target = folder / file.name
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            get_file(place / file.key, temporary)
            if _describe_file(file.name, temporary).key == file.key:
                temporary.replace(target)
                return
        raise InputError(f"{place / file.key}: damaged, its content is not what its name says; build again")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); make room") from error
    finally:
        temporary.unlink(missing_ok=True)


def _hold_copy(folder: Path) -> None:
    """Keep a copy from being removed for as long as this process lives."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); set XDG_CACHE_HOME to a place") from error
    fcntl.flock(lock, fcntl.LOCK_SH)
    _held.append(lock)
    atexit.register(lock.close)


def _remove_idle(copies: Path, keep: Path) -> None:
    """Remove the copies of earlier builds that no process holds."""
    for folder in copies.iterdir():
        if folder == keep:
            continue
        try:
            with (folder / ".lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # somebody reads it
