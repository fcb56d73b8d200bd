"""Refuses messages that quote a file which looks like a secret, whoever sent them: the page, VS Code, any other client.

**In**: a client's messages.
**Out**: nothing, or an error that names the file and by what it looks like a secret.
**Not**: what a person types in plain words: only what is fenced was put in from elsewhere, and of what a model said
nothing is looked at.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from codegemma.errors import InputError
from codegemma.serve.secret_files import describe_secret, has_secret_name

# As the terminal, the page and VS Code quote a file: its name on a line of its own, then a fence. Others write the name
# behind the fence's language, and a fence that nothing closes reaches to the end.
_BLOCK = re.compile(
    r"(?:^`(?P<name>[^`\n]+)`:?[ \t]*\n(?:[ \t]*\n)?)?^[ \t]*(?P<fence>`{3,}|~{3,})(?P<words>[^\n]*)(?:\n|\Z)"
    r"(?P<text>[^\0]*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.MULTILINE,
)
# No conversation has so many, and to look through more would hold up everybody else.
_MAX_BLOCKS = 2_000
_NAMING_CHARS = 300
_SPAN = re.compile(r":\d+(?:-\d+)?$")


class Quoted(NamedTuple):
    """A fenced block of a message: what it may be called, and its text."""

    names: tuple[str, ...]
    text: str


def find_quoted(message: str) -> Iterator[Quoted]:
    """Find the fenced blocks of a message.

    >>> list(find_quoted("Why?\\n\\n`a.py:2-3`:\\n```python\\nx = 1\\n```\\nand ``` b"))
    [Quoted(names=('a.py', 'python'), text='x = 1\\n')]
    """
    for block in _BLOCK.finditer(message.replace("\0", "\ufffd").replace("\r\n", "\n")):
        named = (_SPAN.sub("", block["name"][:_NAMING_CHARS]),) if block["name"] else ()
        yield Quoted((*named, *block["words"][:_NAMING_CHARS].split()), block["text"])


def refuse_secrets(messages: Sequence[Mapping[str, Any]], read: Any) -> None:
    """Let messages through, or say which file in them looks like a secret; `read` takes a message's text.

    Raises:
        InputError: one does, or there is more than is looked through.
    """
    said = (read(message) for message in messages if message["role"] not in ("assistant", "model"))
    for number, quoted in enumerate(block for text in said for block in find_quoted(text)):
        if number >= _MAX_BLOCKS:
            raise InputError(
                f"the messages quote over {_MAX_BLOCKS:,} blocks, which are not looked through; quote fewer"
            )
        refuse_secret(quoted.names, quoted.text)


def refuse_secret(names: Sequence[str], text: str) -> None:
    """Refuse one text by what it is called or by what is in it.

    Raises:
        InputError: it looks like a secret.
    """
    called = next((name for name in names if has_secret_name(name)), names[0] if names else "what is quoted")
    if (why := describe_secret(called, text)) is not None:
        raise InputError(f"{called[:80]} looks like a file of secrets ({why}): no model is shown it; leave it out")
