"""Makes a hashed block list from clear text, on the side of whoever may have that text.

    python -m codegemma.corpus.block_list_maker CLEAR OUT

**In**: a text file, or `-` for standard input; each line is `file PATH`, `domain NAME` or `words SOME WORDS IN A ROW`.
**Out**: a list for `block_list.py`, which holds salted hashes in an order that says nothing.
**Not**: secrecy of short entries: whoever has the list can try words out against it. The clear text is kept nowhere.
"""

import argparse
import hashlib
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from codegemma.corpus.block_list import (
    DOMAIN,
    FILE,
    HEADER,
    MAX_WORDS,
    SALT_BYTES,
    WORDS,
    hash_text,
    hash_words,
    normalize_domain,
    normalize_words,
    roll_hashes,
)
from codegemma.errors import InputError, OutputError, UserError

# A longer entry is listed as all its runs of so many words, so that a part of it is found too.
WORDS_IN_A_ROW = 8


def make_block_list(lines: Iterable[str], salt: bytes | None = None, count: int = WORDS_IN_A_ROW) -> str:
    """Hash entries, one a line; without `salt`, one is drawn.

    >>> made = make_block_list(["domain Example.org", "words some words"], salt=bytes(16))
    >>> [line.split()[0] for line in made.splitlines()]
    ['codegemma-block-list', 'salt', 'domain', 'words']

    Raises:
        InputError: a line is none of the three forms, or a file cannot be read. The line is named by its number only.
    """
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    entries: set[str] = set()
    for number, line in enumerate(lines, start=1):
        kind, _, value = line.strip().partition(" ")
        if kind and not kind.startswith("#"):
            made = set(_hash_entry(kind, value.strip(), salt, count))
            if not made:
                raise InputError(f"line {number}: wanted `file PATH`, `domain NAME` or `words SOME WORDS IN A ROW`")
            entries |= made
    return "\n".join((HEADER, f"salt {salt.hex()}", *sorted(entries), ""))


def _hash_entry(kind: str, value: str, salt: bytes, count: int) -> Iterator[str]:
    if kind == FILE and value:
        try:
            yield f"{FILE} {hashlib.sha256(Path(value).read_bytes()).hexdigest()}"
        except OSError as error:
            raise InputError(f"a file to be listed cannot be read ({error.strerror})") from error
    elif kind == DOMAIN and normalize_domain(value):
        yield f"{DOMAIN} {hash_text(normalize_domain(value), salt).hex()}"
    elif kind == WORDS:
        words = normalize_words(value)
        size = min(count, len(words))
        for start, sieve in enumerate(roll_hashes(hash_words(words, salt), size).tolist() if words else ()):
            digest = hash_text(" ".join(words[start : start + size]), salt)
            yield f"{WORDS} {size} {sieve:016x} {digest.hex()}"


def main() -> None:
    """Read the clear text, write the list."""
    parser = argparse.ArgumentParser(prog="block_list_maker", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("clear", metavar="CLEAR", help="clear text, one entry a line; - reads standard input")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the list is written")
    parser.add_argument("--words", type=int, default=WORDS_IN_A_ROW, help="words in a row [default: %(default)s]")
    options = parser.parse_args()
    if not 1 <= options.words <= MAX_WORDS:
        parser.error(f"--words {options.words}: wanted 1 to {MAX_WORDS}")
    try:
        clear = sys.stdin.buffer.read() if options.clear == "-" else _read(Path(options.clear))
        made = make_block_list(clear.decode("utf-8", "surrogateescape").splitlines(), count=options.words)
        _write(options.out, made)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    main()
