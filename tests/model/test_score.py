"""Scores are the log-softmax of the logits, whatever the chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.model.oracle import SHAPES

from codegemma.model import score
from codegemma.model.gemma import compute_logits, forward, init_params
from codegemma.model.score import score_tokens


@pytest.mark.parametrize("chunk_tokens", [7, 1024])
def test_scores_equal_the_log_softmax_of_the_logits(chunk_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "_CHUNK_TOKENS", chunk_tokens)
    config = SHAPES["mqa"]
    params = init_params(config, jax.random.key(0))
    ids = jnp.asarray(np.random.default_rng(0).integers(0, config.vocab_size, (2, 16)), jnp.int32)
    logits = _read(params, ids)
    expected = jax.nn.log_softmax(logits)[jnp.arange(2)[:, None], jnp.arange(15), ids[:, 1:]]
    ones, positions = jnp.ones_like(ids), jnp.broadcast_to(jnp.arange(16), (2, 16))
    logprobs, argmax_ids = jax.jit(score_tokens, static_argnums=1)(params, config, ids, ones, positions)
    np.testing.assert_allclose(logprobs[:, 1:], expected, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(argmax_ids[:, 1:], jnp.argmax(logits, -1)[:, :-1])
    assert np.all(np.asarray(logprobs)[:, 0] == 0)
    np.testing.assert_array_equal(argmax_ids[:, 0], ids[:, 0])


def _read(params: dict[str, jax.Array], ids: jax.Array) -> jax.Array:
    ones, positions = jnp.ones_like(ids), jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    return compute_logits(params, jax.jit(forward, static_argnums=1)(params, SHAPES["mqa"], ids, ones, positions))
