"""Reads what a person attaches to a message: a file or lines of it, or what changed in a repository.

**In**: a path with a span of lines; the name of a revision.
**Out**: text for the message, fenced, with its path.
**Not**: files that look like secrets: they are refused, as everywhere.
"""

import re
from pathlib import Path

import pygit2

from codegemma.errors import InputError
from codegemma.serve.secret_files import describe_secret, has_secret
from codegemma.text.cursor import read_text
from codegemma.text.languages import detect_language
from codegemma.text.markdown import fence

_SPAN = re.compile(r"(.+?):(\d+)(?:-(\d+))?")
_MAX_CHARS = 200_000


def attach_file(argument: str, folder: Path) -> str:
    """Quote a file, or the lines `PATH:FIRST-LAST` of one.

    Raises:
        InputError: no such file or lines, no text, too long, or a file that looks like a secret.
    """
    match = _SPAN.fullmatch(argument)
    has_span = match is not None and not (folder / argument).exists()
    name = match[1] if match is not None and has_span else argument
    text = read_text(folder / name)
    if (why := describe_secret(name, text)) is not None:
        raise InputError(f"{name} looks like a file of secrets ({why}); it is not shown to a model")
    if match is not None and has_span:
        lines = text.splitlines()
        first, last = int(match[2]), int(match[3] or match[2])
        if not 1 <= first <= last <= len(lines):
            raise InputError(f"{name} has {len(lines)} lines; wanted lines {first} to {last}")
        text, name = "\n".join(lines[first - 1 : last]), argument
    language = detect_language(name.partition(":")[0], text.partition("\n")[0])
    return quote(text, name, language.name if language else "")


def attach_diff(argument: str, folder: Path) -> str:
    """Quote what differs between a revision, HEAD by default, and the working tree.

    Raises:
        InputError: no repository, no such revision, or nothing that differs.
    """
    found = pygit2.discover_repository(str(folder))
    if found is None:
        raise InputError(f"{folder} is in no git repository; /diff shows what changed in one")
    repository, revision = pygit2.Repository(found), argument or "HEAD"
    try:
        difference = repository.diff(revision, flags=pygit2.enums.DiffOption.SHOW_BINARY)
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise InputError(f"{revision!r} names no revision of {folder} ({error})") from error
    patches = [patch for patch in difference if patch is not None]
    shown = [p.text or "" for p in patches if not has_secret(p.delta.new_file.path, p.text or "")]
    if not shown:
        hidden = " but files that look like secrets" if patches else ""
        raise InputError(f"nothing{hidden} differs from {revision}")
    return quote("".join(shown), f"changes since {revision}", "diff")


def quote(text: str, name: str, language: str) -> str:
    r"""Fence a text under its name, by a fence that is not in it.

    >>> print(quote("x = 1\n", "a.py", "python"))
    `a.py`:
    ```python
    x = 1
    ```

    Raises:
        InputError: too long to be read by anybody's model.
    """
    if len(text) > _MAX_CHARS:
        raise InputError(f"{name} has {len(text):,} characters; attach at most {_MAX_CHARS:,}, such as {name}:1-200")
    return f"`{name}`:\n{fence(text.rstrip(chr(10)), language)}"
