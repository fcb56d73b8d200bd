r"""Takes Markdown apart as far as code is concerned: its fenced blocks, and where an unfinished text may be cut.

**In**: Markdown, whole or still being written.
**Out**: its lines, each with its place; its fenced blocks; the part that no further text will change.
**Not**: Markdown's other constructs: `rich` and the page render them.

A fence is three or more back ticks or tildes, closed by at least as many and nothing else (CommonMark 0.31, section
4.5). It may be as deep as it likes, since it may belong to a list; its block loses the depth of its opening.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
# Nothing is given back that was matched: a line of a megabyte would take hours.
_OPEN = re.compile(r"(?P<indent>[ \t]*+)(?P<mark>`{3,}+|~{3,}+)[ \t]*+(?P<language>[^\s`]*+)[^`\n]*+\Z")
# What is deeper than its opening by more stands in the block.
_MAX_DEEPER = 3


class Place(StrEnum):
    """Where a line stands."""

    TEXT = "text"
    OPENING = "opening"
    CODE = "code"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it is `written`, its end included; `text` is without the depth of the fence that it stands in.

    `language` is what an opening names.
    """

    place: Place
    written: str
    language: str = ""
    depth: int = 0

    @property
    def text(self) -> str:
        """What a block holds of it."""
        return self.written[self.depth :]


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: the language that its opening names, in lower case, and what stands in it."""

    language: str
    code: str
    is_closed: bool = True


def read_lines(markdown: str) -> Iterator[Line]:
    r"""Read line by line, each with its place.

    >>> [str(line.place) for line in read_lines("So:\n```py\nx = 1\n```\n")]
    ['text', 'opening', 'code', 'closing']
    """
    opened: re.Match[str] | None = None
    for written in _LINE.findall(markdown):
        bare = written.rstrip("\r\n")
        if opened is None:
            opened = _OPEN.match(bare)
            if opened is None:
                yield Line(Place.TEXT, written)
            else:
                yield Line(Place.OPENING, written, opened["language"].lower())
        elif _closes(bare, opened):
            opened = None
            yield Line(Place.CLOSING, written)
        else:
            blanks = len(written) - len(written.lstrip(" \t"))
            yield Line(Place.CODE, written, depth=min(len(opened["indent"]), blanks))


def _closes(line: str, opened: re.Match[str]) -> bool:
    stripped, mark = line.strip(), opened["mark"]
    depth = len(line) - len(line.lstrip())
    is_fence = len(stripped) >= len(mark) and not stripped.strip(mark[0])
    return is_fence and depth <= len(opened["indent"]) + _MAX_DEEPER


def find_fences(markdown: str) -> list[Fence]:
    r"""Find all fenced blocks in order; one that is not closed ends with the text.

    >>> find_fences("So:\n```py\nx = 1\n```\nand\n  ~~~\n  y")
    [Fence(language='py', code='x = 1\n', is_closed=True), Fence(language='', code='y', is_closed=False)]
    """
    found: list[Fence] = []
    language, code = "", list[str]()
    is_open = False
    for line in read_lines(markdown):
        if line.place is Place.OPENING:
            language, code, is_open = line.language, [], True
        elif line.place is Place.CODE:
            code.append(line.text)
        elif line.place is Place.CLOSING:
            found.append(Fence(language, "".join(code)))
            is_open = False
    return [*found, Fence(language, "".join(code), is_closed=False)] if is_open else found


def fence(text: str, language: str) -> str:
    """Put a text between fences that none in it ends.

    >>> print(fence("x = 1", "python"))
    ```python
    x = 1
    ```
    """
    marks = "`" * (max(map(len, re.findall(r"`{3,}", text)), default=2) + 1)
    return f"{marks}{language}\n{text}{'' if text.endswith(chr(10)) else chr(10)}{marks}"


def split_finished(markdown: str) -> tuple[str, str]:
    r"""Cut a text that is being written after its last finished part: a paragraph, or a closed block.

    >>> split_finished("One.\n\nTwo is not")
    ('One.\n\n', 'Two is not')
    >>> split_finished("```py\na = 1\n\nb = 2\n")
    ('', '```py\na = 1\n\nb = 2\n')
    """
    at, end = 0, 0
    for line in read_lines(markdown):
        at += len(line.written)
        is_end = line.place is Place.CLOSING or (line.place is Place.TEXT and not line.written.strip())
        if is_end and line.written.endswith("\n"):
            end = at
    return markdown[:end], markdown[end:]
