"""Drops files that an operator's hashed list of illegal content knows; the list never holds the content in clear.

**In**: a text; a list that `block_list_maker.py` wrote on the operator's side, or that somebody entitled to it gave.
**Out**: what kind of entry was hit and how often, never what or where.
**Not**: a list. None is shipped, and without one nothing of this kind is found: a report must say "none given".
Pictures are not looked at: media files are never read, and encoded runs are `quality.py`'s.

    codegemma-block-list 1
    salt SALT                            32 hexadecimal digits, drawn anew for every list
    # comments and blank lines are left out
    file SHA256                          of a whole file
    domain DIGEST                        of a domain in an address; those below it are meant too
    words COUNT SIEVE DIGEST             of so many words in a row; SIEVE is 16 digits, DIGEST 32

DIGEST is BLAKE2b with the salt as key, of the domain or the words in their normal form (`normalize_words`). SIEVE is a
quick hash of the words, which only decides where DIGEST is computed. What a hit asks of the operator by law, a report
to the authorities and a quarantine, is not done here.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import re2
import xxhash
from jaxtyping import Bool, UInt64

from codegemma.errors import InputError

STAGE = "block_list"
HEADER = "codegemma-block-list 1"
FILE, DOMAIN, WORDS = "file", "domain", "words"
MAX_WORDS = 64  # in one entry
SALT_BYTES = DIGEST_BYTES = 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # reading takes it away; the listed file may have begun with it

_WORD = re.compile(r"\w+")
# ASCII letters in lower case, digits, and blanks for the rest.
_ASCII_WORDS = bytes(ord(chr(i).lower()) if i < 128 and chr(i).isalnum() else 32 for i in range(256))
_SIEVE_BITS = 20
# JSON may spell a slash with a backslash before it.
_ADDRESS = re2.compile(rb"(?i)\b(?:https?|ftp|wss?):(?:\\?/){2}(?:[^\s/@\"'<>]{0,200}@)?([^\s/@:\"'<>?#\\)\]}]{1,253})")
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that no word is lost: 2**64 over the golden ratio


class Blocked(NamedTuple):
    """Which kind of entry was hit, and how often."""

    reason: str
    hits: int

    def describe(self) -> str:
        """Say it for a record of dropped files.

        >>> Blocked("words", 2).describe()
        '2 hits of the block list'
        """
        return f"{self.hits} hit{'' if self.hits == 1 else 's'} of the block list"


class WordRuns(NamedTuple):
    """Entries of one number of words: which first bits of a sieve there are, the sieves in order, and the digests."""

    firsts: Bool[np.ndarray, " bits"]
    sieves: UInt64[np.ndarray, " n"]
    digests: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class BlockList:
    """A list that was read. `words` maps a number of words to the entries of so many."""

    salt: bytes
    files: frozenset[bytes]
    domains: frozenset[bytes]
    words: Mapping[int, WordRuns]
    digest: str | None

    def describe(self) -> str:
        """Say in the report which list was given.

        >>> NO_LIST.describe()
        'block list: none given'
        """
        if self.digest is None:
            return "block list: none given"
        runs = sum(len(entries.digests) for entries in self.words.values())
        return (
            f"block list: {len(self.files)} files, {len(self.domains)} domains, {runs} word runs, digest {self.digest}"
        )


NO_LIST = BlockList(b"", frozenset(), frozenset(), {}, None)


def find_blocked(text: str, block_list: BlockList) -> Blocked | None:
    """Tell whether a text is on the list: as a whole, by an address in it, or by words in it.

    >>> find_blocked("anything", NO_LIST) is None
    True
    """
    if block_list.digest is None:
        return None
    content = text.encode("utf-8", "surrogatepass")
    if block_list.files and _is_listed_file(content, block_list.files):
        return Blocked(FILE, 1)
    if block_list.domains and (hits := _count_domains(content, block_list)):
        return Blocked(DOMAIN, hits)
    if block_list.words and (hits := _count_words(text, block_list)):
        return Blocked(WORDS, hits)
    return None


def _is_listed_file(content: bytes, files: frozenset[bytes]) -> bool:
    return any(hashlib.sha256(head + content).digest() in files for head in (b"", BYTE_ORDER_MARK))


def _count_domains(content: bytes, block_list: BlockList) -> int:
    if b"://" not in content and b":\\/" not in content:
        return 0
    hosts = Counter(match.group(1).decode("utf-8", "replace") for match in _ADDRESS.finditer(content))
    return sum(count for host, count in hosts.items() if _is_listed_host(host, block_list))


def _is_listed_host(host: str, block_list: BlockList) -> bool:
    labels = normalize_domain(host).split(".")
    return any(
        hash_text(".".join(labels[start:]), block_list.salt) in block_list.domains for start in range(len(labels))
    )


def _count_words(text: str, block_list: BlockList) -> int:
    words = normalize_words(text)
    hashes = hash_words(words, block_list.salt)
    hits = 0
    for count, entries in block_list.words.items():
        rolled = roll_hashes(hashes, count)
        maybe = np.flatnonzero(entries.firsts[rolled >> np.uint64(64 - _SIEVE_BITS)])
        places = np.minimum(np.searchsorted(entries.sieves, rolled[maybe]), len(entries.sieves) - 1)
        maybe = maybe[entries.sieves[places] == rolled[maybe]]
        hits += sum(
            hash_text(" ".join(words[i : i + count]), block_list.salt) in entries.digests for i in maybe.tolist()
        )
    return hits


# --- what the list and its maker share -------------------------------------------------------------------------------


def normalize_words(text: str) -> list[str]:
    """Cut a text into words, without case, compatible forms made one, and everything between words left out.

    >>> normalize_words("Some  WORDS, in_a row: ﬁve")
    ['some', 'words', 'in', 'a', 'row', 'five']
    """
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).decode().split()
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _WORD.findall(plain.replace("_", " "))


def normalize_domain(host: str) -> str:
    """Spell a domain in one way.

    >>> normalize_domain("WWW.Bücher.example."), normalize_domain("xn--bcher-kva.example")
    ('www.xn--bcher-kva.example', 'xn--bcher-kva.example')
    """
    host = unicodedata.normalize("NFKC", host).casefold().strip(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def hash_text(text: str, salt: bytes) -> bytes:
    """Hash words or a domain in normal form."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=salt, digest_size=DIGEST_BYTES).digest()


