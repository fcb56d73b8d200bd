"""Which files no model is shown: by name (`secret_names.toml`), and by what the corpus would be refused for.

**In**: a path, or a path and its text.
**Out**: whether it looks like a secret, and by what.
**Not**: proof that there is none: a password that looks like a word is not seen.
"""

import contextlib
import functools
import hashlib
import tomllib
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import PurePosixPath

from codegemma.corpus.safety import find_secrets

# Longer texts are not shown as a whole anyway, and to look through them costs time at the keystroke.
_MAX_SCANNED_CHARS = 400_000
# What was found is remembered by a digest: the texts of so many requests would fill the memory.
_REMEMBERED = 2_048
# No path that a system opens is longer.
MAX_PATH_CHARS = 4_096


@functools.cache
def _read_names() -> dict[str, tuple[str, ...]]:
    table = tomllib.loads(resources.files("codegemma.serve").joinpath("secret_names.toml").read_text(encoding="utf-8"))
    return {kind: tuple(name.lower() for name in names) for kind, names in table.items()}


def has_secret_name(path: str) -> bool:
    """Say whether a path gives itself away, as far as a path can reach.

    >>> has_secret_name("deploy/.env.production"), has_secret_name(".env.example"), has_secret_name("src/env.py")
    (True, False, False)
    """
    return _has_secret_name(path[-MAX_PATH_CHARS:])


@functools.lru_cache(_REMEMBERED)
def _has_secret_name(path: str) -> bool:
    table = _read_names()
    pure = PurePosixPath(path.replace("\\", "/").lower())
    if pure.name in table["examples"]:
        return False
    return (
        pure.name in table["names"]
        or any(fnmatchcase(pure.name, pattern) for pattern in table["patterns"])
        or any(folder in table["folders"] for folder in pure.parent.parts)
    )


def has_secret(path: str, text: str) -> bool:
    """Say whether a file looks like a secret, by its name or by a rule that finds one in it."""
    return describe_secret(path, text) is not None


_FOUND: dict[bytes, str | None] = {}


def describe_secret(path: str, text: str) -> str | None:
    """Say by what a file looks like a secret, without telling it; nothing where it does not.

    >>> describe_secret("id_rsa", ""), describe_secret("a.py", "x = 1")
    ('by its name', None)
    """
    if has_secret_name(path):
        return "by its name"
    if len(text) > _MAX_SCANNED_CHARS:
        return f"{len(text):,} characters are not looked through"
    digest = hashlib.blake2b(f"{path}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    with contextlib.suppress(KeyError):
        return _FOUND[digest]
    found = find_secrets(text, path)
    if len(_FOUND) >= _REMEMBERED:
        _FOUND.clear()
    _FOUND[digest] = said = found[0].describe() if found else None
    return said


def list_names() -> dict[str, tuple[str, ...]]:
    """List the names that give themselves away, by kind, in lower case: for a page that refuses them itself."""
    return _read_names()
