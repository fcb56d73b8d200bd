"""The few shapes in which the device computes: whatever comes is padded to the next of them.

**In**: the window, the platform, how many rows may write at once.
**Out**: `Shapes`: rows, tokens a row, and how far a row reaches back.
**Not**: compilation, which happens when a shape is first used, or when the engine warms up.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from codegemma.engine.programs import Size

# One token a row, and the drafts that are checked with it.
DRAFT_TOKENS = 8
# With more rows than these a step is bound by arithmetic, and checking guesses costs what it saves.
MAX_DRAFTING_ROWS = 4
# Batch work of more rows than that writes blocks of so many tokens, so many rows a part; parts are computed at once.
BLOCK_TOKENS = 8
BLOCK_ROWS = 8
MIN_BLOCK_ROWS = MAX_DRAFTING_ROWS + 1
# Of so many prompts of batch work so many tokens are read together: padding a single one to its size costs as much.
SHORT_ROWS = 8
SHORT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Shapes:
    """Sizes in rising order; the last of each is the largest that is ever used."""

    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    reaches: tuple[int, ...]

    @property
    def chunk_tokens(self) -> int:
        """The most tokens of one prompt that are read at once."""
        return self.tokens[-1]

    def list_warm(self) -> Iterator[Size]:
        """List the sizes of an editor's request, and of the largest batch."""
        for reach in self.reaches:
            for tokens in (1, *self.tokens):
                yield Size(1, tokens, reach)
            yield Size(self.rows[-1], 1, reach)

    def list_blocks(self) -> Iterator[Size]:
        """List the sizes of blocks and of short prompts, for whoever has more rows than are drafted for."""
        if self.rows[-1] > MAX_DRAFTING_ROWS:
            for reach in self.reaches:
                yield Size(SHORT_ROWS, SHORT_TOKENS, reach)
                yield Size(BLOCK_ROWS, BLOCK_TOKENS, reach, is_block=True)

    def list_all(self) -> Iterator[Size]:
        """List all sizes but those of `list_blocks`, those of short texts first."""
        for reach in self.reaches:
            for tokens in self.tokens:
                yield Size(1, tokens, reach)
            for rows in self.rows:
                yield Size(rows, 1, reach)
                if rows <= MAX_DRAFTING_ROWS:
                    yield Size(rows, DRAFT_TOKENS, reach)


def choose_shapes(context_tokens: int, rows: int, page_tokens: int, *, is_accelerator: bool) -> Shapes:
    """Choose the shapes of a device: an accelerator compiles slowly and pads for little, a CPU the other way round.

    >>> choose_shapes(300, 8, 16, is_accelerator=False).reaches
    (128, 256, 304)
    """
    step = 4 if is_accelerator else 2
    whole_pages = -(-context_tokens // page_tokens) * page_tokens
    return Shapes(
        rows=_grow(1, rows, 4),
        tokens=(DRAFT_TOKENS, 64, 512) if is_accelerator else (DRAFT_TOKENS, 32, 128),
        reaches=_grow(min(128, whole_pages), whole_pages, step),
    )


def fit(sizes: tuple[int, ...], wanted: int) -> int:
    """Take the smallest size that holds what is wanted.

    >>> fit((1, 4, 16), 5)
    16
    """
    return sizes[bisect_left(sizes, wanted)]


def _grow(first: int, last: int, step: int) -> tuple[int, ...]:
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(min(sizes[-1] * step, last))
    return tuple(sizes)
