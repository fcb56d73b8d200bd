r"""How models spell an infill prompt in text: each family's sentinels, as data.

**In**: text around a cursor, for a model of another family behind another server.
**Out**: `DIALECTS`, by which such prompts are spelled here and recognised in `serve/dialects.py`.
**Not**: our own models' prompts: those are ids (`infill_format.py`), in which no text becomes a sentinel.
"""

from collections.abc import Sequence
from typing import NamedTuple

from codegemma.errors import InputError
from codegemma.records import Neighbor


class Dialect(NamedTuple):
    """Sentinels before the prefix, before the suffix and before the middle; some have no end.

    `separator` stands between files, `has_spaces` is for templates that put a space around each sentinel; `starts` may
    begin a prompt; `stops` are what a model writes behind its middle.
    """

    name: str
    prefix: str
    suffix: str
    middle: str
    separator: str = ""
    repo: str = ""
    has_spaces: bool = False
    starts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()


DIALECTS = (
    Dialect(
        "codegemma", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>", starts=("<bos>",)
    ),
    Dialect(
        "qwen", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>", "<|repo_name|>",
        stops=("<|endoftext|>", "<|fim_pad|>"),
    ),
    Dialect(
        "starcoder", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>", "<repo_name>",
        starts=("<|endoftext|>",), stops=("<|endoftext|>",),
    ),
    Dialect("starcoder", "<fim-prefix>", "<fim-suffix>", "<fim-middle>", "<filename>", "<reponame>"),
    Dialect(
        "deepseek", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>",
        starts=("<｜begin▁of▁sentence｜>",), stops=("<｜end▁of▁sentence｜>",),
    ),
    Dialect("codellama", "<PRE>", "<SUF>", "<MID>", has_spaces=True, starts=("<s>",), stops=("<EOT>",)),
    Dialect(
        "granite", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|filename|>", "<|reponame|>",
        stops=("<|end_of_text|>",),
    ),
    Dialect("codestral", "[PREFIX]", "[SUFFIX]", "", starts=("<s>",)),
    Dialect("tabby", "", "<|FIM|>", ""),
)  # fmt: skip


def find_dialect(name: str) -> Dialect:
    """Find a family's spelling, the newest where it had several.

    Raises:
        InputError: unknown; the message lists the known ones.
    """
    known = {dialect.name: dialect for dialect in reversed(DIALECTS) if dialect.middle}
    if name not in known:
        raise InputError(f"unknown template {name!r}; known: {', '.join(sorted(known))}")
    return known[name]


def spell_infill(
    dialect: Dialect, prefix: str, suffix: str, path: str | None = None, neighbors: Sequence[Neighbor] = ()
) -> str:
    r"""Spell a prompt, prefix first. Other files come first where the family has a separator for them.

    >>> spell_infill(find_dialect("codellama"), "x = ", "\n")
    '<PRE> x =  <SUF>\n <MID>'
    >>> spell_infill(find_dialect("qwen"), "x = ", "\n", "b.py", [Neighbor("a.py", "y = 1")])
    '<|file_sep|>a.py\ny = 1<|file_sep|>b.py\n<|fim_prefix|>x = <|fim_suffix|>\n<|fim_middle|>'
    """
    if dialect.has_spaces:
        return f"{dialect.prefix} {prefix} {dialect.suffix}{suffix} {dialect.middle}"
    head = ""
    if dialect.name == "codegemma":
        head = "".join(f"{n.path}\n{n.text}{dialect.separator}" for n in neighbors) + (f"{path}\n" if path else "")
    elif dialect.separator and neighbors:
        head = "".join(f"{dialect.separator}{n.path}\n{n.text}" for n in neighbors)
        head += f"{dialect.separator}{path}\n" if path else dialect.separator
    return f"{head}{dialect.prefix}{prefix}{dialect.suffix}{suffix}{dialect.middle}"


def list_stops(dialect: Dialect) -> list[str]:
    """List what ends a middle, should the server let it through as text."""
    marks = (dialect.prefix, dialect.suffix, dialect.middle, dialect.separator, *dialect.stops)
    return [mark for mark in marks if mark]