def hash_words(words: Sequence[str], salt: bytes) -> UInt64[np.ndarray, " n"]:
    """Hash each word quickly; equal words are hashed once."""
    seed = int.from_bytes(salt[:8], "little")
    known = {word: xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"), seed) for word in set(words)}
    return np.fromiter(map(known.__getitem__, words), np.uint64, len(words))


def roll_hashes(hashes: UInt64[np.ndarray, " n"], count: int) -> UInt64[np.ndarray, " m"]:
    """Join the hashes of every `count` words in a row, so that order matters."""
    rolled = np.zeros(max(len(hashes) - count + 1, 0), np.uint64)
    for offset in range(count):
        rolled *= np.uint64(_MULTIPLIER)
        rolled += hashes[offset : offset + len(rolled)]
    return rolled


# --- reading ----------------------------------------------------------------------------------------------------------


def read_block_list(path: str | None) -> BlockList:
    """Read a list.

    Raises:
        InputError: it cannot be read or a line is none of its forms. The line is named by its number and not repeated:
            if it is clear text, it must not reach a log. Without its list a build must not go on.
    """
    if path is None:
        return NO_LIST
    try:
        content = Path(path).read_bytes()
        lines = content.decode("ascii").splitlines()
    except OSError as error:
        raise InputError(f"{path}: the block list cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: the block list is not ASCII; is it clear text? block_list_maker.py hashes it"
        ) from None
    if not lines or lines[0].strip() != HEADER:
        raise InputError(f"{path}: the first line is not {HEADER!r}; block_list_maker.py writes such lists")
    entries: dict[str, list[tuple[bytes, ...]]] = defaultdict(list)
    for number, line in enumerate(lines[1:], start=2):
        kind, *fields = line.split() or [""]
        if not kind or kind.startswith("#"):
            continue
        parsed = _parse_fields(kind, fields)
        if parsed is None:
            forms = "; ".join(_FORMS)
            raise InputError(f"{path}:{number}: no entry of a block list; wanted one of: {forms}")
        entries[kind].append(parsed)
    if len(entries["salt"]) != 1:
        raise InputError(f"{path}: {len(entries['salt'])} lines of salt, wanted one")
    if not any(entries[kind] for kind in (FILE, DOMAIN, WORDS)):
        raise InputError(f"{path}: the block list has no entry; leave the choice out to build without one")
    return BlockList(
        salt=entries["salt"][0][0],
        files=frozenset(digest for (digest,) in entries[FILE]),
        domains=frozenset(digest for (digest,) in entries[DOMAIN]),
        words=_group_words(entries[WORDS]),
        digest=hashlib.sha256(content).hexdigest()[:16],
    )


_FORMS = ("salt SALT", "file SHA256", "domain DIGEST", "words COUNT SIEVE DIGEST")


def _parse_count(field: str) -> bytes | None:
    return bytes([int(field)]) if field.isdigit() and len(field) < 3 and 1 <= int(field) <= MAX_WORDS else None


def _parse_hex(size_bytes: int) -> Callable[[str], bytes | None]:
    return lambda field: bytes.fromhex(field) if re.fullmatch(rf"[0-9a-fA-F]{{{2 * size_bytes}}}", field) else None


_FIELDS: Mapping[str, tuple[Callable[[str], bytes | None], ...]] = {
    "salt": (_parse_hex(SALT_BYTES),),
    FILE: (_parse_hex(32),),
    DOMAIN: (_parse_hex(DIGEST_BYTES),),
    WORDS: (_parse_count, _parse_hex(8), _parse_hex(DIGEST_BYTES)),
}


def _parse_fields(kind: str, fields: Sequence[str]) -> tuple[bytes, ...] | None:
    parsers = _FIELDS.get(kind, ())
    if not parsers or len(parsers) != len(fields):
        return None
    values = [parse(field) for parse, field in zip(parsers, fields, strict=True)]
    known = [value for value in values if value is not None]
    return tuple(known) if len(known) == len(values) else None


def _group_words(entries: Sequence[tuple[bytes, ...]]) -> dict[int, WordRuns]:
    by_count: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for size, sieve, digest in entries:
        by_count[size[0]].append((sieve, digest))
    groups = {}
    for count, rows in sorted(by_count.items()):
        sieves = np.unique(np.array([int.from_bytes(sieve, "big") for sieve, _ in rows], np.uint64))
        firsts = np.zeros(1 << _SIEVE_BITS, np.bool_)
        firsts[sieves >> np.uint64(64 - _SIEVE_BITS)] = True
        groups[count] = WordRuns(firsts, sieves, frozenset(digest for _, digest in rows))
    return groups
