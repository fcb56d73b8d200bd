r"""Cuts an answer to what the editor should show: no repeated suffix, no second closing bracket, no line too far out.

**In**: the text around the cursor, what the client asked for, and the answer piece by piece.
**Out**: the pieces to show, and why the answer ended, if that was here.
**Not**: the rules themselves: they are `text/stops.py`'s, and most engines apply them while they write.
"""

from dataclasses import replace

from codegemma.records import StopReason, StopRules
from codegemma.text.stops import StopWatch, Told

# Further away no text decides where an answer ends.
_NEAR_CHARS = 4_000


def make_rules(stop: StopRules) -> StopRules:
    """Shorten the texts around the cursor to what can matter, from a line start on."""
    prefix = stop.prefix[-_NEAR_CHARS:]
    if len(prefix) < len(stop.prefix):
        prefix = prefix[prefix.find("\n") + 1 :]
    return replace(stop, prefix=prefix, suffix=stop.suffix[:_NEAR_CHARS])


class Trimmer:
    """One answer on its way to the editor."""

    def __init__(self, rules: StopRules, least_indent: int = 0) -> None:
        self._watch = StopWatch(rules)
        self._depth = DepthWatch(least_indent)

    def feed(self, text: str) -> Told:
        """Take a piece; return what may be shown."""
        return self._end(self._watch.feed(text))

    def finish(self) -> Told:
        """Return what was held back when the answer has ended by itself."""
        told = self._end(self._watch.finish())
        return told if told.stop_reason else Told(told.text + self._depth.finish())

    def _end(self, told: Told) -> Told:
        shown = self._depth.feed(told.text)
        if self._depth.is_ended:
            return Told(shown, StopReason.SCOPE_END)
        return Told(shown + self._depth.finish(), told.stop_reason) if told.stop_reason else Told(shown)


class DepthWatch:
    r"""Ends before the first line, after the answer's first, that is indented less than `least` (`n_indent`).

    >>> watch = DepthWatch(4)
    >>> watch.feed("x = 1\n    y"), watch.feed(" = 2\n"), watch.feed("print")
    ('x = 1\n    y', ' = 2', '')
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._held = ""
        self.is_ended = False

    def feed(self, text: str) -> str:
        """Return what is certain to be shown; a line break waits for the depth of the line after it."""
        if not self._least or self.is_ended:
            return "" if self.is_ended else text
        shown = ""
        for char in text:
            if self._held and char not in " \t\r\n":
                depth = len(self._held) - self._held.rfind("\n") - 1
                if depth < self._least:
                    self.is_ended = True
                    return shown
                shown, self._held = shown + self._held, ""
            if char == "\n" or self._held:
                self._held += char
            else:
                shown += char
        return shown

    def finish(self) -> str:
        """Return what was held back."""
        held, self._held = "" if self.is_ended else self._held, ""
        return held
