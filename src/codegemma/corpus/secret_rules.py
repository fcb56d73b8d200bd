"""Reads rules for secrets from any configuration of gitleaks 8, unchanged, and compiles them.

**In**: a TOML file, and those that it extends; without one, our own table, `secret_rules.toml`, in the same schema.
**Out**: `SecretRules`: compiled rules, an automaton of their keywords, and the digest that names them in a report.
**Not**: gitleaks' own table (`extend.useDefault`), addresses (`extend.url`), or rules of gitleaks before 8.

Patterns are in the syntax of RE2, which is that of Go: no pattern, however hostile, takes more than linear time.
Keys are compared without regard to case, as gitleaks does; a key that gitleaks does not know is refused.
"""

import functools
import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import ahocorasick_rs
import re2

from codegemma.corpus.secret_schema import RuleError, check_config, check_extend
from codegemma.errors import InputError

RULES_FILE = "secret_rules.toml"
# As in gitleaks: what the second file below the first extends is not read.
MAX_EXTEND_DEPTH = 2

Source = tuple[str, bytes]  # the name of a file and its content


class Target(StrEnum):
    """What the patterns of an allowlist are compared with."""

    SECRET = "secret"  # noqa: S105
    MATCH = "match"
    LINE = "line"


class Hit(NamedTuple):
    """A match of a rule, as allowlists see it."""

    secret: str
    match: str
    line: str


@dataclass(frozen=True, slots=True)
class Allowlist:
    """What looks like a secret and is none. `needs_all` asks that every kind of check given here agrees."""

    needs_all: bool = False
    target: Target = Target.SECRET
    commits: frozenset[str] = frozenset()
    paths: Any = None  # a pattern, as `regexes`
    regexes: Any = None
    stopwords: Any = None  # an automaton of lower-case words

    def allows_file(self, path: bytes, commit: str) -> bool:
        """Say whether a whole file is left alone, whatever stands in it."""
        if self.needs_all and (self.regexes or self.stopwords):
            return False
        return self._combine(self._judge_file(path, commit))

    def allows_hit(self, hit: Hit, path: bytes, commit: str) -> bool:
        """Say whether this hit is a placeholder, in this place."""
        checks = []
        if self.regexes:
            checks.append(
                bool(hit[_FIELDS[self.target]]) and self.regexes.search(hit[_FIELDS[self.target]]) is not None
            )
        if self.stopwords:
            checks.append(bool(self.stopwords.find_matches_as_indexes(hit.secret.lower())))
        if self.needs_all:
            checks += self._judge_file(path, commit)
        return self._combine(checks)

    def _judge_file(self, path: bytes, commit: str) -> list[bool]:
        checks = []
        if self.commits:
            checks.append(commit.lower() in self.commits)
        if self.paths:
            checks.append(bool(path) and self.paths.search(path) is not None)
        return checks

    def _combine(self, checks: Sequence[bool]) -> bool:
        return bool(checks) and (all(checks) if self.needs_all else any(checks))


_FIELDS = {Target.SECRET: 0, Target.MATCH: 1, Target.LINE: 2}  # where `Hit` keeps it


class Required(NamedTuple):
    """Another rule that must be found too, so many lines and columns away at most."""

    rule_id: str
    within_lines: int | None
    within_columns: int | None


@dataclass(frozen=True, slots=True)
class SecretRule:
    """One rule, compiled. `secret_group` 0 is the first group that matched, or the whole match where there is none."""

    rule_id: str
    description: str = ""
    pattern: Any = None
    path: Any = None
    secret_group: int = 0
    entropy_bits: float = 0.0
    keywords: tuple[str, ...] = ()
    allowlists: tuple[Allowlist, ...] = ()
    required: tuple[Required, ...] = ()
    is_reported: bool = True


