"""Where a file lies: a path of this machine, or an address in an object store, `s3://bucket/key` or `gs://bucket/key`.

**In**: what a user gave as `--out` or as an input.
**Out**: a `Path`, or universal-pathlib's `UPath` with the same methods; and the few acts that stores do otherwise.
A store has no rename and needs none: an object appears whole, when its upload has ended, or not at all.
**Not**: credentials: they are found where the stores' own tools find them (`AWS_*`, `GOOGLE_APPLICATION_CREDENTIALS`).
"""

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from codegemma.errors import InputError, MissingExtraError, OutputError, UserError

T = TypeVar("T")

SCHEMES = ("s3", "gs")
# The stores' libraries try five or six times inside each of these; an upload that broke then starts from its beginning.
ATTEMPTS = 2
PAUSE_S = 1.0
# What only the disk of this machine says.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
_STORE_OPTIONS: dict[str, dict[str, Any]] = {
    # Listings change under us: other machines write beside us.
    "s3": {
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "read_timeout": _READ_TIMEOUT_S,
            # s3fs tries five times itself: with botocore's own five within each, a dead store would take minutes.
            "retries": {"total_max_attempts": 2, "mode": "standard"},
        },
    },
    "gs": {"use_listings_cache": False, "timeout": _READ_TIMEOUT_S},
}


def parse_place(text: str) -> Path:
    """Read what a user gave: an address becomes a `UPath`, which code here treats as the `Path` that it behaves as.

    >>> parse_place("data/packs")
    PosixPath('data/packs')

    Raises:
        InputError: an address of a kind that is not known, or without a bucket.
        MissingExtraError: an address, and the extra `cloud` is not installed.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme not in SCHEMES:
        raise InputError(f"{text}: wanted a path, or an address that starts with {'://, '.join(SCHEMES)}://")
    if not rest.partition("/")[0]:
        raise InputError(f"{text}: which bucket? Wanted {scheme}://bucket/key")
    # gcsfs would ask each bucket's kind over gRPC first, and waits a minute where only HTTP passes.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        from upath import UPath

        place: Any = UPath(text.rstrip("/"), **_STORE_OPTIONS[scheme])
        place.fs  # noqa: B018 (imports s3fs or gcsfs)
    except ImportError as error:
        raise MissingExtraError(
            f"{text}: needs packages that are not here ({error}); pip install codegemma[cloud]"
        ) from error
    return place  # type: ignore[no-any-return]


def parse_local(text: str) -> Path:
    """Read a path where no address will do.

    >>> parse_local("run")
    PosixPath('run')

    Raises:
        InputError: it is an address.
    """
    if "://" in text:
        raise InputError(f"{text}: wanted a path of this machine; only inputs, data and the --out of build, train and "
                         "freeze may be addresses. Copy it here, or work here and copy the result there")  # fmt: skip
    return Path(text)


def identify_place(place: Path | str) -> str:
    """Name a place: equal for two spellings of one."""
    place = parse_place(place) if isinstance(place, str) else place
    return str(place) if is_remote(place) else os.path.realpath(place)  # a link to itself is no error yet


def choose_cache(*parts: str) -> Path:
    """Name a folder below the user's cache, for what stands elsewhere too: in `$XDG_CACHE_HOME/codegemma`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home, "codegemma", *parts)


def is_remote(place: Path) -> bool:
    """Tell whether a place is an address in a store."""
    return not isinstance(place, Path)


def put_bytes(place: Path, data: bytes) -> None:
    """Make an object of `data`, by one request.

    Raises:
        OutputError: the store refuses, or does not answer.
    """
    store: Any = place
    _ask(place, lambda: store.fs.pipe_file(store.path, data), OutputError)


def put_file(place: Path, file: Path) -> None:
    """Make an object of a local file; it appears when the last part has arrived.

    Raises:
        OutputError: the store refuses, or does not answer.
    """
    store: Any = place
    _ask(place, lambda: store.fs.put_file(str(file), store.path), OutputError)


def get_bytes(place: Path, max_bytes: int | None = None) -> bytes:
    """Read a file or an object, or of an object the first bytes.

    Raises:
        OSError: a local file that cannot be read; for an object only `FileNotFoundError`.
        InputError: the store refuses, or does not answer.
    """
    store: Any = place
    return (
        _ask(place, lambda: bytes(store.fs.cat_file(store.path, end=max_bytes)))
        if is_remote(place)
        else place.read_bytes()
    )


def size_bytes(place: Path) -> int:
    """Tell the size of a file or an object; raises what `get_bytes` raises."""
    store: Any = place
    return _ask(place, lambda: int(store.fs.info(store.path)["size"])) if is_remote(place) else place.stat().st_size


