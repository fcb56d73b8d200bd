"""Takes a Markdown answer apart: its fenced blocks, and where an unfinished text may be cut.

**In**: Markdown, whole or still being written.
**Out**: its fenced blocks; the part that no further text will change.
**Not**: Markdown's other constructs: `rich` and the page render them.
"""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*$")
# What a terminal would obey rather than show: control characters but line ends and tabs, C1's among them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the language that its fence names, and its text."""

    language: str
    code: str


def strip_controls(text: str) -> str:
    r"""Take out what a terminal would obey: a model's words may not move the cursor or set its title.

    >>> strip_controls("a\x1b[2Jb\tc\r\n")
    'a[2Jb\tc\n'
    """
    return _CONTROLS.sub("", text)


def list_blocks(markdown: str) -> list[Block]:
    r"""List the fenced blocks of a text; one that is not closed yet is left out.

    >>> list_blocks("So:\n```python\nx = 1\n```\nand\n```\ny")
    [Block(language='python', code='x = 1\n')]
    """
    blocks, fence, language, lines = [], "", "", list[str]()
    for line in markdown.splitlines():
        if not fence:
            if match := _FENCE.match(line):
                fence, language, lines = match[1], match[2].lower(), []
        elif is_closing(line, fence):
            blocks.append(Block(language, "".join(f"{each}\n" for each in lines)))
            fence = ""
        else:
            lines.append(line)
    return blocks


def is_closing(line: str, fence: str) -> bool:
    """Tell whether a line closes a block: the same sign, at least as often, and nothing else.

    >>> is_closing("````", "```"), is_closing("``` python", "```")
    (True, False)
    """
    stripped = line.strip()
    return len(stripped) >= len(fence) and not stripped.strip(fence[0])


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
    at, end, fence = 0, 0, ""
    for line in markdown.splitlines(keepends=True):
        at += len(line)
        if not line.endswith("\n"):
            break
        if fence:
            if is_closing(line, fence):
                fence, end = "", at
        elif match := _FENCE.match(line.rstrip("\n")):
            fence = match[1]
        elif not line.strip():
            end = at
    return markdown[:end], markdown[end:]
