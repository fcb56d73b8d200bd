"""Chooses the next token of each row from its logits: greedy, or drawn with temperature, top-k and top-p.

**In**: logits of the rows' last tokens, and each row's own sampling values.
**Out**: one id a row. A row's draw depends on its own logits, seed and token count, never on its neighbours.
**Not**: stopping; penalties.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from codegemma.errors import InputError
from codegemma.records import Sampling


class RowSampling(NamedTuple):
    """How each row is drawn. Temperature 0 is greedy; `top_k` V and `top_p` 1 leave everything in."""

    temperature: Float[Array, " B"]
    top_k: Int[Array, " B"]
    top_p: Float[Array, " B"]
    seed: UInt[Array, " B"]


def gather_sampling(requests: Sequence[Sampling], vocab_size: int) -> RowSampling:
    """Collect the sampling values of requests, one row each; penalties and biases are refused.

    Raises:
        InputError: a value out of its range; the message names it.
    """
    for request in requests:
        if request != Sampling(request.temperature, request.top_k, request.top_p, seed=request.seed):
            raise InputError("min_p, repetition_penalty and logit_bias are not known to this engine: leave them out")
        if not 0 <= request.temperature < float("inf"):
            raise InputError(f"temperature {request.temperature} is out of range: 0 (greedy) or above")
        if request.top_k is not None and request.top_k < 1:
            raise InputError(f"top_k {request.top_k} is out of range: at least 1")
        if request.top_p is not None and not 0 < request.top_p <= 1:
            raise InputError(f"top_p {request.top_p} is out of range: above 0, at most 1")
    return RowSampling(
        jnp.asarray([r.temperature for r in requests], jnp.float32),
        jnp.asarray([min(r.top_k or vocab_size, vocab_size) for r in requests], jnp.int32),
        jnp.asarray([1.0 if r.top_p is None else r.top_p for r in requests], jnp.float32),
        jnp.asarray(np.asarray([r.seed % 2**32 for r in requests], np.uint32)),
    )


def choose_greedy(logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    """Take the most probable id; of equals, the lowest.

    >>> choose_greedy(jnp.array([[0.0, 2.0, 2.0]])).tolist()
    [1]
    """
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def choose_sampled(
    logits: Float[Array, "B V"], sampling: RowSampling, token_index: Int[Array, ""] | int
) -> Int[Array, " B"]:
    """Draw token number `token_index` of each row: temperature first, then top-k, then top-p (Holtzman et al., 2019).

    The most probable id always stays in. Ties are kept in the order of ids.

    >>> rows = gather_sampling([Sampling(temperature=1.0, top_k=1)], vocab_size=3)
    >>> choose_sampled(jnp.array([[0.0, 2.0, 1.0]]), rows, 0).tolist()
    [1]
    """
    return jax.vmap(_choose_row, in_axes=(0, 0, None))(logits, sampling, jnp.asarray(token_index, jnp.int32))


def _choose_row(logits: Float[Array, " V"], row: RowSampling, token_index: Int[Array, ""]) -> Int[Array, ""]:
    order = jnp.argsort(-logits, stable=True)
    ranked = logits[order] / jnp.maximum(row.temperature, 1e-6)
    in_top_k = jnp.arange(logits.size) < row.top_k
    shares = jax.nn.softmax(jnp.where(in_top_k, ranked, -jnp.inf))
    before = jnp.cumsum(shares) - shares
    is_kept = in_top_k & (before < row.top_p) & (shares > 0)
    noise = jax.random.gumbel(jax.random.fold_in(jax.random.key(row.seed), token_index), logits.shape)
    drawn = jnp.argmax(jnp.where(is_kept, ranked + noise, -jnp.inf))
    return order[jnp.where(row.temperature > 0, drawn, 0)].astype(jnp.int32)