@dataclass(frozen=True, slots=True)
class SecretRules:
    """A whole table, ready to be used. `origin` is the file's name, or `None` for our own table."""

    rules: tuple[SecretRule, ...]
    allowlists: tuple[Allowlist, ...]
    origin: str | None
    digest: str
    positions: Mapping[str, int] = field(repr=False)  # rule identifier -> index
    _keywords: Any = field(repr=False)
    _by_keyword: tuple[tuple[int, ...], ...] = field(repr=False)
    _always: frozenset[int] = field(repr=False)

    def select(self, text: str, content: bytes) -> list[int]:
        """Select the rules that have a keyword in a text, or that have none at all; `content` is the text in UTF-8."""
        lowered = content.lower() if text.isascii() else text.lower().encode("utf-8", "surrogatepass")
        found = {match[0] for match in self._keywords.find_matches_as_indexes(lowered, overlapping=True)}
        return sorted(self._always.union(*(self._by_keyword[keyword] for keyword in found)))

    def describe(self) -> str:
        """Say in a report which rules were used."""
        whose = "our own table" if self.origin is None else self.origin
        return f"secret rules: {whose}, {len(self.rules)} rules, digest {self.digest}"


def load_secret_rules(path: str | None = None) -> SecretRules:
    """Read and compile a file of rules, or our own table. A file with the same content is compiled once.

    >>> load_secret_rules().describe().startswith("secret rules: our own table, ")
    True

    Raises:
        InputError: it cannot be read, or something in it is wrong: file, rule and reason are named.
    """
    if path is None:
        return _load_own()
    return _compile(tuple(_read_chain(Path(path))), Path(path).name)


@functools.cache
def _load_own() -> SecretRules:
    content = resources.files("codegemma.corpus").joinpath(RULES_FILE).read_bytes()
    return _compile(((RULES_FILE, content),), None)


def _read_chain(path: Path) -> Iterable[Source]:
    """Read a file and what it extends, the nearest first."""
    for _ in range(1 + MAX_EXTEND_DEPTH):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: the secret rules cannot be read ({error.strerror})") from error
        yield str(path), content
        try:
            wanted = check_extend(_parse(content))["path"]
        except RuleError as error:
            raise InputError(f"{path}: {error}") from None
        if wanted is None:
            return
        # gitleaks looks in the working folder; a file beside this one is what is meant more often.
        beside = path.parent / wanted
        path = beside if beside.exists() else Path(wanted)


@functools.lru_cache(maxsize=8)
def _compile(sources: tuple[Source, ...], origin: str | None) -> SecretRules:
    rules: dict[str, SecretRule] = {}
    allowlists: list[Allowlist] = []
    targeted: list[tuple[str, str, Allowlist]] = []
    for name, content in reversed(sources):
        try:
            config = check_config(_parse(content))
            own = {row["id"]: _compile_rule(row) for row in config["rules"]}
            disabled = set(config["extend"]["disabledrules"])
            kept = {key: rule for key, rule in rules.items() if key not in disabled}
            rules = {**kept, **{key: _extend_rule(kept.get(key), rule) for key, rule in own.items()}}
            for row in config["allowlists"]:
                allowlist = _compile_allowlist(row, "allowlists")
                targeted += [(name, rule_id, allowlist) for rule_id in row["targetrules"]]
                if not row["targetrules"]:
                    allowlists.append(allowlist)
        except RuleError as error:
            raise InputError(f"{name}: {error}") from None
    for name, rule_id, allowlist in targeted:
        if rule_id not in rules:
            raise InputError(f"{name}: allowlists: target rule {rule_id!r} does not exist")
        rules[rule_id] = replace(rules[rule_id], allowlists=(*rules[rule_id].allowlists, allowlist))
    _check_rules(rules, sources[0][0])
    digest = hashlib.sha256(b"\0".join(content for _, content in sources)).hexdigest()[:16]
    return _index(tuple(rules.values()), tuple(allowlists), origin, digest)


