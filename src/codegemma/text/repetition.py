r"""Notices that an answer begins to write what already follows the cursor.

**In**: the text around the cursor; an answer, line by line, with what went before the line.
**Out**: where the repetition begins, and from where on text may turn out to be one.
**Not**: repetition within the answer itself.

Two kinds. The rest of the cursor's line comes again at a line's end: `f(|)` answered by `x)`. Or a whole line equals
the next one of the suffix. A line that says little, such as `}` or `return x`, must be indented alike besides, and a
bracket must not be the answer's own to close.
"""

from dataclasses import dataclass

from codegemma.text.brackets import is_balanced, measure_indent

# A line with so many letters and digits is hardly written twice by chance.
_TELLING_CHARS = 16


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an answer, as far as it is written: its number from 0, where it starts, and its text.

    `content_end` is the end of what is not blank before it: 0 where there is none.
    """

    number: int
    start: int
    text: str
    content_end: int


class Repetition:
    """Compares lines with what follows the cursor."""

    def __init__(self, prefix: str, suffix: str) -> None:
        """Keep the lines that would be repetition."""
        self._before = prefix.rpartition("\n")[2]
        first, _, rest = suffix.partition("\n")
        self._is_line_start = not self._before.strip()
        has_rest = bool(first.strip())
        self._rest_of_line = first if has_rest and not self._is_line_start else ""
        # The next line is the cursor's own where the cursor stands before it.
        self._is_own_line = has_rest and self._is_line_start
        following = self._before + first if self._is_own_line else _find_content(rest)
        self._next_line, self._next_words = following, following.split()
        self._own_indent = len(first) - len(first.lstrip()) if self._is_own_line else 0

    def find_cut(self, answer: str, line: Line) -> int | None:
        """Find where the repetition begins that a finished line shows."""
        if self._is_same(answer, line):
            return self._cut_before(line)
        return self._find_rest(answer, line) if self._rest_of_line else None

    def find_doubt(self, line: Line) -> int | None:
        """Find where a repetition begins that an unfinished line may turn out to be."""
        places = []
        words = self._spell(line).split()
        if words and " ".join(self._next_words).startswith(" ".join(words)):
            places.append(self._cut_before(line))
        body, rest = line.text.rstrip(), self._rest_of_line.strip()
        if rest:
            held = next((k for k in range(min(len(rest), len(body)), 0, -1) if body.endswith(rest[:k])), 0)
            places.append(line.start + len(body[: len(body) - held].rstrip()))
        return min(places, default=None)

    def _spell(self, line: Line) -> str:
        """Return the whole line as the editor will show it; nothing where the cursor stands within one."""
        if line.number:
            return line.text
        return self._before + line.text if self._is_line_start else ""

    def _is_same(self, answer: str, line: Line) -> bool:
        whole = self._spell(line)
        if not self._next_words or whole.split() != self._next_words:
            return False
        if sum(map(str.isalnum, self._next_line)) >= _TELLING_CHARS:
            return True
        is_closing = self._next_line.lstrip()[0] in ")]}"
        is_alike = measure_indent(whole) == measure_indent(self._next_line)
        return is_alike and not (is_closing and _opens(answer[: line.start]))

    def _cut_before(self, line: Line) -> int:
        if not self._is_own_line:
            return line.content_end
        indent = len(line.text) - len(line.text.lstrip())
        return line.start + max(0, indent - self._own_indent)

    def _find_rest(self, answer: str, line: Line) -> int | None:
        body, rest = line.text.rstrip(), self._rest_of_line.strip()
        if not body.endswith(rest):
            return None
        kept = body[: len(body) - len(rest)]
        if rest[0].isalnum() and kept[-1:].isalnum():
            return None
        if self._rest_of_line[0].isspace():
            kept = kept.rstrip()
        cut = line.start + len(kept)
        return cut if is_balanced(answer[:cut]) else None


def _find_content(text: str) -> str:
    """Return the first line that is not blank."""
    return next((line for line in text.split("\n") if line.strip()), "").rstrip()


def _opens(text: str) -> bool:
    return sum(map(text.count, "([{")) > sum(map(text.count, ")]}"))
