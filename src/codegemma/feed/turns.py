"""Gives windows in turn, as grain's datasets do; imported late, since grain loads JAX.

**In**: the shares of the sources, and a function that spells a window by its serial number.
**Out**: `Turns`, a dataset without end whose state is a few integers.
**Not**: which window a serial number stands for (`loader.py`), or rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import grain

from codegemma.feed.mixture import choose_source
from codegemma.feed.rows import SpelledWindow


class Turns(grain.IterDataset):  # type: ignore[misc]  # grain has no types here
    """The windows of all sources, each next one from the source that is the furthest behind its share.

    Window number `n` of source `s` of `k` has the serial number `n * k + s`.
    """

    def __init__(self, shares: Sequence[float], spell: Callable[[int], SpelledWindow]) -> None:
        """Bind the shares, which add up to 1, and the spelling."""
        super().__init__()
        self.shares, self.spell = shares, spell

    def __iter__(self) -> "_TurnsIterator":
        """Begin with the first window of every source."""
        return _TurnsIterator(self.shares, self.spell)


class _TurnsIterator(grain.DatasetIterator):  # type: ignore[misc]
    """Counts the windows and tokens that each source has given."""

    def __init__(self, shares: Sequence[float], spell: Callable[[int], SpelledWindow]) -> None:
        super().__init__()
        self._shares, self._spell = shares, spell
        self._windows, self._tokens = [0] * len(shares), [0] * len(shares)

    def __next__(self) -> dict[str, Any]:
        source = choose_source(self._shares, self._tokens)
        serial = self._windows[source] * len(self._shares) + source
        spelled = self._spell(serial)
        self._windows[source] += 1
        self._tokens[source] += len(spelled.ids)
        return {"ids": spelled.ids, "weights": spelled.weights, "serials": serial, "groups": spelled.groups}

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"next_index": sum(self._windows)}
        # A single source needs no account, and its state is what it was before there were mixtures.
        return state if len(self._shares) == 1 else state | {"windows": [*self._windows], "tokens": [*self._tokens]}

    def set_state(self, state: dict[str, Any]) -> None:
        self._windows = [*state.get("windows", [state["next_index"]])]
        self._tokens = [*state.get("tokens", [0])]
