"""Guesses the next tokens of an answer by looking up where its last ones stood before (Saxena, 2023).

**In**: the prompt, further text, and what the answer wrote so far, as ids.
**Out**: guesses, which the engine checks against its own choice: they cost time or save it, and change nothing.
**Not**: the check. Nothing here knows JAX.
"""

from collections.abc import Sequence

import numpy as np

# So many tokens must agree before what followed them is guessed: fewer agree by chance.
_LEAST_AGREEING, _MOST_AGREEING = 3, 6
_BETWEEN_TEXTS = -1
# After a guess that failed altogether, so many steps go without one; each further failure doubles it.
_LONGEST_PAUSE_STEPS = 32


class Drafts:
    """What one answer may be guessed from.

    >>> drafts = Drafts([], [1, 2, 3, 4, 5, 1, 2], room=8)
    >>> drafts.add([3])
    >>> drafts.propose(3)
    [4, 5, 1]
    """

    def __init__(self, lookup_ids: Sequence[int], prompt_ids: Sequence[int], room: int) -> None:
        """Hold the texts, with room for the answer."""
        known = [*lookup_ids, _BETWEEN_TEXTS, *prompt_ids]
        self._ids = np.full(len(known) + room, _BETWEEN_TEXTS, np.int32)
        self._ids[: len(known)] = known
        self._end = len(known)
        self._pause = self._failures = 0

    def add(self, ids: Sequence[int]) -> None:
        """Add what the answer wrote."""
        self._ids[self._end : self._end + len(ids)] = ids
        self._end += len(ids)

    def note(self, drafted: int, accepted: int) -> None:
        """Learn from a check: guesses that fail are made more rarely."""
        if accepted:
            self._failures = 0
        elif drafted:
            self._failures += 1
            self._pause = min(2**self._failures, _LONGEST_PAUSE_STEPS)

    def propose(self, count: int) -> list[int]:
        """Guess at most `count` next tokens: those after the longest, and of equals the latest, agreement."""
        if self._pause > 0 or count < 1:
            self._pause -= 1
            return []
        known = self._ids[: self._end]
        places = np.flatnonzero(known[:-1] == known[-1])
        agreeing = 1
        while agreeing < _MOST_AGREEING and len(places) and agreeing < self._end:
            before = places[(places >= agreeing) & (known[places - agreeing] == known[self._end - 1 - agreeing])]
            if not len(before):
                break
            places, agreeing = before, agreeing + 1
        if agreeing < _LEAST_AGREEING or not len(places):
            return []
        start = int(places[-1]) + 1
        guess: list[int] = known[start : start + count].tolist()
        # Where the answer repeats itself, it is guessed to go on so.
        period = self._end - start
        guess += (guess[i % period] for i in range(len(guess), count)) if len(guess) == period else ()
        return guess[: guess.index(_BETWEEN_TEXTS)] if _BETWEEN_TEXTS in guess else guess
