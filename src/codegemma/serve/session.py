"""The prompt of one place in which somebody types, so laid out that a keystroke adds a token or two to it.

**In**: asks for the same file, one after another, and ids that the model wrote.
**Out**: a `Layout`: prompt ids with bytes for healing, and what became of each part. That of a fresh place equals
`infill_format.format_prompt`'s of the same texts; in one place the bytes stay equal, and ids are kept.
**Not**: which session an ask belongs to (`sessions.py`), or which other files are shown (`context.py`).

Order: other files, path, suffix, prefix (SPM). The left edge is an anchor that moves in steps, the suffix is frozen
while only text before it changes. Models that know PSM alone get `<pre> prefix <suf> suffix <mid> typed`: what is typed
since the place was entered stands as the middle's beginning (as in EFIM, arXiv 2505.21889), and is folded into the
prefix in steps.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from codegemma.records import InfillMode, Neighbor
from codegemma.serve.align import join_left
from codegemma.serve.asks import InfillAsk
from codegemma.serve.choices import ServeChoices
from codegemma.serve.spelling import Spelling
from codegemma.text.beginnings import count_common
from codegemma.text.infill_format import Ids, encode_path, format_neighbors, join_before_middle
from codegemma.text.tokenizer import Tokenizer
from codegemma.text.window import keep_start

FindContext = Callable[[], Sequence[Neighbor]]

IN_PLACE = "in place"
# Brackets and quotes that editors write behind the cursor by themselves.
_CLOSERS = ")]}>\"'`;"
_MAX_CLOSERS = 4
# Of a fresh prefix this share of the budget is used, so that the anchor need not move soon.
_FRESH_SHARE = 0.75
# Code has 3 to 5 characters a token: what lies farther from the cursor than this many is not even encoded.
_CHARS_PER_TOKEN = 8
_LEAST_FILE_TOKENS = 48
_MAX_KNOWN_CHARS = 400_000
# Clients that cut their own windows send at least so much after the cursor, and its end may move a little.
_WINDOW_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Budgets:
    """How many tokens each part may take at most."""

    prefix: int
    suffix: int
    context: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A prompt. `place` is `in place`, or why it had to be laid out anew.

    `text` is what is known before the cursor; healing begins `heal_start` characters into it.
    """

    prompt_ids: tuple[int, ...]
    healing: bytes
    mode: InfillMode
    place: str
    parts: tuple[tuple[str, int], ...]
    neighbors: tuple[str, ...]
    dropped: tuple[str, ...]
    text: str
    heal_start: int


