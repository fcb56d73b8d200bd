"""Parses TOML that somebody else wrote: the manifest of a repository.

**In**: text.
**Out**: its tables; none where it is broken, or made to take hours.
**Not**: an operator's own file, whose faults are told (`corpus/secret_rules.py`).
"""

import tomllib
from typing import Any

# `tomllib` takes the square of a key's parts; what a person writes has five.
MAX_LINE_POINTS = 500


def read_toml(text: str) -> dict[str, Any]:
    """Read a manifest; one that is broken says nothing.

    >>> read_toml("a.b = 1"), read_toml("a b"), read_toml("a = " + "1" * 5000)
    ({'a': {'b': 1}}, {}, {})
    """
    if any(line.count(".") > MAX_LINE_POINTS for line in text.split("\n")):
        return {}
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):  # not only that it is no TOML: a number may have too many digits
        return {}
