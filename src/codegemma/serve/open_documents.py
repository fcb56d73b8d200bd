r"""The documents that an editor has open, as it edits them; places are lines and columns as LSP counts them.

**In**: texts and changes with ranges; columns in units of UTF-16, UTF-8 or UTF-32; lines end at `\n`, `\r\n`, `\r`.
**Out**: the same texts, and character offsets of places.
**Not**: the protocol (`lsp.py`). pygls' own documents end lines at form feeds too and move columns past a line's end to
before its last character, so that one such edit spoils the text for good.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator

Place = tuple[int, int]
"""A line and a column in it, both from 0."""

_LINE_END = re.compile(r"\r\n|\n|\r")


class OpenDocument:
    """One document.

    >>> document = OpenDocument("file:///a.py", "python", "é = '😋'\\r\\nb\\r\\n")
    >>> document.find_offset((0, 7)), document.find_offset((1, 9)), document.find_place(10)
    (6, 10, (1, 1))
    >>> document.change(((0, 5), (0, 7)), "x")
    (5, 1)
    >>> document.text
    "é = 'x'\\r\\nb\\r\\n"
    """

    def __init__(self, uri: str, language_id: str, text: str, encoding: str = "utf-16") -> None:
        self.uri, self.language_id, self._encoding = uri, language_id, encoding
        self._set_text(text)

    def change(self, span: tuple[Place, Place] | None, text: str) -> tuple[int, int]:
        """Put a text in the place of a span, or of everything; tell from which character on, and how many went."""
        start, end = (0, len(self.text)) if span is None else sorted(map(self.find_offset, span))
        self._set_text(self.text[:start] + text + self.text[end:])
        return start, end - start

    def find_offset(self, place: Place) -> int:
        """Find the character at a place; what lies past a line's end is its end, past the text the text's end."""
        line, column = place
        if line >= len(self._starts):
            return len(self.text)
        start = self._starts[line]
        return start + _count_chars(self._read_line(line), column, self._encoding)

    def find_place(self, offset: int) -> Place:
        """Find the place of a character."""
        line = bisect_right(self._starts, offset) - 1
        return line, count_units(self.text[self._starts[line] : offset], self._encoding)

    @property
    def line_end(self) -> str:
        """What its first line ends with."""
        found = _LINE_END.search(self.text)
        return found[0] if found else "\n"

    def _set_text(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text))]

    def _read_line(self, line: int) -> str:
        found = _LINE_END.search(self.text, self._starts[line])
        return self.text[self._starts[line] : found.start() if found else None]


class OpenDocuments:
    """All open documents, the one edited last at the end."""

    def __init__(self) -> None:
        self._documents: dict[str, OpenDocument] = {}

    def __iter__(self) -> Iterator[OpenDocument]:
        return iter(self._documents.values())

    def open(self, document: OpenDocument) -> None:
        """Take a document that was opened."""
        self._documents.pop(document.uri, None)
        self._documents[document.uri] = document

    def find(self, uri: str) -> OpenDocument | None:
        """Find an open document and count it as the last in use."""
        document = self._documents.pop(uri, None)
        if document is not None:
            self._documents[uri] = document
        return document

    def look_up(self, uri: str) -> OpenDocument | None:
        """Find an open document for whoever does not use it: it keeps its place."""
        return self._documents.get(uri)

    def close(self, uri: str) -> None:
        """Forget a document that was closed."""
        self._documents.pop(uri, None)


def count_units(text: str, encoding: str) -> int:
    """Count the units in which an encoding spells a text.

    >>> [count_units("é😋", encoding) for encoding in ("utf-8", "utf-16", "utf-32")]
    [6, 3, 2]
    """
    if text.isascii() or encoding == "utf-32":
        return len(text)
    return sum(_measure(char, encoding) for char in text)


def _count_chars(line: str, units: int, encoding: str) -> int:
    """Count the characters that end within so many units; a unit inside of a character belongs to its start."""
    if line.isascii() or encoding == "utf-32":
        return min(units, len(line))
    for index, char in enumerate(line):
        units -= _measure(char, encoding)
        if units < 0:
            return index
    return len(line)


def _measure(char: str, encoding: str) -> int:
    if encoding == "utf-16":
        return 1 + (char > "\uffff")
    return len(char.encode("utf-8", "surrogatepass"))
