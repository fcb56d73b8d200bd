"""Refuses what no engine can answer, before anything is queued.

**In**: a `Generation`, the size of the vocabulary and of the window.
**Out**: nothing, or an error that names the field.
**Not**: what one engine lacks; it says so itself. Nothing here knows JAX.
"""

import math

from codegemma.errors import InputError
from codegemma.records import Generation, Sampling

# As many rivals of a token as anybody may ask for.
MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 64


def check_generation(generation: Generation, vocab_size: int, max_context_tokens: int) -> None:
    """Check every field's range.

    Raises:
        InputError: a field out of its range, an id outside the vocabulary, a prompt that is empty or beyond the window.
    """
    ids = generation.prompt_ids
    if not ids:
        raise InputError("the prompt is empty: it holds at least <bos>")
    if len(ids) > max_context_tokens:
        raise InputError(f"{len(ids)} tokens do not fit: the model's window is {max_context_tokens} tokens")
    wrong = next((token_id for token_id in ids if not 0 <= token_id < vocab_size), None)
    if wrong is not None:
        raise InputError(f"token id {wrong} is outside the vocabulary: 0 to {vocab_size - 1}")
    top = generation.top_logprobs
    _check(
        generation,
        ("max_new_tokens", generation.max_new_tokens >= 0, "at least 0"),
        ("choices", 1 <= generation.choices <= MAX_CHOICES, f"1 to {MAX_CHOICES}"),
        ("top_logprobs", top is None or 0 <= top <= MAX_TOP_LOGPROBS, f"0 to {MAX_TOP_LOGPROBS}"),
        ("prompt_budget_s", _is_time(generation.prompt_budget_s), "a number of seconds, 0 or above"),
        ("new_budget_s", _is_time(generation.new_budget_s), "a number of seconds, 0 or above"),
    )
    check_sampling(generation.sampling, vocab_size)


def check_sampling(sampling: Sampling, vocab_size: int) -> None:
    """Check how tokens are to be chosen.

    Raises:
        InputError: a value out of its range.
    """
    _check(
        sampling,
        ("temperature", 0 <= sampling.temperature < math.inf, "0 (greedy) or above"),
        ("top_k", sampling.top_k is None or sampling.top_k >= 1, "at least 1"),
        ("top_p", sampling.top_p is None or 0 < sampling.top_p <= 1, "above 0, at most 1"),
        ("min_p", sampling.min_p is None or 0 <= sampling.min_p <= 1, "0 to 1"),
        ("repetition_penalty", 0 < sampling.repetition_penalty < math.inf, "above 0"),
        ("presence_penalty", math.isfinite(sampling.presence_penalty), "a finite number"),
        ("frequency_penalty", math.isfinite(sampling.frequency_penalty), "a finite number"),
        ("penalized_tokens", sampling.penalized_tokens is None or sampling.penalized_tokens >= 0, "0 or above"),
    )
    for token_id, added in sampling.logit_bias:
        if not 0 <= token_id < vocab_size or math.isnan(added) or added == math.inf:
            raise InputError(
                f"logit_bias {added} of token {token_id} is out of range: ids 0 to {vocab_size - 1}, finite"
            )


def _check(record: object, *rules: tuple[str, bool, str]) -> None:
    for name, is_right, wanted in rules:
        if not is_right:
            raise InputError(f"{name} {getattr(record, name)} is out of range: {wanted}")


def _is_time(seconds: float | None) -> bool:
    return seconds is None or seconds >= 0
