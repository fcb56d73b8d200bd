"""Keeps answers and verdicts under a hash of what they hang on: nothing is done twice, and a kill loses little.

**In**: plain data, the key; plain data or bytes, the value.
**Out**: the value again, in this run or a later one.
**Not**: a judge of what a value hangs on: who keeps one names all of it. One process at a time holds a store.

SQLite with a write-ahead log: what was kept is there after a kill of the process; after a loss of power the last
entries may be missing, and the file is whole.
"""

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import xxhash

from codegemma.errors import OutputError
from codegemma.recipe import to_plain

STORE_FILE = "kept.sqlite"


def hash_parts(*parts: Any) -> bytes:
    """Hash plain data or records of it to 16 bytes: equal parts, equal hash, on every machine."""
    text = json.dumps([to_plain(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_digest(text.encode())


class Store:
    """What was kept, by key. Any number of threads may use it.

    >>> store = Store()
    >>> store.keep(hash_parts("verdict", 1), {"passed": True})
    >>> store.find(hash_parts("verdict", 1)), store.find(hash_parts("verdict", 2))
    ({'passed': True}, None)
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Open the store of a folder; without one, a file that goes with the process.

        Raises:
            OutputError: it cannot be written, is no store, or another process holds it.
        """
        self._place = "" if folder is None else str(folder / STORE_FILE)
        self._lock = threading.Lock()
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._rows = sqlite3.connect(self._place, check_same_thread=False, isolation_level=None, timeout=1.0)
            # Held by one process, the log's index needs no shared memory, which file systems of a network do not have.
            for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
                self._rows.execute(f"PRAGMA {setting}")
            self._rows.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value) WITHOUT ROWID")
        except (sqlite3.Error, OSError) as error:
            raise self._explain(error) from error

    def find(self, key: bytes) -> Any | None:
        """Give back what was kept under a key, `None` where nothing was.

        Raises:
            OutputError: the store is damaged.
        """
        try:
            with self._lock:
                row = self._rows.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._explain(error) from error
        return None if row is None else row[0] if isinstance(row[0], bytes) else json.loads(row[0])

    def keep(self, key: bytes, value: Any) -> None:
        """Keep a value; it is there from now on.

        Raises:
            OutputError: no room.
        """
        spelled = value if isinstance(value, bytes) else json.dumps(to_plain(value), separators=(",", ":"))
        try:
            with self._lock:
                self._rows.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, spelled))
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._rows.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # One that nobody closed, such as an examination's own temporary one.
        rows = getattr(self, "_rows", None)
        if rows is not None:
            rows.close()

    def _explain(self, error: Exception) -> OutputError:
        place = self._place or "the temporary folder"
        if "locked" in str(error):
            return OutputError(f"{place}: another process holds it; wait for it, or choose another folder")
        return OutputError(
            f"{place}: cannot keep answers there ({error}); make room, choose another folder, or, if it is damaged, "
            "remove it: what it held is asked and run again"
        )
