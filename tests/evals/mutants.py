"""Small changes to true programs: most are wrong, some are not, some never end."""

import random
import re

_CHANGES = (
    (r"==", "!="),
    (r"<=", "<"),
    (r">=", ">"),
    (r"<(?![=<])", "<="),
    (r"(?<![->])>(?![=>])", ">="),
    (r"\+(?!=)", "-"),
    (r"(?<!\*)\*(?!\*)", "+"),
    (r"\b0\b", "1"),
    (r"\b1\b", "2"),
    (r"\bTrue\b", "False"),
    (r"\band\b", "or"),
    (r"\bnot\b", ""),
    (r"\bmin\b", "max"),
    (r"\[::-1\]", "[::1]"),
    (r"return ", "return not "),
    (r"return ", "return str("),
    (r"\bin\b", "not in"),
)


def mutate(source: str, count: int, rng: random.Random) -> list[str]:
    """Make `count` variants of a program, each with one place changed; without such a place, its first half."""
    places = [(m.span(), new) for old, new in _CHANGES for m in re.finditer(old, source)]
    chosen = rng.sample(places, min(count, len(places)))
    variants = [source[:start] + new + source[end:] for (start, end), new in chosen]
    return variants or [source[: len(source) // 2]]
