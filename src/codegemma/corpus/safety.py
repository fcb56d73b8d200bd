"""Finds secrets: keys, tokens and passwords that must not be trained on.

**In**: a text; the rules of `secret_rules.toml`.
**Out**: the rule and the line of the first secret, never the secret.
**Not**: personal data, malware, or a secret that looks like an ordinary word. One finding drops the whole file.
"""

import bisect
import functools
import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import ahocorasick
import re2

STAGE = "safety"
RULES_FILE = "secret_rules.toml"


@dataclass(frozen=True, slots=True)
class Allowlist:
    """What looks like a secret and is none: `stopwords` stand in it, in lower case, or a pattern matches it."""

    stopwords: tuple[str, ...]
    patterns: tuple[Any, ...]

    def allows(self, secret: str) -> bool:
        """Say whether the secret is a placeholder."""
        lowered = secret.lower()
        return any(word in lowered for word in self.stopwords) or any(p.search(secret) for p in self.patterns)


@dataclass(frozen=True, slots=True)
class SecretRule:
    """One rule of the table, compiled."""

    rule_id: str
    pattern: Any
    secret_group: int
    min_entropy_bits: float
    allowlists: tuple[Allowlist, ...]


class Finding(NamedTuple):
    """A secret's rule and its line, counted from 1."""

    rule_id: str
    line: int


class _Rules(NamedTuple):
    rules: tuple[SecretRule, ...]
    keywords: Any  # an Aho-Corasick automaton: keyword -> indices of the rules that ask for it


def find_secrets(text: str) -> list[Finding]:
    """Find secrets, by rule in the order of the table, then by line.

    >>> find_secrets("import os" + chr(10) + "token = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'")
    [Finding(rule_id='github-token', line=2)]
    """
    rules, keywords = _load_rules()
    wanted = {index for _, indices in keywords.iter(text.lower()) for index in indices}
    if not wanted:
        return []
    content = text.encode()
    line_ends = _find_line_ends(content)
    return [
        Finding(rules[index].rule_id, bisect.bisect_left(line_ends, start) + 1)
        for index in sorted(wanted)
        for start in _match_rule(rules[index], content)
    ]


def _match_rule(rule: SecretRule, content: bytes) -> Iterator[int]:
    for match in rule.pattern.finditer(content):
        secret = match.group(rule.secret_group).decode("utf-8", "replace")
        if measure_entropy_bits(secret) >= rule.min_entropy_bits and not any(a.allows(secret) for a in rule.allowlists):
            yield match.start(rule.secret_group)


def _find_line_ends(content: bytes) -> list[int]:
    ends, position = [], content.find(b"\n")
    while position >= 0:
        ends.append(position)
        position = content.find(b"\n", position + 1)
    return ends


def measure_entropy_bits(text: str) -> float:
    """Measure Shannon's entropy per character.

    >>> measure_entropy_bits("aaaa"), measure_entropy_bits("abcd")
    (0.0, 2.0)
    """
    counts = Counter(text).values()
    return sum(-n / len(text) * math.log2(n / len(text)) for n in counts) + 0.0


@functools.cache
def _load_rules() -> _Rules:
    table = tomllib.loads(resources.files("codegemma.corpus").joinpath(RULES_FILE).read_text(encoding="utf-8"))
    shared = tuple(_parse_allowlist(row) for row in table["allowlists"])
    rules = tuple(_parse_rule(row, shared) for row in table["rules"])
    indices: dict[str, list[int]] = {}
    for index, row in enumerate(table["rules"]):
        for keyword in row["keywords"]:
            indices.setdefault(keyword, []).append(index)
    keywords = ahocorasick.Automaton()
    for keyword, values in indices.items():
        keywords.add_word(keyword, tuple(values))
    keywords.make_automaton()
    return _Rules(rules, keywords)


def _parse_rule(row: Mapping[str, Any], shared: tuple[Allowlist, ...]) -> SecretRule:
    own = tuple(_parse_allowlist(allowlist) for allowlist in row.get("allowlists", ()))
    pattern = re2.compile(row["regex"].encode())
    return SecretRule(row["id"], pattern, row.get("secretGroup", 0), row.get("entropy", 0.0), (*shared, *own))


def _parse_allowlist(row: Mapping[str, Any]) -> Allowlist:
    return Allowlist(tuple(row.get("stopwords", ())), tuple(re2.compile(p) for p in row.get("regexes", ())))
