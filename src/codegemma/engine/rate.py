"""Rates given continuations, teacher-forced: rows of like length share a pass.

**In**: a model; ids of prompts and of what follows them.
**Out**: `records.Score`s in order.
**Not**: generation, and the pages of the cache: nothing is kept.
"""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from codegemma.engine.compute import rate_choices, rate_rows
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
    """Rate each continuation after its prompt; the ids were checked.

    Continuations of one token after an equal prompt, such as the letters of a question with choices, share a pass.
    """
    choices: dict[tuple[int, ...], list[int]] = {}
    scores: list[Score | None] = [None] * len(items)
    longer = []
    for index, (prompt, continuation) in enumerate(items):
        if len(continuation) == 1:
            choices.setdefault(tuple(prompt), []).append(index)
        else:
            longer.append(index)
    for index, score in zip(longer, _rate_longer(params, config, [items[index] for index in longer]), strict=True):
        scores[index] = score
    asked = [(np.asarray(prompt, np.int32), [items[i][1][0] for i in members]) for prompt, members in choices.items()]
    for members, found in zip(choices.values(), _rate_choices(params, config, asked), strict=True):
        for index, score in zip(members, found, strict=True):
            scores[index] = score
    return [score for score in scores if score is not None]


def _rate_longer(
    params: Params, config: GemmaConfig, items: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[Score]:
    sequences = [np.asarray([*prompt, *continuation], np.int32) for prompt, continuation in items]
    scores: dict[int, Score] = {}
    for batch, rows, length in _divide([len(ids) for ids in sequences], config.max_positions):
        rated = _rate(params, config, [sequences[i] for i in batch], rows, length)
        for index, (logprobs, argmax_ids) in zip(batch, rated, strict=True):
            first = len(items[index][0])
            scores[index] = Score(logprobs[first:], argmax_ids[first:])
    return [scores[index] for index in range(len(items))]


def _rate_choices(
    params: Params, config: GemmaConfig, asked: Sequence[tuple[np.ndarray, Sequence[int]]]
) -> list[list[Score]]:
    """Rate, after each prompt, each of several tokens."""
    found: dict[int, list[Score]] = {}
    width = round_rows(max((len(tokens) for _, tokens in asked), default=1))
    for batch, rows, length in _divide([len(prompt) for prompt, _ in asked], config.max_positions):
        ids, lengths = _pad([asked[i][0] for i in batch], rows, length)
        tokens = np.zeros((rows, width), np.int32)
        for row, index in enumerate(batch):
            tokens[row, : len(asked[index][1])] = asked[index][1]
        rated = rate_choices(params, config, jnp.asarray(ids), jnp.asarray(lengths), jnp.asarray(tokens))
        logprobs, argmax_ids = (np.asarray(part) for part in rated)
        for row, index in enumerate(batch):
            best = argmax_ids[row : row + 1]
            found[index] = [Score(logprobs[row, k : k + 1], best) for k in range(len(asked[index][1]))]
    return [found[index] for index in range(len(asked))]


def _divide(lengths: Sequence[int], limit: int) -> Iterator[tuple[list[int], int, int]]:
    """Divide rows into batches of like length: their numbers, and the rows and tokens of the batch's shape."""
    shapes: dict[int, list[int]] = {}
    for index, tokens in enumerate(lengths):
        shapes.setdefault(round_up(tokens, limit), []).append(index)
    for length, members in shapes.items():
        rows = min(max(1, _MAX_BATCH_TOKENS // length), round_rows(len(members)))
        for start in range(0, len(members), rows):
            yield members[start : start + rows], rows, length


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
