"""Penalties as their definitions say them, one token after the other: the reference for both engines."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from codegemma.records import Sampling


def penalise(logits: np.ndarray, ids: Sequence[int], sampling: Sampling) -> np.ndarray:
    """Repetition of Keskar et al. (2019), presence and frequency of OpenAI's documentation, biases first."""
    changed = logits.astype(np.float64)
    for token_id, added in sampling.logit_bias:
        changed[token_id] += added
    last = len(ids) if sampling.penalized_tokens is None else sampling.penalized_tokens
    for token_id, count in Counter(ids[len(ids) - min(last, len(ids)) :]).items():
        is_likely = changed[token_id] > 0
        changed[token_id] *= 1 / sampling.repetition_penalty if is_likely else sampling.repetition_penalty
        changed[token_id] -= sampling.presence_penalty + count * sampling.frequency_penalty
    return changed
