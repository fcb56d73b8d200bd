"""How the model rates tokens that are already there: log-probabilities without a full table of logits.

**In**: hidden states and the tokens that follow them.
**Out**: for each token its natural log-probability, and which token was the most probable in its place.
**Not**: weighting, averaging or generation.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Params, compute_logits, forward

# Tokens whose logits exist at the same time: 1,024 x 256,000 x 4 bytes is 1 GB.
_CHUNK_TOKENS = 1024


def score_tokens(
    params: Params,
    config: GemmaConfig,
    ids: Int[Array, "B L"],
    segments: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    execution: Execution = Execution(),  # noqa: B008 (frozen)
) -> tuple[Float[Array, "B L"], Int[Array, "B L"]]:
    """Rate each token given what stands before it in its row, beside the id that greedy decoding would write there.

    Entry 0 of a row is 0 and the row's own first id: nothing stands before it.

    The entry at the first token of a later segment rates it after the end of another pack: it means nothing.
    """
    hidden = forward(params, config, ids, segments, positions, execution)
    targets = jnp.roll(ids, -1, axis=1)
    rows = ids.size
    chunk = min(_CHUNK_TOKENS, rows)
    padding = -rows % chunk
    flat_hidden = jnp.pad(hidden.reshape(rows, -1), ((0, padding), (0, 0))).reshape(-1, chunk, config.embed_dim)
    flat_targets = jnp.pad(targets.reshape(rows), (0, padding)).reshape(-1, chunk)

    def rate(chunk: tuple[Float[Array, "C D"], Int[Array, " C"]]) -> tuple[Float[Array, " C"], Int[Array, " C"]]:
        logits = compute_logits(params, chunk[0])
        chosen = jnp.take_along_axis(logits, chunk[1][:, None], axis=-1)[:, 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1), jnp.argmax(logits, axis=-1)

    logprobs, argmax_ids = lax.map(rate, (flat_hidden, flat_targets))
    logprobs = logprobs.reshape(-1)[:rows].reshape(ids.shape)
    argmax_ids = argmax_ids.reshape(-1)[:rows].reshape(ids.shape)
    first = jnp.arange(ids.shape[1]) == 0
    return jnp.where(first, 0.0, jnp.roll(logprobs, 1, axis=1)), jnp.where(first, ids, jnp.roll(argmax_ids, 1, axis=1))


def score_choices(
    params: Params,
    config: GemmaConfig,
    ids: Int[Array, "B L"],
    lengths: Int[Array, " B"],
    choices: Int[Array, "B K"],
) -> tuple[Float[Array, "B K"], Int[Array, " B"]]:
    """Rate several tokens as the next one after each row of so many ids, beside the id that greedy decoding writes.

    The row is read once however many choices there are, and logits exist for its last token alone.
    """
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    hidden = forward(params, config, ids, segments, positions)
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    logits = compute_logits(params, last)
    chosen = jnp.take_along_axis(logits, choices, axis=-1)
    return chosen - jax.nn.logsumexp(logits, axis=-1, keepdims=True), jnp.argmax(logits, axis=-1)