class Session:
    """One file in one editor."""

    def __init__(self, name: str, owner: str, tokenizer: Tokenizer, mode: InfillMode, choices: ServeChoices) -> None:
        self.name, self.owner = name, owner
        self.read_as = name  # what an engine knows its prompt by
        self.path: str | None = None
        self.text = ""
        self.suffix = ""
        self._tokenizer, self._mode, self._choices = tokenizer, mode, choices
        self._is_fresh = True
        self._context: tuple[Neighbor, ...] = ()
        self._context_ids: Ids = format_neighbors(tokenizer, ())
        self._suffix_ids: Ids = np.zeros(0, np.int32)
        self._anchor = self._fold = 0  # in `text`: where the prompt's prefix begins, and what is spelled as it grows
        self._grown = Spelling(tokenizer)
        self._head: list[int] = []
        self._tail: list[int] = []
        self._before_tokens = 0
        self._dropped: tuple[str, ...] = ()
        self._budgets = Budgets(0, 0, 0)  # by which the prompt was laid out; what was read may stay
        self._written: tuple[Layout, str, tuple[int, ...]] | None = None

    def matches(self, ask: InfillAsk) -> bool:
        """Say whether an ask goes on with this session's file."""
        if ask.path and self.path and ask.path != self.path:
            return False
        return join_left(self.text, ask.prefix[-_MAX_KNOWN_CHARS:]) is not None

    def lay_out(self, ask: InfillAsk, find_context: FindContext, budgets: Budgets) -> Layout:
        """Lay out the prompt for the cursor where it is now; other files are asked for only where the place is cold."""
        near = ask.prefix[-_MAX_KNOWN_CHARS:]
        text = None if self._is_fresh else join_left(self.text, near)
        reason = self._why_cold(ask, text)
        if reason is None and text is not None:
            self._grow(text, budgets)
        else:
            self._enter(ask, near if text is None else text, find_context(), budgets)
        return self._spell(reason or IN_PLACE)

    def note_written(self, layout: Layout, completion: str, ids: Sequence[int]) -> None:
        """Remember what the model wrote after a layout: where it is accepted, its ids are kept."""
        self._written = (layout, completion, tuple(ids))

    def imagine_accepted(self) -> tuple["Session", str] | None:
        """Copy the session as it would be if the newest answer were accepted, with the text before the cursor then."""
        if self._written is None or not self._written[1]:
            return None
        layout, completion, _ = self._written
        fork = copy.copy(self)
        fork._grown = self._grown.copy()
        return fork, layout.text + completion

    def widen(self, ask: InfillAsk, find_context: FindContext, budgets: Budgets) -> tuple["Session", Layout] | None:
        """Copy the session as it would be with larger budgets, where more would be shown; `adopt` once it was read.

        It is read under a name of its own: until then the shorter prompt stays as it was read.
        """
        is_narrower = any(new < old for new, old in zip(astuple(budgets), astuple(self._budgets), strict=True))
        if self._is_fresh or not self._dropped or self._budgets == budgets or is_narrower:
            return None
        fork, written = copy.copy(self), self._written
        fork.read_as = self.name if self.read_as != self.name else f"{self.name}+"
        fork._enter(replace(ask, suffix=self.suffix), self.text, find_context(), budgets)
        fork._written = written
        return fork, fork._spell(IN_PLACE)

    def adopt(self, fork: "Session") -> None:
        """Go on as a copy."""
        vars(self).update(vars(fork))

    def _why_cold(self, ask: InfillAsk, text: str | None) -> str | None:
        if self._is_fresh:
            return "first request"
        if (ask.path or self.path) != self.path:
            return "another path"
        if text is None:
            return "another place"
        return None if _is_frozen(self.suffix, ask.suffix) else "text after the cursor changed"

    def _enter(self, ask: InfillAsk, text: str, context: Sequence[Neighbor], budgets: Budgets) -> None:
        """Begin at a new place: everything is chosen anew."""
        self._is_fresh, self.path, self._written = False, ask.path or self.path, None
        self.text, self.suffix, self._budgets = text, ask.suffix[:_MAX_KNOWN_CHARS], budgets
        near = ask.suffix[: budgets.suffix * _CHARS_PER_TOKEN]
        shown = keep_start(near, self._tokenizer, budgets.suffix)
        self._suffix_ids = self._tokenizer.encode(shown)
        dropped = self._adopt_context(context, budgets.context)
        self._anchor = self._find_anchor(0, int(budgets.prefix * _FRESH_SHARE), budgets.prefix)
        if len(shown) < len(ask.suffix):
            dropped.append(f"{len(ask.suffix) - len(shown)} characters at the suffix's end")
        if self._anchor:
            dropped.append(f"{self._anchor} characters at the prefix's start")
        self._dropped = tuple(dropped)
        self._fold_at(self._find_fresh_fold())

    def _adopt_context(self, context: Sequence[Neighbor], budget: int) -> list[str]:
        """Take other files, the last first, for they stand nearest; return what had no room.

        Of a file that does not fit, its start is shown where that is something.
        """
        kept: list[Neighbor] = []
        dropped = []
        for neighbor in reversed(context):
            room = budget - len(encode_path(self._tokenizer, neighbor.path)) - 1
            text = neighbor.text
            if room >= _LEAST_FILE_TOKENS:
                text = keep_start(text[: room * _CHARS_PER_TOKEN], self._tokenizer, room)
            cost = len(self._tokenizer.encode(text)) if room >= _LEAST_FILE_TOKENS or len(text) <= room else room + 1
            if cost > room:
                dropped.append(f"other file {neighbor.path}")
                continue
            if len(text) < len(neighbor.text):
                dropped.append(f"{len(neighbor.text) - len(text)} characters at the end of {neighbor.path}")
            budget = room - cost
            kept.append(Neighbor(neighbor.path, text))
        self._context = tuple(reversed(kept))
        self._context_ids = format_neighbors(self._tokenizer, self._context)
        return dropped

    def _grow(self, text: str, budgets: Budgets) -> None:
        """Go on in one place: only text before the cursor changed."""
        self._take_written(text)
        common = count_common(self.text, text)
        self.text = text
        line_start = text.rfind("\n") + 1
        if common < self._anchor:
            self._move_anchor(0, budgets.prefix)
            self._fold_at(line_start)
        elif common < self._fold:
            self._fold_at(line_start)
        else:
            self._grown.change(text[self._fold :])
            if self._is_psm and len(self._grown.ids) > self._choices.folded_tokens:
                self._fold_at(line_start if line_start > self._fold else len(text))
        # What was read costs nothing, whatever the deadline is now; what is laid out anew has to be read in time.
        if self._before_tokens + len(self._grown.ids) > self._budgets.prefix:
            self._move_anchor(self._anchor, budgets.prefix)
            self._fold_at(line_start)

    def _take_written(self, text: str) -> None:
        """Where the text goes on with what the model wrote, keep the ids that lie within it."""
        if self._written is None:
            return
        layout, completion, ids = self._written
        rest = text[len(layout.text) :]
        if (
            not text.startswith(layout.text)
            or not rest
            or not (completion.startswith(rest) or rest.startswith(completion))
        ):
            return
        healed = len(layout.text) - layout.heal_start
        accepted = healed + min(len(rest), len(completion))
        starts = self._tokenizer.find_starts(np.asarray(ids, np.int32)).tolist()
        ends = [*starts[1:], len(self._tokenizer.decode(ids))]
        count = sum(end <= accepted for end in ends)
        if count and layout.heal_start >= self._fold:
            self._grown.change(layout.text[self._fold :])
            self._grown.accept(layout.heal_start - self._fold, ids[:count])
            self.text = self.text[: self._fold] + self._grown.text

    @property
    def _is_psm(self) -> bool:
        return self._mode is InfillMode.PSM

    def _find_anchor(self, low: int, fresh_tokens: int, max_tokens: int) -> int:
        """Find the line from which on the text is shown: the first where all fits, else one of every so many lines."""
        near = max(low, len(self.text) - max_tokens * _CHARS_PER_TOKEN)
        ids = self._tokenizer.encode(self.text[near:])
        if near == low and len(ids) <= (max_tokens if low == 0 else fresh_tokens):
            return low
        if len(ids) <= fresh_tokens:
            return self._step_to_line(near)
        return self._step_to_line(near + int(self._tokenizer.find_starts(ids)[len(ids) - fresh_tokens]))

    def _move_anchor(self, low: int, max_tokens: int) -> None:
        self._anchor = self._find_anchor(low, int(max_tokens * _FRESH_SHARE), max_tokens)
        self._budgets = replace(self._budgets, prefix=max_tokens)

    def _step_to_line(self, offset: int) -> int:
        """Find the next line start whose number is a step's, or the next one where that would leave too little."""
        first = next_line = self.text.find("\n", offset) + 1
        if not first:
            return offset
        number = self.text.count("\n", 0, first)
        while next_line and number % self._choices.anchor_lines:
            next_line = self.text.find("\n", next_line) + 1
            number += 1
        is_enough = next_line and next_line - offset <= (len(self.text) - offset) // 2
        return next_line if is_enough else first

    def _find_fresh_fold(self) -> int:
        """In PSM the prefix ends where healing begins, so that a fresh prompt is that of the text before it."""
        if not self._is_psm or not self._choices.has_healing:
            return len(self.text)
        return self._anchor + Spelling(self._tokenizer, self.text[self._anchor :]).find_last()

    def _fold_at(self, offset: int) -> None:
        """Spell what does not grow; in PSM that includes the prefix up to `offset`."""
        self._fold = max(offset, self._anchor) if self._is_psm else self._anchor
        before = self._tokenizer.encode(self.text[self._anchor : self._fold])
        self._before_tokens = len(before)
        path_ids = encode_path(self._tokenizer, self.path)
        parts = join_before_middle(path_ids, before, self._suffix_ids, self._mode)
        tail = parts[-1:] if self._mode is InfillMode.SPM1 else []
        self._head = np.concatenate([self._context_ids, *parts[: len(parts) - len(tail)]]).tolist()
        self._tail = np.concatenate(tail).tolist() if tail else []
        self._grown = Spelling(self._tokenizer, self.text[self._fold :])

    def _spell(self, place: str) -> Layout:
        grown = self._grown
        last = grown.find_last() if self._choices.has_healing else len(grown.text)
        ids = grown.ids[:-1] if last < len(grown.text) else grown.ids
        typed = len(ids) if self._is_psm else 0
        prefix = self._before_tokens + len(ids) - typed
        parts = {"context": len(self._context_ids), "suffix": len(self._suffix_ids), "prefix": prefix, "typed": typed}
        return Layout(
            prompt_ids=(*self._head, *ids, *self._tail),
            healing=grown.text[last:].encode(),
            mode=self._mode,
            place=place,
            parts=tuple(parts.items()),
            neighbors=tuple(neighbor.path for neighbor in self._context),
            dropped=self._dropped,
            text=self.text,
            heal_start=self._fold + last,
        )


def _is_frozen(frozen: str, suffix: str) -> bool:
    """Say whether the text after the cursor is still what it was, closing brackets of the editor's own aside.

    Where much is sent, its end may be the edge of a window.

    >>> _is_frozen("\\nreturn x\\n", ")\\nreturn x\\n"), _is_frozen("\\nreturn x\\n", "\\nreturn y\\n")
    (True, False)
    """
    if suffix == frozen:
        return True
    for closers in range(min(_MAX_CLOSERS, len(suffix)) + 1):
        if closers and suffix[closers - 1] not in _CLOSERS:
            return False
        rest = suffix[closers:]
        if rest == frozen:
            return True
        is_window = min(len(rest), len(frozen)) >= _WINDOW_CHARS
        if is_window and (rest.startswith(frozen) or frozen.startswith(rest)):
            return True
    return False