def _index(
    rules: tuple[SecretRule, ...], allowlists: tuple[Allowlist, ...], origin: str | None, digest: str
) -> SecretRules:
    indices: dict[str, list[int]] = {}
    for index, rule in enumerate(rules):
        for keyword in rule.keywords:
            indices.setdefault(keyword, []).append(index)
    patterns = [keyword.encode("utf-8", "surrogatepass") for keyword in indices]
    automaton = ahocorasick_rs.BytesAhoCorasick(patterns, implementation=ahocorasick_rs.Implementation.DFA)
    return SecretRules(
        rules,
        allowlists,
        origin,
        digest,
        {rule.rule_id: index for index, rule in enumerate(rules)},
        automaton,
        tuple(tuple(values) for values in indices.values()),
        frozenset(index for index, rule in enumerate(rules) if not rule.keywords),
    )


def _extend_rule(base: SecretRule | None, rule: SecretRule) -> SecretRule:
    """Lay a rule over the one that it extends: what it states wins, lists are joined."""
    if base is None:
        return rule
    return replace(
        base,
        description=rule.description or base.description,
        entropy_bits=rule.entropy_bits or base.entropy_bits,
        secret_group=rule.secret_group or base.secret_group,
        pattern=rule.pattern or base.pattern,
        path=rule.path or base.path,
        keywords=(*base.keywords, *rule.keywords),
        allowlists=(*base.allowlists, *rule.allowlists),
    )


def _check_rules(rules: Mapping[str, SecretRule], name: str) -> None:
    for rule in rules.values():
        if rule.pattern is None and rule.path is None:
            raise InputError(f"{name}: rule {rule.rule_id!r} has neither regex nor path: it could find nothing")
        if rule.pattern is not None and rule.secret_group > rule.pattern.groups:
            came, most = rule.secret_group, rule.pattern.groups
            raise InputError(f"{name}: rule {rule.rule_id!r}: secretGroup {came}, but its regex has {most} groups")
        for required in rule.required:
            if required.rule_id not in rules:
                raise InputError(f"{name}: rule {rule.rule_id!r} requires {required.rule_id!r}, which does not exist")


def _compile_rule(row: Mapping[str, Any]) -> SecretRule:
    where = f"rule {row['id']!r}"
    return SecretRule(
        rule_id=row["id"],
        description=row["description"],
        pattern=_compile_pattern(row["regex"], where, "regex") if row["regex"] else None,
        path=_compile_pattern(row["path"], where, "path") if row["path"] else None,
        secret_group=row["secretgroup"],
        entropy_bits=row["entropy"],
        keywords=tuple(keyword.lower() for keyword in row["keywords"] if keyword),
        allowlists=tuple(_compile_allowlist(part, where) for part in row["allowlists"]),
        required=tuple(Required(part["id"], part["withinlines"], part["withincolumns"]) for part in row["required"]),
        is_reported=not row["skipreport"],
    )


def _compile_allowlist(row: Mapping[str, Any], where: str) -> Allowlist:
    stopwords = sorted({word.lower() for word in row["stopwords"] if word})
    return Allowlist(
        needs_all=row["condition"] in ("AND", "&&"),
        target=Target(row["regextarget"] or Target.SECRET),
        commits=frozenset(commit.strip().lower() for commit in row["commits"]),
        paths=_join_patterns(row["paths"], where, "allowlist path"),
        regexes=_join_patterns(row["regexes"], where, "allowlist regex"),
        stopwords=ahocorasick_rs.AhoCorasick(stopwords) if stopwords else None,
    )


def _join_patterns(patterns: Sequence[str], where: str, what: str) -> Any:
    for pattern in patterns:
        _compile_pattern(pattern, where, what)
    return _compile_pattern("|".join(f"(?:{pattern})" for pattern in patterns), where, what) if patterns else None


def _compile_pattern(pattern: str, where: str, what: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else error
        raise RuleError(f"{where}: {what} {pattern[:80]!r} is no RE2 pattern: {reason}") from None


def _parse(content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleError(f"no TOML: {error}") from error
