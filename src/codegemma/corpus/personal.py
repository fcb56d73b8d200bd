"""Finds personal data by its form and chooses what stands in its place: e-mail and IP addresses, telephone numbers.

**In**: a text, the repository it is from, and a key.
**Out**: `Redaction`s: where, what kind, and a pseudonym of the same form, so that code still parses.
**Not**: names of people (`names.py`), or secrets: a file with one is dropped (`safety.py`).

A pseudonym hangs on the key, the repository, and the value alone: one address has one pseudonym throughout a
repository, another in the next one, and nobody without the key can tell which is whose. Pseudonyms are taken from what
the standards reserve for documentation (RFC 2606, 5737, 3849), so none is anybody's.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import re2

from codegemma.errors import InputError

EMAIL, IP_ADDRESS, PHONE = "email", "ip_address", "phone"

# An e-mail address is looked for by its `@`: what may stand before it, and after it; `_judge_email` checks further.
_LOCAL_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
_LOCAL_SIGNS = b"._%+-"  # none of these begins one
_MAX_LOCAL, _MAX_HOST = 64, 400
_HOST = re2.compile(rb"[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){1,5}")
_IPV4 = re2.compile(rb"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
# Of IPv6, what is given to hosts on the internet: 2000::/3. `x[1::2]` is a slice.
_IPV6 = re2.compile(rb"[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]{1,4}:(?:[0-9A-Fa-f]{0,4}:){0,6}[0-9A-Fa-f]{1,4}")
# International only: `+`, country code, then groups. Numbers without `+` are numbers of anything.
_PHONE = re2.compile(rb"\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?)(?:[ .-][0-9]{2,4}){2,4}")

# What two letters after the last point may be is any country; of longer ends, those that people's addresses have.
_LONG_ENDS = frozenset(
    (
        "com", "org", "net", "edu", "gov", "mil", "int", "info", "biz", "name", "pro", "app", "dev", "cloud", "tech",
        "online", "site", "email", "mail", "company", "academy", "agency", "science", "software", "systems", "network",
        "works", "group", "team", "world", "today", "social", "africa", "asia",
    )
)  # fmt: skip
# Accounts of programs, and hosts that the standards set aside.
_PROGRAMS = frozenset(("git", "hg", "svn", "noreply", "no-reply", "user", "username", "you", "your", "someone", "foo"))
_RESERVED_HOST = re.compile(r"(?:^|\.)(?:example(?:\.[a-z]+)?|[a-z0-9-]+\.(?:test|invalid|local|localhost))$")
# Resolvers and the like that everybody writes: nobody's data.
_PUBLIC_SERVICES = frozenset(("8.8.8.8", "8.8.4.4", "208.67.222.222", "208.67.220.220"))

_VERSION_BEFORE = re.compile(rb"(?:(?:version|release|\bv)[\s\"':=(]*|[=<>~^]=\s*)$", re.IGNORECASE)
_LARGE_OCTET = 100
_LEAST_PHONE_DIGITS, _MOST_PHONE_DIGITS = 8, 15

_DOCUMENTATION_NETS = ("192.0.2", "198.51.100", "203.0.113")
_DOCUMENTATION_HOSTS = ("example.com", "example.org", "example.net")
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


class Redaction(NamedTuple):
    """`text[start:end]`, in characters, is personal data of this kind and becomes `replacement`."""

    start: int
    end: int
    kind: str
    replacement: str


def find_personal(text: str, repo: str, key: str = "") -> list[Redaction]:
    """Find personal data, in the order of the text; no two overlap.

    >>> found = find_personal("# by Jane.Doe2@corp.com, 93.184.216.34", "repo")
    >>> [(r.kind, r.replacement) for r in found]
    [('email', 'mora.nem7@example.org'), ('ip_address', '198.51.100.52')]
    """
    content = text.encode("utf-8", "surrogatepass")
    found = sorted(_find_bytes(content))
    if not found:
        return []
    redactions: list[Redaction] = []
    covered = chars = 0
    for start, end, kind in found:
        if start < covered:
            continue
        chars += len(content[covered:start].decode("utf-8", "surrogatepass"))
        value = content[start:end].decode()  # ASCII, by the patterns
        pseudonym = _PSEUDONYMS[kind](value, Draw(key, repo, kind, value))
        redactions.append(Redaction(chars, chars + len(value), kind, pseudonym))
        covered, chars = end, chars + len(value)
    return redactions


def read_key(path: str | None) -> str:
    """Read the key that pseudonyms hang on; none given is the empty key.

    Raises:
        InputError: the file cannot be read, or is empty: a build without its key must not pass for one with it.
    """
    if path is None:
        return ""
    try:
        key = Path(path).read_bytes().strip().hex()
    except OSError as error:
        raise InputError(
            f"{path}: the key of the pseudonyms cannot be read ({error.strerror}); "
            "name another file in corpus.pseudonym_key_file"
        ) from error
    if not key:
        raise InputError(f"{path}: the key of the pseudonyms is empty; write some random text into it")
    return key


def describe_key(path: str | None) -> str:
    """Say in the report whether there was a key, and by its digest which.

    >>> describe_key(None)
    'key of the pseudonyms: none given'
    """
    if path is None:
        return "key of the pseudonyms: none given"
    return f"key of the pseudonyms: digest {hashlib.blake2b(read_key(path).encode(), digest_size=8).hexdigest()}"


def apply_redactions(text: str, redactions: Sequence[Redaction]) -> str:
    """Put the pseudonyms in place.

    >>> apply_redactions("mail a@b.de now", [Redaction(5, 11, "email", "x@example.org")])
    'mail x@example.org now'
    """
    parts, position = [], 0
    for redaction in redactions:
        parts += [text[position : redaction.start], redaction.replacement]
        position = redaction.end
    return "".join((*parts, text[position:]))


# --- finding ----------------------------------------------------------------------------------------------------------


def _find_bytes(content: bytes) -> Iterator[tuple[int, int, str]]:
    for start, end in _find_emails(content):
        if _judge_email(content[start:end].decode()):
            yield start, end, EMAIL
    for pattern, judge, joins in ((_IPV4, _judge_ipv4, b"."), (_IPV6, _judge_ip, b".:")):
        for match in pattern.finditer(content):
            if _stands_alone(content, match.start(), match.end(), joins) and judge(content, match):
                yield match.start(), match.end(), IP_ADDRESS
    if b"+" in content:
        for match in _PHONE.finditer(content):
            if _stands_alone(content, match.start(), match.end(), b"+)].-") and _judge_phone(match.group()):
                yield match.start(), match.end(), PHONE


def _find_emails(content: bytes) -> Iterator[tuple[int, int]]:
    position, at = 0, content.find(b"@")
    while at >= 0:
        before = content[max(at - _MAX_LOCAL, position) : at]
        local = before[len(before.rstrip(_LOCAL_BYTES)) :].lstrip(_LOCAL_SIGNS)
        host = _HOST.match(content[at + 1 : at + 1 + _MAX_HOST]) if len(local) > 1 else None
        if host:
            position = at + 1 + host.end()
            yield at - len(local), at + 1 + len(host.group().rstrip(b".-"))
        at = content.find(b"@", max(at + 1, position))


def _stands_alone(content: bytes, start: int, end: int, joins: bytes) -> bool:
    """Say that what touches it is no letter, digit or one of `joins`: it is not a part of something longer."""
    before = content[max(start - 1, 0) : start]
    after, follows = content[end : end + 1], content[end + 1 : end + 2]
    begins = not (before.isalnum() or before == b"_" or (before and before in joins))
    # A point or hyphen after it may end the sentence.
    return begins and not (after.isalnum() or after == b"_" or (after and after in joins and follows.isalnum()))


def _judge_email(address: str) -> bool:
    local, _, host = address.rpartition("@")
    end = host.rpartition(".")[2]
    is_end = end.lower() in _LONG_ENDS or (len(end) == 2 and end.isalpha() and (end.islower() or end.isupper()))
    # One letter before the point is an attribute of a matrix: `a@b.mT`.
    return (
        is_end
        and len(host.partition(".")[0]) > 1
        and local.lower() not in _PROGRAMS
        and not _RESERVED_HOST.search(host.lower())
    )


def _judge_ipv4(content: bytes, match: "re.Match[bytes]") -> bool:
    address = match.group().decode()
    # Four small numbers are a version or a section more often than the 2 % of addresses that have no large one.
    has_large = any(int(part) >= _LARGE_OCTET for part in address.split("."))
    is_network = address.endswith(".0")
    is_version = _VERSION_BEFORE.search(content[max(match.start() - 24, 0) : match.start()])
    return (
        has_large
        and not is_network
        and not is_version
        and address not in _PUBLIC_SERVICES
        and _judge_ip(content, match)
    )


def _judge_ip(_content: bytes, match: "re.Match[bytes]") -> bool:
    try:
        address = ipaddress.ip_address(match.group().decode())
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


def _judge_phone(number: bytes) -> bool:
    digits = re.sub(rb"[^0-9]", b"", number)
    return _LEAST_PHONE_DIGITS <= len(digits) <= _MOST_PHONE_DIGITS and b"555" not in digits


# --- pseudonyms -------------------------------------------------------------------------------------------------------


class Draw:
    """Numbers that hang on key, repository, kind and value alone."""

    def __init__(self, key: str, repo: str, kind: str, value: str) -> None:
        secret = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        told = f"{repo}\0{kind}\0{value.lower()}".encode("utf-8", "surrogatepass")
        self._state = int.from_bytes(hashlib.blake2b(told, key=secret, digest_size=64).digest(), "little")

    def below(self, bound: int) -> int:
        """Draw a number from 0 up to, without, `bound`."""
        self._state, drawn = divmod(self._state, bound)
        return drawn


def _invent_email(value: str, draw: Draw) -> str:
    host = _DOCUMENTATION_HOSTS[draw.below(len(_DOCUMENTATION_HOSTS))]
    letters, is_vowel = [], False
    for character in value.rpartition("@")[0]:
        if character.isdigit():
            letters.append(str(draw.below(10)))
        elif character.isalpha():
            choices = VOWELS if is_vowel else CONSONANTS
            letters.append(choices[draw.below(len(choices))])
            is_vowel = not is_vowel
        else:
            letters.append(character)
            is_vowel = False
    return f"{''.join(letters)}@{host}"


def _invent_ip(value: str, draw: Draw) -> str:
    if ":" in value:
        return "2001:db8:" + ":".join(f"{draw.below(2**16):x}" for _ in range(6))
    return f"{_DOCUMENTATION_NETS[draw.below(3)]}.{1 + draw.below(254)}"


def _invent_phone(value: str, draw: Draw) -> str:
    """Keep country code and grouping; fives are nobody's, and the last two digits tell numbers apart."""
    country = re.match(r"\+\d{1,3}(?=[ .(-])|\+\d", value)
    head = country.group() if country else "+"
    rest = value[len(head) :]
    fives = re.sub(r"\d", "5", rest)
    return head + fives[:-2] + f"{draw.below(100):02d}"


_PSEUDONYMS: dict[str, Callable[[str, Draw], str]] = {
    EMAIL: _invent_email,
    IP_ADDRESS: _invent_ip,
    PHONE: _invent_phone,
}
