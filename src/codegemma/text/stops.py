r"""Says where an answer ends, and what of it may be told before that is known, while it is being written.

**In**: `StopRules`; the answer's text, in pieces of any size.
**Out**: the text to tell and, once, why the answer ended; both as if the text had come in one piece.
**Not**: budgets, and the bytes of half a character: who decodes hands over whole ones.

Rules look at three moments only, so that no answer depends on its tokens: when a stop string is complete, when the
first word of a line is, and when a line is. What a rule may still cut off is held back.
"""

import re
from dataclasses import replace
from typing import NamedTuple

from codegemma.records import Extent, StopReason, StopRules
from codegemma.text.control_tokens import STOP_IDS
from codegemma.text.extents import Bounds, Cut, find_bounds
from codegemma.text.repetition import Line, Repetition

# A line's first sign, or its first word once something follows it.
_FIRST_WORD = re.compile(r"[^\S\n]*(?:[^\W\d]\w*(?=\W)|\d|[^\w\s])")


class Told(NamedTuple):
    """What may be told now, and why the answer ended, if it did."""

    text: str
    stop_reason: StopReason | None = None


def ends_answer(token_id: int, rules: StopRules) -> bool:
    """Say whether a token ends the answer by itself: a control token that stands after a middle or a turn.

    >>> ends_answer(70, StopRules()), ends_answer(70, StopRules(control_tokens_end=False))
    (True, False)
    """
    return rules.control_tokens_end and token_id in STOP_IDS


def cut_text(text: str, rules: StopRules) -> Told:
    r"""Apply the rules to a whole text; no reason where none of them cuts it.

    >>> cut_text("return a\n\nprint(1)", StopRules(strings=("\nprint",)))
    Told(text='return a\n', stop_reason=<StopReason.STRING: 'string'>)
    >>> cut_text("a, b)\n", StopRules(prefix="f(", suffix=")\n"))
    Told(text='a, b', stop_reason=<StopReason.SUFFIX_REPEATED: 'suffix_repeated'>)
    """
    watch = StopWatch(rules)
    told = watch.feed(text)
    if told.stop_reason is not None:
        return told
    rest = watch.finish()
    return Told(told.text + rest.text, rest.stop_reason)


class StopWatch:
    """Reads one answer as it is written."""

    def __init__(self, rules: StopRules) -> None:
        """Begin before the answer's first character."""
        self._strings = tuple(string for string in rules.strings if string)
        self._longest = max(map(len, self._strings), default=0)
        self._repetition = Repetition(rules.prefix, rules.suffix) if rules.suffix.strip() else None
        self._bounds: Bounds | None = find_bounds(rules) if rules.extent is not Extent.OPEN else None
        self._has_line_rules = self._repetition is not None or self._bounds is not None
        self._text = ""
        self._told = 0
        self._line = Line(0, 0, "", 0)
        self._is_begun = False
        self._reason: StopReason | None = None

    def feed(self, text: str) -> Told:
        """Add text and return what may be told; after the end nothing is."""
        if self._reason is not None:
            return Told("", self._reason)
        searched = max(0, len(self._text) - self._longest + 1)
        self._text += text
        found = self._find_string(searched)
        cut = self._read_lines(len(self._text) if found is None else found[1] - 1)
        if cut is None and found is not None:
            cut = Cut(found[0], StopReason.STRING)
        return self._tell(self._find_safe() if cut is None else cut.offset, cut)

    def finish(self) -> Told:
        """Return what was held back: the answer ended for a reason that is not ours, unless its last line shows one."""
        if self._reason is not None:
            return Told("", self._reason)
        cut = None
        if self._has_line_rules:
            line = replace(self._line, text=self._text[self._line.start :])
            cut = self._begin_line(line) or self._end_line(line, is_last=True)
        return self._tell(len(self._text) if cut is None else cut.offset, cut)

    def _tell(self, end: int, cut: Cut | None) -> Told:
        self._reason = None if cut is None else cut.reason
        start, self._told = self._told, max(end, self._told)
        return Told(self._text[start : self._told], self._reason)

    def _find_string(self, start: int) -> tuple[int, int] | None:
        """Find the stop string that is complete first, the longest of several."""
        spans = [(at, at + len(string)) for string in self._strings if (at := self._text.find(string, start)) >= 0]
        return min(spans, key=lambda span: (span[1], span[0]), default=None)

    def _read_lines(self, end: int) -> Cut | None:
        """Look at what begins and ends before `end`."""
        while self._has_line_rules:
            line = self._line
            line_end = self._text.find("\n", line.start, end)
            written = self._text[line.start : end if line_end < 0 else line_end + 1]
            word = None if self._is_begun else _FIRST_WORD.match(written)
            if word and (cut := self._begin_line(replace(line, text=word[0]))):
                return cut
            if line_end < 0:
                return None
            whole = replace(line, text=written[:-1])
            if cut := self._end_line(whole, is_last=False):
                return cut
            content_end = line.start + len(whole.text.rstrip()) if whole.text.strip() else line.content_end
            self._line, self._is_begun = Line(line.number + 1, line_end + 1, "", content_end), False
        return None

    def _begin_line(self, line: Line) -> Cut | None:
        if self._is_begun or not line.text.strip():
            return None
        self._is_begun = True
        return self._bounds.begin_line(self._text, line) if self._bounds else None

    def _end_line(self, line: Line, *, is_last: bool) -> Cut | None:
        if self._repetition and (offset := self._repetition.find_cut(self._text, line)) is not None:
            return Cut(offset, StopReason.SUFFIX_REPEATED)
        return self._bounds.end_line(self._text, line, is_last=is_last) if self._bounds else None

    def _find_safe(self) -> int:
        """Find how far the text may be told: no rule will cut before that."""
        places = [len(self._text) - self._count_begun_string()]
        if self._has_line_rules:
            line = replace(self._line, text=self._text[self._line.start :])
            body = line.text.rstrip()
            is_sure = self._is_begun or self._bounds is None or line.number == 0
            places.append(line.start + len(body) if body and is_sure else line.content_end)
            doubts = [rule.find_doubt(line) for rule in (self._repetition, self._bounds) if rule is not None]
            places += [place for place in doubts if place is not None]
        return max(min(places), self._told)

    def _count_begun_string(self) -> int:
        """Count the characters at the end that may be the start of a stop string."""
        for count in range(min(self._longest - 1, len(self._text)), 0, -1):
            tail = self._text[-count:]
            if any(len(string) > count and string.startswith(tail) for string in self._strings):
                return count
        return 0
