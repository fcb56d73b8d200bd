"""Recognises infill prompts that plugins spell for this and for other models, so that they can be spelled anew as ours.

**In**: the whole prompt that a client made by a template.
**Out**: `Infill`: prefix, suffix, path and other files as they were before the template; or nothing.
**Not**: guesses: a prompt counts only where each sentinel of one dialect stands once, in an order of that dialect. Code
that merely talks about sentinels has them in no such order, or more than once, and stays text.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from codegemma.records import Neighbor
from codegemma.text.dialects import DIALECTS, Dialect


class Infill(NamedTuple):
    """What a template was filled with."""

    dialect: str
    prefix: str
    suffix: str
    path: str | None = None
    context: tuple[Neighbor, ...] = ()


# A path line before the current file, in the layout of this model's training.
_PATH_LINE = re.compile(r"[^\n\0]{1,300}\n\Z")


def read_dialect(prompt: str) -> Infill | None:
    r"""Take a prompt apart, if it is one of a known dialect.

    >>> read_dialect("<PRE> def f(x): <SUF>\n <MID>")
    Infill(dialect='codellama', prefix='def f(x):', suffix='\n', path=None, context=())
    >>> read_dialect("a.py\n<|fim_prefix|>x = <|fim_suffix|>\n<|fim_middle|>")
    Infill(dialect='codegemma', prefix='x = ', suffix='\n', path='a.py', context=())
    >>> read_dialect("print('<|fim_middle|>')") is None
    True
    """
    for dialect in DIALECTS:
        parts = _split(prompt, dialect)
        if parts is not None:
            return parts
    return None


def _split(prompt: str, dialect: Dialect) -> Infill | None:
    marks = [mark for mark in (dialect.prefix, dialect.suffix, dialect.middle) if mark]
    if any(prompt.count(mark) != 1 for mark in marks):
        return None
    for start in dialect.starts:
        prompt = prompt.removeprefix(start)
    if dialect.separator and not _has_own_separator(prompt, dialect):
        return None
    at = {mark: prompt.index(mark) for mark in marks}
    if dialect.middle and prompt.rstrip("\n")[at[dialect.middle] :].strip() not in (dialect.middle, ""):
        return _split_suffix_first(prompt, dialect, at)
    body = prompt[: at[dialect.middle]] if dialect.middle else prompt
    pre = at.get(dialect.prefix, -1)
    if at[dialect.suffix] < pre:
        head, suffix, prefix = body[: at[dialect.suffix]], body[at[dialect.suffix] : pre], body[pre:]
    else:
        head = body[: max(pre, 0)]
        prefix, suffix = body[max(pre, 0) : at[dialect.suffix]], body[at[dialect.suffix] :]
    return _make(dialect, head, prefix, suffix)


def _split_suffix_first(prompt: str, dialect: Dialect, at: dict[str, int]) -> Infill | None:
    """`<pre><suf>SUFFIX<mid>PREFIX`: the prefix stands behind the last sentinel."""
    if prompt[at[dialect.prefix] + len(dialect.prefix) : at[dialect.suffix]].strip():
        return None
    if not at[dialect.prefix] < at[dialect.suffix] < at[dialect.middle]:
        return None
    prefix = prompt[at[dialect.middle] + len(dialect.middle) :]
    suffix = prompt[at[dialect.suffix] : at[dialect.middle]]
    return _make(dialect, prompt[: at[dialect.prefix]], dialect.prefix + prefix, suffix)


def _has_own_separator(prompt: str, dialect: Dialect) -> bool:
    """Dialects with the same sentinels are told apart by the other signs that they use."""
    others = {d.separator for d in DIALECTS if d.prefix == dialect.prefix} - {dialect.separator, ""}
    others |= {d.repo for d in DIALECTS if d.prefix == dialect.prefix} - {dialect.repo, ""}
    return not any(other in prompt for other in others)


def _make(dialect: Dialect, head: str, prefix: str, suffix: str) -> Infill | None:
    prefix = prefix.removeprefix(dialect.prefix)
    suffix = suffix.removeprefix(dialect.suffix)
    if dialect.has_spaces:
        prefix, suffix = prefix.removeprefix(" ").removesuffix(" "), suffix.removesuffix(" ")
    files, rest = _read_files(head, dialect)
    path = rest.removesuffix("\n") if _PATH_LINE.fullmatch(rest) else None
    if path is None and rest.strip():
        files = (*files, Neighbor("", rest))  # what a plugin put before the sentinels
    return Infill(dialect.name, prefix, suffix, path, tuple(files))


def _read_files(head: str, dialect: Dialect) -> tuple[tuple[Neighbor, ...], str]:
    """Read other files before the current one: `path⏎ text` each, with separators between or before them."""
    if dialect.repo and dialect.repo in head:
        _, _, named = head.partition(dialect.repo)
        head = (
            named.partition("\n")[2]
            if dialect.separator not in named
            else dialect.separator + named.partition(dialect.separator)[2]
        )
    if not dialect.separator or dialect.separator not in head:
        return (), head
    *others, last = _divide(head, dialect.separator)
    neighbors = []
    for other in others:
        path, line_break, body = other.partition("\n")
        neighbors.append(Neighbor(path.strip(), body) if line_break else Neighbor("", other))
    return tuple(n for n in neighbors if n.text.strip()), last


def _divide(head: str, separator: str) -> Sequence[str]:
    parts = head.split(separator)
    return parts[1:] if not parts[0].strip() else parts
