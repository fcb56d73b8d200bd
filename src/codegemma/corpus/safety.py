"""Finds secrets: keys, tokens and passwords that must not be trained on.

**In**: a text, its path, and the rules of `secret_rules.py`.
**Out**: the rule and the line of each secret, never the secret.
**Not**: personal data, malware, or a secret that looks like an ordinary word. One finding drops the whole file.
What gitleaks does beside its rules is not done: encodings are not undone, and `gitleaks:allow` excuses nothing.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from codegemma.corpus.secret_rules import Hit, Required, SecretRule, SecretRules, load_secret_rules

STAGE = "safety"
# How far from a match an allowlist sees its line: a line of a megabyte may have a match in every word.
LINE_REACH_BYTES = 4_096


class Finding(NamedTuple):
    """A secret's rule and its line, counted from 1; a path that gives itself away has no line."""

    rule_id: str
    line: int | None

    def describe(self) -> str:
        """Say where it is.

        >>> Finding("github-token", 2).describe(), Finding("pkcs12-file", None).describe()
        ('github-token in line 2', 'pkcs12-file by its path')
        """
        return f"{self.rule_id} by its path" if self.line is None else f"{self.rule_id} in line {self.line}"


class _Match(NamedTuple):
    """Where a match and its secret start, in bytes; -1 where a path matched."""

    start: int
    secret_start: int


def find_secrets(text: str, path: str = "", rules: SecretRules | None = None, commit: str = "") -> list[Finding]:
    """Find secrets, by rule in the order of the table, then by line. Without `rules`, by our own table.

    >>> find_secrets("import os" + chr(10) + "token = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'")
    [Finding(rule_id='github-token', line=2)]
    """
    scan = _Scan(text, path, commit, rules or load_secret_rules())
    return list(scan.find())


class _Scan:
    """One file under the rules. The text is encoded once; lines are counted only for what was found."""

    def __init__(self, text: str, path: str, commit: str, rules: SecretRules) -> None:
        self.path, self.commit, self.rules = path.encode("utf-8", "surrogatepass"), commit, rules
        self.content = text.encode("utf-8", "surrogatepass")
        self.wanted = rules.select(text, self.content)

    def find(self) -> Iterator[Finding]:
        if any(allowlist.allows_file(self.path, self.commit) for allowlist in self.rules.allowlists):
            return
        for index in self.wanted:
            rule = self.rules.rules[index]
            if not rule.is_reported:
                continue
            matches = list(self.match_rule(rule))
            if matches and rule.required:
                matches = list(self.keep_complete(rule, matches))
            position, line = 0, 1
            for match in matches:  # from the start of the file to its end, so that no line is counted twice
                line += self.content.count(b"\n", position, match.secret_start) if match.start >= 0 else 0
                position = max(position, match.secret_start)
                yield Finding(rule.rule_id, None if match.start < 0 else line)

    def match_rule(self, rule: SecretRule) -> Iterator[_Match]:
        if any(allowlist.allows_file(self.path, self.commit) for allowlist in rule.allowlists):
            return
        if rule.path is not None and not rule.path.search(self.path):
            return
        if rule.pattern is None:
            yield _Match(-1, -1)
            return
        for match in rule.pattern.finditer(self.content):
            group = rule.secret_group or next((g for g in range(1, rule.pattern.groups + 1) if match.group(g)), 0)
            secret = (match.group(group) or b"").strip(b"\n").decode("utf-8", "replace")
            if rule.entropy_bits and measure_entropy_bits(secret) <= rule.entropy_bits:
                continue
            hit = Hit(secret, match.group().strip(b"\n").decode("utf-8", "replace"), self.cut_line(*match.span()))
            allowlists = (*self.rules.allowlists, *rule.allowlists)
            if not any(allowlist.allows_hit(hit, self.path, self.commit) for allowlist in allowlists):
                yield _Match(match.start(), max(match.start(group), match.start()))

    def keep_complete(self, rule: SecretRule, matches: list[_Match]) -> Iterator[_Match]:
        """Keep the matches that have every required rule near them."""
        others = {
            r.rule_id: self.locate(list(self.match_rule(self.rules.rules[self.rules.positions[r.rule_id]])))
            for r in rule.required
        }
        for match, place in zip(matches, self.locate(matches), strict=True):
            if all(_has_near(place, others[r.rule_id], r) for r in rule.required):
                yield match

    def locate(self, matches: Sequence[_Match]) -> list[tuple[int, int]]:
        """Tell line and column, in bytes, of matches in the order of the text, so that no line is counted twice."""
        places, line, position = [], 1, 0
        for match in matches:
            start = max(match.start, 0)
            line += self.content.count(b"\n", position, start)
            position = start
            places.append((line, start - (self.content.rfind(b"\n", 0, start) + 1)))
        return places

    def cut_line(self, start: int, end: int) -> str:
        """Cut out the lines that a match stands in, so far as an allowlist looks."""
        while end > start and self.content[end - 1 : end] == b"\n":
            end -= 1
        first = self.content.rfind(b"\n", max(start - LINE_REACH_BYTES, 0), start) + 1
        last = self.content.find(b"\n", end, end + LINE_REACH_BYTES)
        line = self.content[max(first, start - LINE_REACH_BYTES, 0) : last if last >= 0 else end + LINE_REACH_BYTES]
        return line.decode("utf-8", "replace")


def _has_near(place: tuple[int, int], others: Sequence[tuple[int, int]], required: Required) -> bool:
    """Say whether one of the other places, in their order, is as near as required."""
    (line, column), within = place, required.within_columns
    start, end = 0, len(others)
    if required.within_lines is not None:
        start = bisect_left(others, (line - required.within_lines, -1))
        end = bisect_left(others, (line + required.within_lines + 1, -1))
    if within is None or start == end:
        return start < end
    while start < end:  # from line to line: there may be very many on each
        other_line = others[start][0]
        start = bisect_left(others, (other_line, column - within), start, end)
        if start < end and others[start][0] == other_line and others[start][1] <= column + within:
            return True
        start = bisect_left(others, (other_line + 1, -1), start, end)
    return False


def measure_entropy_bits(text: str) -> float:
    """Measure Shannon's entropy per character.

    >>> measure_entropy_bits("aaaa"), measure_entropy_bits("abcd")
    (0.0, 2.0)
    """
    counts = Counter(text).values()
    return sum(-n / len(text) * math.log2(n / len(text)) for n in counts) + 0.0
