"""Follows a completion that an editor shows: how much of it is accepted, and how much of that still stands later.

**In**: where it was shown; the changes of its document, one after another; the document as it is later.
**Out**: numbers of characters.
**Not**: which completion an editor accepts as a whole: it says so itself.

An editor that accepts a word or a line of a completion inserts several characters that are the next ones of it, and
tells nobody. Who types them one by one has not accepted them.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Shown:
    """One completion: `text` at `start`, of which `passed` characters stand there by now and `accepted` were accepted.

    `line` is what stands on its line before it.

    >>> shown = Shown("a-1", "file:///a.py", 10, "first, second)", "def add(")
    >>> shown.follow(10, 0, "f"), shown.follow(11, 0, "irst"), shown.accepted
    (False, True, 5)
    """

    answer_id: str
    uri: str
    start: int
    text: str
    line: str
    passed: int = 0
    accepted: int = 0
    is_gone: bool = False

    def follow(self, start: int, removed: int, inserted: str) -> bool:
        """Follow a change of the document; true where it accepts more of the completion."""
        goes_on = start == self.start + self.passed and not removed and self.text.startswith(inserted, self.passed)
        if self.is_gone or not goes_on or not inserted:
            self.is_gone = True
            return False
        self.passed += len(inserted)
        is_accepted = len(inserted) > 1
        if is_accepted:
            self.accepted = self.passed
        return is_accepted

    def count_standing(self, document: str) -> int:
        """Count the accepted characters that stand in the document."""
        return count_standing(self.text[: self.accepted], self.line, document)


def count_standing(text: str, line: str, document: str) -> int:
    """Count the characters of those lines of a text that stand in a document, in their order, however indented.

    The first line stands where it does behind `line`, or alone. A blank line counts with the one before it.

    >>> count_standing("b):\\n    return a\\n", "def f(a, ", "def f(a, b):\\n  return a\\n")
    17
    >>> count_standing("x = 1\\ny = 2", "", "x = 3\\ny = 2")
    5
    """
    at = standing = 0
    does_stand = False
    for number, piece in enumerate(text.splitlines(keepends=True)):
        words = piece.strip()
        if words:
            wanted = ((line + piece).strip(), words) if number == 0 else (words,)
            ends = (found + len(part) for part in wanted if (found := document.find(part, at)) >= 0)
            end = next(ends, None)
            does_stand, at = end is not None, at if end is None else end
        standing += len(piece) * does_stand
    return standing
