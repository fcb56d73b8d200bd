"""Writes a file whole or not at all, so that no later run trusts half of one; and says where a person's own are kept.

**In**: a path, or an address in an object store, and the bytes.
**Out**: the file, synced, under its name; or nothing there and an error that says why.
**Not**: streams: Parquet is `shards.py`, checkpoints are `train/checkpoint.py`.
"""

import os
from pathlib import Path

from codegemma.errors import OutputError
from codegemma.places import is_remote, put_bytes


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name beside `path`, sync, rename; missing folders are made. A store takes it at once.

    Raises:
        OutputError: no permission, no space, a folder in the way, or a store that does not answer.
    """
    if is_remote(path):
        put_bytes(path, data)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written ({reason}); choose another --out or make room") from error
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # Its folder cannot even be reached: nothing was written.


def find_state_folder() -> Path:
    """Find where a person's own things are kept between runs: what they typed, what they learned."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "codegemma"
