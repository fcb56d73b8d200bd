"""Where a cursor is: `FILE:LINE:COLUMN` to the text before and after it.

**In**: what a user types or an editor shows: lines and columns count from 1, columns in characters.
**Out**: `Cursor`: prefix, suffix, and the file's path as training spelled it, relative to its repository.
**Not**: which other files to show the model.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from codegemma.errors import InputError

# What editors take for the end of a line.
_LINE_END = re.compile(r"\r\n|\n|\r")
# Far above any source file; what is larger is a mistake, and would be read whole.
_MAX_FILE_BYTES = 20_000_000
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a file: `prefix + suffix` is its text, line ends kept."""

    file: Path
    path: str
    prefix: str
    suffix: str


def read_cursor(place: str) -> Cursor:
    """Read the file of a `FILE:LINE:COLUMN` and cut it there.

    Raises:
        InputError: not of that form, a file that cannot be read as text, or a place outside it; the message says what
            is allowed.
    """
    name, line, column = _split_place(place)
    file = Path(name)
    text = read_text(file)
    offset = find_offset(text, line, column, name)
    return Cursor(file, spell_path(file), text[:offset], text[offset:])


def find_offset(text: str, line: int, column: int, name: str = "the text") -> int:
    """Find the character offset of a line and column, both from 1; the column after a line's last character counts.

    >>> find_offset("ab\\r\\ncd\\n", 2, 3)
    6
    >>> find_offset("ab\\n", 3, 1)
    Traceback (most recent call last):
    ...
    codegemma.errors.InputError: line 3 is past the end: the text has 2 lines

    Raises:
        InputError: outside the text.
    """
    if line < 1 or column < 1:
        raise InputError(f"line {line}, column {column}: both count from 1")
    starts, ends = [0], []
    for match in _LINE_END.finditer(text):
        ends.append(match.start())
        starts.append(match.end())
    ends.append(len(text))
    if line > len(starts):
        raise InputError(f"line {line} is past the end: {name} has {_count(len(starts), 'line')}")
    width = ends[line - 1] - starts[line - 1]
    if column > width + 1:
        raise InputError(
            f"column {column} is past the end: line {line} of {name} has {_count(width, 'character')}; "
            f"columns 1 to {width + 1} are places in it"
        )
    return starts[line - 1] + column - 1


def read_text(file: Path) -> str:
    """Read a source file as text, line ends kept; a byte order mark is no part of it, as in training and in editors.

    Raises:
        InputError: missing, a folder or a device, unreadable, too large, binary or not UTF-8.
    """
    try:
        if file.is_dir():
            raise InputError(f"{file} is a folder; wanted a source file")
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise InputError(f"{file} is a pipe, socket or device, which may never end; wanted a source file")
        if facts.st_size > _MAX_FILE_BYTES:
            raise InputError(f"{file} has {facts.st_size:,} bytes; a source file has at most {_MAX_FILE_BYTES:,}")
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"no such file: {file}; wanted FILE:LINE:COLUMN, such as src/app.py:12:8") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    if b"\0" in content:
        raise InputError(f"{file} is binary (it holds a zero byte); wanted a source file")
    try:
        return content.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def spell_path(file: Path) -> str:
    """Spell a file's path as training did: relative to its git repository, else to the working folder if it is in it.

    A file outside both keeps the path that was given.
    """
    absolute = Path(os.path.normpath(file.absolute()))  # without `..`, which lies in folders that the file does not
    for folder in absolute.parents:
        if (folder / ".git").exists():
            return spell_name(absolute.relative_to(folder).as_posix())
    here = Path.cwd()
    return spell_name((absolute.relative_to(here) if absolute.is_relative_to(here) else file).as_posix())


def spell_name(name: str) -> str:
    r"""Escape the bytes of a name that are not UTF-8: a model reads text.

    >>> spell_name("caf\udce9.py")
    'caf\\udce9.py'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def _split_place(place: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"(.+):(\d{1,9}):(\d{1,9})", place, re.DOTALL)
    if match is None:
        raise InputError(f"{place!r} is no place in a file; wanted FILE:LINE:COLUMN, such as src/app.py:12:8")
    return match[1], int(match[2]), int(match[3])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