def list_names(place: Path) -> list[str]:
    """Name what lies in a folder, sorted; under an address, the first parts of the keys. Nothing there is no name.

    Raises:
        InputError: the store refuses, or does not answer.
    """
    store: Any = place
    try:
        if is_remote(place):
            keys = _ask(place, lambda: store.fs.ls(store.path, detail=False))
            return sorted({key.rstrip("/").rpartition("/")[2] for key in keys} - {""})
        return sorted(entry.name for entry in place.iterdir())
    except FileNotFoundError:
        return []


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store's listing tells of an object: `mark` changes with its content, on every machine alike."""

    size_bytes: int
    mark: str


def list_objects(place: Path) -> dict[str, StoredObject]:
    """List all objects below an address, by the rest of their keys, sorted; nothing there is no object.

    Raises:
        InputError: no such bucket, or the store refuses or does not answer.
    """
    store: Any = place
    top = store.path.rstrip("/") + "/"

    def look() -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = store.fs.find(top, detail=True)
        if not found and not store.fs.exists(top.partition("/")[0]):
            raise FileNotFoundError("no such bucket")
        return found

    try:
        infos = _ask(place, look)
    except FileNotFoundError as error:
        raise InputError(f"{place}: no such bucket; look at the address and the credentials") from error
    names = {key.removeprefix(top): info for key, info in infos.items() if key.startswith(top)}
    # A key that ends in a slash is how consoles show a folder.
    return {name: _describe_object(names[name]) for name in sorted(names) if name and not name.endswith("/")}


def find_object(place: Path) -> StoredObject | None:
    """Look one object up; `None` where there is none under that very key.

    Raises:
        InputError: the store refuses or does not answer.
    """
    store: Any = place
    try:
        info = _ask(place, lambda: store.fs.info(store.path))
    except FileNotFoundError:
        return None
    return _describe_object(info) if info.get("type") == "file" else None


def _describe_object(info: Mapping[str, Any]) -> StoredObject:
    size_bytes = int(info.get("size") or 0)
    # Google's content is told by its generation where there is no etag, and last by its time.
    mark = next(
        (info[name] for name in ("ETag", "etag", "generation", "LastModified", "updated") if info.get(name)), ""
    )
    return StoredObject(size_bytes, f"{mark}:{size_bytes}".replace('"', ""))


def get_file(place: Path, file: Path) -> None:
    """Copy an object to a local file.

    Raises:
        FileNotFoundError: no such object.
        InputError: the store refuses, or does not answer.
        OutputError: the file cannot be written.
    """
    store: Any = place

    def act() -> None:
        try:
            store.fs.get_file(store.path, str(file))
        except OSError as error:
            if error.errno in _DISK_ERRORS:
                raise OutputError(f"{file}: cannot be written ({error.strerror}); make room") from error
            raise

    _ask(place, act)


def remove_object(place: Path) -> None:
    """Remove an object; nothing there is as good.

    Raises:
        OutputError: the store refuses, or does not answer.
    """
    store: Any = place
    with contextlib.suppress(FileNotFoundError):
        _ask(place, lambda: store.fs.rm_file(store.path))


@contextlib.contextmanager
def open_local(place: Path) -> Iterator[Path]:
    """Lend a file of this machine: the file itself, or a copy of the object that goes when the block ends.

    Raises:
        FileNotFoundError: no such object.
        InputError: the store refuses, or does not answer.
    """
    if not is_remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="codegemma-") as folder:
        copy = Path(folder) / place.name
        get_file(place, copy)
        yield copy


def _ask(place: Path, act: Callable[[], T], failure: type[InputError] | type[OutputError] = InputError) -> T:
    """Do it, again if it fails for another reason than that there is no such thing or no permission."""
    for attempt in range(ATTEMPTS):
        try:
            return act()
        except FileNotFoundError as error:
            if failure is InputError:
                raise
            raise OutputError(f"{place}: no such bucket ({error}); make it first, or choose another --out") from error
        except UserError:
            raise
        except PermissionError as error:
            raise failure(f"{place}: not permitted ({error}); look at the credentials") from error
        # aiohttp, botocore, google-auth and gcsfs each raise classes of their own, and nothing of ours is called here.
        except Exception as error:
            if attempt == ATTEMPTS - 1:
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise failure(
                    f"{place}: the store did not do it, asked {ATTEMPTS} time(s) ({reason}); look at the connection "
                    "and the credentials, then run again"
                ) from error
            time.sleep(PAUSE_S * 2**attempt)
    raise AssertionError("unreachable")
