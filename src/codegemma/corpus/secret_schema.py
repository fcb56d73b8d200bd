"""Checks a gitleaks configuration key by key and gives every value its one form.

**In**: a parsed TOML table.
**Out**: the same in plain data: keys in lower case, every known key present, lists where gitleaks takes a word too.
**Not**: patterns; compiling them is `secret_rules.py`'s.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any


class RuleError(Exception):
    """What is wrong, and in which rule; the caller knows the file."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _texts(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ValueError("a list of texts")
    return list(values)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number, at least 0")
    return value


def _number(value: Any) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not number >= 0:
        raise ValueError("a number, at least 0")
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table")
    return value


def _tables(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("a list of tables")
    return value


def _one_of(*known: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        for option in (value, value.upper()) if isinstance(value, str) else ():
            if option in known:
                return str(option)
        raise ValueError(f"one of {', '.join(repr(option) for option in known if option)}")

    return check


# Key in lower case -> how it is spelled, how it is checked, and what it is where nobody says.
Schema = Mapping[str, tuple[str, Callable[[Any], Any], Any]]
CONFIG: Schema = {
    "title": ("title", _text, ""),
    "description": ("description", _text, ""),
    "minversion": ("minVersion", _text, ""),
    "extend": ("extend", _table, {}),
    "rules": ("rules", _tables, []),
    "allowlist": ("allowlist", _table, None),
    "allowlists": ("allowlists", _tables, []),
}
EXTEND: Schema = {
    "path": ("path", _text, None),
    "url": ("url", _text, None),
    "usedefault": ("useDefault", _flag, False),
    "disabledrules": ("disabledRules", _texts, []),
}
RULE: Schema = {
    "id": ("id", _text, ""),
    "description": ("description", _text, ""),
    "path": ("path", _text, ""),
    "regex": ("regex", _text, ""),
    "secretgroup": ("secretGroup", _whole, 0),
    "entropy": ("entropy", _number, 0.0),
    "keywords": ("keywords", _texts, []),
    "tags": ("tags", _texts, []),
    "allowlist": ("allowlist", _table, None),
    "allowlists": ("allowlists", _tables, []),
    "required": ("required", _tables, []),
    "skipreport": ("skipReport", _flag, False),
}
ALLOWLIST: Schema = {
    "description": ("description", _text, ""),
    "condition": ("condition", _one_of("", "AND", "OR", "&&", "||"), ""),
    "commits": ("commits", _texts, []),
    "paths": ("paths", _texts, []),
    "regextarget": ("regexTarget", _one_of("", "secret", "match", "line"), ""),
    "regexes": ("regexes", _texts, []),
    "stopwords": ("stopwords", _texts, []),
}
SHARED_ALLOWLIST: Schema = {**ALLOWLIST, "targetrules": ("targetRules", _texts, [])}
REQUIRED: Schema = {
    "id": ("id", _text, ""),
    "withinlines": ("withinLines", _whole, None),
    "withincolumns": ("withinColumns", _whole, None),
}


def check_config(table: Mapping[str, Any]) -> dict[str, Any]:
    """Check a whole configuration; `allowlists` holds the older `allowlist` too.

    >>> check_config({"rules": [{"id": "a", "regex": "x", "keywords": "X"}]})["rules"][0]["keywords"]
    ['X']

    Raises:
        RuleError: an unknown key or a value of the wrong kind, and in which rule.
    """
    config = _check(table, CONFIG, "the configuration")
    config["extend"] = check_extend(table)
    config["allowlists"] = _check_allowlists(config, SHARED_ALLOWLIST, "the configuration")
    config["rules"] = [_check_rule(row, number) for number, row in enumerate(config["rules"], start=1)]
    return config


def check_extend(table: Mapping[str, Any]) -> dict[str, Any]:
    """Check what a configuration extends.

    >>> check_extend({"extend": {"path": "base.toml"}})["path"]
    'base.toml'
    """
    extend = _check(_check(table, CONFIG, "the configuration")["extend"], EXTEND, "extend")
    if extend["usedefault"]:
        raise RuleError(
            "extend.useDefault asks for gitleaks' own table, which is not shipped here; save a copy of it "
            'and name that file: extend.path = "gitleaks.toml"'
        )
    if extend["url"]:
        raise RuleError("extend.url is not followed: a build asks no network; save the file and name it by extend.path")
    return extend


def _check_rule(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    name = next((value for key, value in row.items() if key.lower() == "id"), None)
    where = f"rule {name!r}" if name else f"rule number {number}"
    rule = _check(row, RULE, where)
    if not rule["id"].strip():
        raise RuleError(f"{where} has no id")
    rule["allowlists"] = _check_allowlists(rule, ALLOWLIST, where)
    rule["required"] = [_check(part, REQUIRED, f"{where}: required") for part in rule["required"]]
    return rule


def _check_allowlists(holder: Mapping[str, Any], schema: Schema, where: str) -> list[dict[str, Any]]:
    if holder["allowlist"] is not None and holder["allowlists"]:
        raise RuleError(f"{where}: [allowlist] is the older form of [[allowlists]]; both at once say too much")
    rows = holder["allowlists"] if holder["allowlist"] is None else [holder["allowlist"]]
    checked = [_check(row, schema, f"{where}: allowlist") for row in rows]
    for row in checked:
        if not any(row[key] for key in ("commits", "paths", "regexes", "stopwords")):
            raise RuleError(f"{where}: an allowlist needs one of commits, paths, regexes, stopwords")
    return checked


def _check(row: Mapping[str, Any], schema: Schema, where: str) -> dict[str, Any]:
    values = {key: default for key, (_, _, default) in schema.items()}
    for key, value in row.items():
        if key.lower() not in schema:
            known = [spelled for spelled, _, _ in schema.values()]
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise RuleError(f"{where}: unknown key {key!r}; {hint}known: {', '.join(known)}")
        spelled, check, _ = schema[key.lower()]
        try:
            values[key.lower()] = check(value)
        except ValueError as error:
            raise RuleError(f"{where}: {spelled} = {str(value)[:80]!r}; wanted {error}") from error
    return values
