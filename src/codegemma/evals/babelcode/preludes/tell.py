"""Tells values to whoever runs this program: a line for each, marked with a word that is read at the start."""

import sys
from typing import Any

_mark: list[str] = []


def open() -> None:
    """Read the word."""
    _mark.append(sys.stdin.readline().strip())


def value(index: int, value: Any) -> None:
    """Tell one value."""
    sys.stdout.write(f"\n{_mark[0]} {index} {_spell(value)}\n")
    sys.stdout.flush()


def _spell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return f'["f","{float(value)!r}"]'
    if isinstance(value, str):
        return f'["x","{value.encode("utf-8", "surrogatepass").hex()}"]'
    if isinstance(value, dict):
        return f'["m",[{",".join(f"[{_spell(k)},{_spell(v)}]" for k, v in value.items())}]]'
    for kind, tag in ((list, "l"), (tuple, "t"), ((set, frozenset), "s")):
        if isinstance(value, kind):
            return f'["{tag}",[{",".join(map(_spell, value))}]]'
    return '["o"]'
