"""Rates given continuations, teacher-forced: rows of like length share a pass.

**In**: a model; ids of prompts and of what follows them.
**Out**: `records.Score`s in order.
**Not**: generation, and the pages of the cache: nothing is kept.
"""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from codegemma.engine.compute import rate_rows
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.records import Score
from codegemma.text.control_tokens import BOS_ID, PAD_ID

_MAX_BATCH_TOKENS = 8192
# Lengths are rounded up to one of these: padding costs at most half a row more, and 8,192 tokens need 17 shapes.
_SHORTEST_TOKENS = 32


def rate_items(
    params: Params, config: GemmaConfig, items: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[Score]:
    """Rate each continuation after its prompt; the ids were checked."""
    sequences = [np.asarray([*prompt, *continuation], np.int32) for prompt, continuation in items]
    scores: list[Score | None] = [None] * len(items)
    shapes: dict[int, list[int]] = {}
    for index, ids in enumerate(sequences):
        shapes.setdefault(round_up(len(ids), config.max_positions), []).append(index)
    for length, members in shapes.items():
        rows = min(max(1, _MAX_BATCH_TOKENS // length), round_rows(len(members)))
        for start in range(0, len(members), rows):
            batch = members[start : start + rows]
            rated = _rate(params, config, [sequences[i] for i in batch], rows, length)
            for index, (logprobs, argmax_ids) in zip(batch, rated, strict=True):
                first = len(items[index][0])
                scores[index] = Score(logprobs[first:], argmax_ids[first:])
    return [score for score in scores if score is not None]


def round_up(tokens: int, limit: int) -> int:
    """Round a length up to a compiled one: 32, 48, 64, 96, 128, 192 ... but never beyond `limit`.

    >>> [round_up(n, 1000) for n in (1, 33, 65, 100, 999)]
    [32, 48, 96, 128, 1000]
    """
    power = _SHORTEST_TOKENS
    while power < tokens:
        if power * 3 // 2 >= tokens:
            return min(power * 3 // 2, limit)
        power *= 2
    return min(power, limit)


def round_rows(rows: int) -> int:
    """Round a number of rows up to a power of two.

    >>> [round_rows(n) for n in (1, 3, 8)]
    [1, 4, 8]
    """
    return 1 << (rows - 1).bit_length()


def _rate(
    params: Params, config: GemmaConfig, sequences: list[np.ndarray], rows: int, length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    ids, lengths = _pad(sequences, rows, length)
    logprobs, argmax_ids = rate_rows(params, config, jnp.asarray(ids), jnp.asarray(lengths))
    for row, sequence in enumerate(sequences):
        yield np.asarray(logprobs)[row, : len(sequence)], np.asarray(argmax_ids)[row, : len(sequence)]


def _pad(
    sequences: Sequence[np.ndarray], rows: int, length: int
) -> tuple[Int32[np.ndarray, "B L"], Int32[np.ndarray, " B"]]:
    """Stack sequences of different length; rows that nobody asked for hold `<bos>` alone."""
    ids = np.full((rows, length), PAD_ID, np.int32)
    ids[:, 0] = BOS_ID
    lengths = np.ones(rows, np.int32)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        lengths[row] = len(sequence)
    return ids, lengths
