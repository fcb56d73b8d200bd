"""Code with holes, a few rows of it a step, so that tuning does not cost infilling.

**In**: packs, as `codegemma build` wrote them; the feed's choices of the base's own training.
**Out**: rows beside those of answers, from a loader that goes on where it was.
**Not**: instruction tuning's share of code, which its mixture has.
"""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.feed.choices import FeedChoices
from codegemma.feed.loader import RowShape, open_loader
from codegemma.feed.mixture import MixtureChoices
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.objective import Rows

CODE = MixtureChoices(("code+synthetic=1",))


class Rehearsal:
    """Rows of code; of none, where there is no data or no row is wanted."""

    def __init__(self, data: Path | None, tokenizer: Tokenizer, feed: FeedChoices, shape: RowShape, seed: int) -> None:
        """Open the packs."""
        self._loader = None
        self.tokens = 0
        if data is not None and shape.rows:
            self._loader = open_loader(data, tokenizer, replace(feed, mixture=CODE), shape, seed)
            self.tokens = shape.rows * shape.row_tokens

    def take(self) -> Rows | None:
        """Take the next rows."""
        if self._loader is None:
            return None
        batch = next(self._loader)
        arrays: Any = (batch.ids, batch.loss_weights, batch.segments, batch.positions)
        return Rows(*(np.asarray(array) for array in arrays))  # type: ignore[arg-type]

    def get_state(self) -> dict[str, Any] | None:
        """Tell where the loader is."""
        return None if self._loader is None else self._loader.get_state()

    def set_state(self, state: dict[str, Any] | None) -> None:
        """Go to where the loader was."""
        if self._loader is not None and state is not None:
            self._loader.set_state(state)

    def close(self) -> None:
        """Stop reading."""
        with contextlib.ExitStack() as stack:
            if self._loader is not None:
                stack.callback(self._loader.close)
