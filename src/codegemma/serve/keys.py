"""API keys: made once, kept as hashes, compared in constant time, each with its own rate.

**In**: a file with one key a line: `name:sha256:requests_per_minute`.
**Out**: the name behind a key that a client sent, or nothing.
**Not**: users, groups or sessions; a key is a name.

Keys are 256 random bits, so that a plain hash of them cannot be guessed from the file; no salt or slow hash is needed.
"""

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from codegemma.errors import InputError
from codegemma.files import write_whole

_PREFIX = "cg-"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64}):(\d{1,9})")
REQUESTS_PER_MINUTE = 1200
_MINUTE_S = 60.0


class TooManyRequestsError(Exception):
    """A key's rate is used up."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept."""

    name: str
    digest: str
    per_minute: int


class KeyRing:
    """The keys of one server; an empty one lets everybody in, which is for loopback alone."""

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self._keys = keys
        self._spent: dict[str, tuple[float, float]] = {}  # name: tokens left in its bucket, and when

    @property
    def is_needed(self) -> bool:
        """Whether a key is asked for."""
        return bool(self._keys)

    def find(self, token: str) -> str | None:
        """Find whose key this is. Every key is compared, so that the time tells nothing.

        Raises:
            TooManyRequestsError: it is a valid key that asks too often.
        """
        digest = hash_key(token)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is not None and not self._spend(found):
            raise TooManyRequestsError(f"key {found.name} may ask {found.per_minute} times a minute")
        return found.name if found else None

    def _spend(self, key: Key) -> bool:
        now = time.monotonic()
        left, then = self._spent.get(key.name, (float(key.per_minute), now))
        left = min(left + (now - then) * key.per_minute / _MINUTE_S, float(key.per_minute))
        self._spent[key.name] = (left - 1 if left >= 1 else left, now)
        return left >= 1


def hash_key(token: str) -> str:
    """Hash a key as it is kept."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def read_keys(path: Path) -> KeyRing:
    """Read a file of keys.

    Raises:
        InputError: no such file, or a line that is none.
    """
    keys = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{path}:{number} is no key; wanted name:sha256:requests_per_minute, made by --new-key NAME"
            )
        keys.append(Key(match[1], match[2], int(match[3])))
    if not keys:
        raise InputError(f"{path} holds no key; make one with --new-key NAME")
    return KeyRing(tuple(keys))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a file of keys ({error}); make one with --new-key NAME") from error


def add_key(path: Path, name: str, per_minute: int = REQUESTS_PER_MINUTE) -> str:
    """Add a key to a file, readable by its owner alone, and return it; it is not kept and cannot be shown again.

    Raises:
        InputError: the name is none, or is taken, or the file cannot be read.
        OutputError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name of a key; letters, digits, dots, dashes and underscores are")
    old = _read_text(path) if path.exists() else ""
    old += "\n" * (bool(old) and not old.endswith("\n"))
    if any(line.startswith(f"{name}:") for line in old.splitlines()):
        raise InputError(f"{path} has a key {name} already; remove its line first to replace it")
    token = _PREFIX + secrets.token_urlsafe(32)
    write_whole(path, f"{old}{name}:{hash_key(token)}:{per_minute}\n".encode())
    path.chmod(0o600)
    return token
