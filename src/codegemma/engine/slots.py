"""Decides whose turn it is, and in which of llama.cpp's slots a prompt is read: where most of it was read before.

**In**: turns, each with its priority, prompt and session.
**Out**: a slot for each, when it may run; whether a running one is to give way.
**Not**: tokens or threads' work: plain integers under one lock.

A keystroke waits for keystrokes only. While one waits or runs, what is less urgent gives way and later goes on in the
slot it had. Chat has a slot of its own, the last one, so that it never drives out what keystrokes have read.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from codegemma.records import Priority
from codegemma.text.beginnings import count_common

# A slot that holds at least this share of a prompt is worth more than the session's own.
_WORTH_SHARE = 0.5


@dataclass(slots=True, eq=False)
class Slot:
    """One cache of llama.cpp, as we last left it: `ids` were read there, for `session`."""

    number: int
    ids: tuple[int, ...] = ()
    session: str | None = None
    used: int = 0
    turn: "Turn | None" = None


@dataclass(slots=True, eq=False)
class Turn:
    """One generation that waits, runs or has given way."""

    priority: Priority
    ids: Sequence[int]
    session: str | None
    is_over: Callable[[], bool]
    wanted_slots: int = 1
    number: int = 0
    slots: list[Slot] = field(default_factory=list)


class SlotTable:
    """All slots, and who waits for them."""

    def __init__(self, slots: int) -> None:
        """Begin with empty slots."""
        self._slots = [Slot(number) for number in range(slots)]
        self._waiting: list[Turn] = []
        self._changed = threading.Condition()
        self._clock = count(1)

    def take(self, turn: Turn, deadline_s: float | None = None) -> bool:
        """Wait for a turn's time and give it its slots, one at least; false if it is over, or too late, before.

        `deadline_s` is a time of `time.perf_counter`.
        """
        with self._changed:
            turn.number = turn.number or next(self._clock)
            self._waiting.append(turn)
            self._waiting.sort(key=lambda other: (other.priority, other.number))
            try:
                left_s = None if deadline_s is None else max(deadline_s - time.perf_counter(), 0)
                self._changed.wait_for(lambda: turn.is_over() or self._may_start(turn), left_s)
                is_given = not turn.is_over() and self._may_start(turn)
                if is_given:
                    self._give(turn)
                return is_given
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def give_back(self, turn: Turn, ids: Sequence[int]) -> None:
        """Free a turn's slots; the first one holds `ids` now."""
        with self._changed:
            for slot in turn.slots:
                slot.turn, slot.used = None, next(self._clock)
            if turn.slots:
                turn.slots[0].ids, turn.slots[0].session = tuple(ids), turn.session
            turn.slots = []
            self._changed.notify_all()

    def must_give_way(self, turn: Turn) -> bool:
        """Say whether somebody more urgent waits or runs."""
        with self._changed:
            return self._is_held(turn)

    def wake(self) -> None:
        """Let those who wait look whether they are over."""
        with self._changed:
            self._changed.notify_all()

    def count_waiting(self) -> int:
        """Count the turns that wait."""
        with self._changed:
            return len(self._waiting)

    def _is_held(self, turn: Turn) -> bool:
        running = [slot.turn for slot in self._slots if slot.turn is not None]
        return any(other.priority < turn.priority for other in [*self._waiting, *running])

    def _may_start(self, turn: Turn) -> bool:
        if self._is_held(turn) or not self._list_free(turn):
            return False
        # First come, first served among equals that want the same slots.
        ahead = next(other for other in self._waiting if other.priority == turn.priority)
        return ahead is turn

    def _list_free(self, turn: Turn) -> list[Slot]:
        slots = self._slots
        # Batch work of a session prepares what its keystrokes will look for.
        if len(slots) > 1 and (turn.priority is not Priority.BATCH or turn.session is not None):
            slots = slots[-1:] if turn.priority is Priority.CHAT else slots[:-1]
        return [slot for slot in slots if slot.turn is None]

    def _give(self, turn: Turn) -> None:
        free = self._list_free(turn)
        best = choose_slot(free, turn.ids, turn.session)
        others = sorted((slot for slot in free if slot is not best), key=lambda slot: slot.used)
        turn.slots = [best, *others[: turn.wanted_slots - 1]]
        for slot in turn.slots:
            slot.turn, slot.used = turn, next(self._clock)
        for slot in turn.slots[1:]:
            slot.ids, slot.session = (), None


def choose_slot(free: Sequence[Slot], ids: Sequence[int], session: str | None) -> Slot:
    """Choose where most of a prompt was read; where little was, an empty slot, the session's own, or the oldest.

    >>> slots = [Slot(0, (2, 5, 6), "a", 1), Slot(1, (2, 8), "b", 2)]
    >>> choose_slot(slots, (2, 8, 9), "a").number, choose_slot(slots, (2, 7, 7, 7), "b").number
    (1, 1)
    """
    best = max(free, key=lambda slot: count_common(slot.ids, ids))
    if count_common(best.ids, ids) >= _WORTH_SHARE * len(ids):
        return best
    return min(free, key=lambda slot: (bool(slot.ids), slot.session is None or slot.session != session, slot.used))
