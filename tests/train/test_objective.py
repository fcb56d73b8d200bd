"""The loss counts what the weights say, sees no other pack, and does not depend on how it is chunked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params, compute_logits, forward, init_params
from codegemma.train.objective import Rows, compute_loss

CONFIG = GemmaConfig(120, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=48)


def draw_rows(seed: int = 0, rows: int = 3, tokens: int = 16) -> Rows:
    rng = np.random.default_rng(seed)
    segments = np.repeat([[1, 2, 0]], [tokens // 2, tokens // 4, tokens - tokens // 2 - tokens // 4], axis=1)
    positions = np.concatenate([np.arange(n) for n in (tokens // 2, tokens // 4, tokens // 4)])[None]
    weights = np.where(np.broadcast_to(positions > 0, (rows, tokens)), rng.choice([0.0, 1.0, 3.0], (rows, tokens)), 0.0)
    return Rows(
        jnp.asarray(rng.integers(0, CONFIG.vocab_size, (rows, tokens)), jnp.int32),
        jnp.asarray(weights * (segments > 0), jnp.float32),
        jnp.broadcast_to(jnp.asarray(segments, jnp.int32), (rows, tokens)),
        jnp.broadcast_to(jnp.asarray(positions, jnp.int32), (rows, tokens)),
    )


@pytest.fixture(scope="module")
def params() -> Params:
    return init_params(CONFIG, jax.random.key(0))


def test_loss_is_the_weighted_mean_surprise(params: Params) -> None:

    rows = draw_rows()
    hidden = jax.jit(forward, static_argnums=1)(params, CONFIG, rows.ids, rows.segments, rows.positions)
    logits = compute_logits(params, hidden)
    surprise = -jax.nn.log_softmax(logits[:, :-1])[jnp.arange(3)[:, None], jnp.arange(15), rows.ids[:, 1:]]
    weights = rows.loss_weights[:, 1:]
    loss, metrics = jax.jit(lambda: compute_loss(params, CONFIG, rows))()
    np.testing.assert_allclose(loss, jnp.sum(weights * surprise) / jnp.sum(weights), rtol=1e-5)
    np.testing.assert_allclose(metrics["plain_cross_entropy"], jnp.mean(surprise, where=weights > 0), rtol=1e-5)
    assert metrics["predicted_tokens"] == jnp.sum(weights > 0)


def test_tokens_of_weight_zero_do_not_matter(params: Params) -> None:
    rows = draw_rows()
    last_of_first_pack = 7
    weights = rows.loss_weights.at[:, last_of_first_pack].set(0.0)
    other = rows.ids.at[:, last_of_first_pack].set(5)
    loss = jax.jit(lambda rows: compute_loss(params, CONFIG, rows)[0])
    first, second = (loss(rows._replace(ids=ids, loss_weights=weights)) for ids in (rows.ids, other))
    assert first == second


@pytest.mark.parametrize("chunk_tokens", [5, 16])
def test_loss_and_gradient_do_not_depend_on_the_chunk(params: Params, chunk_tokens: int) -> None:
    rows = draw_rows()

    def differentiate(chunk: int) -> tuple[jax.Array, Params]:
        value_and_gradient = jax.value_and_grad(
            lambda p: compute_loss(p, CONFIG, rows, chunk_tokens=chunk, z_loss=1e-2)[0]
        )
        value, gradient = jax.jit(value_and_gradient)(params)
        return value, gradient

    (whole, whole_gradient), (chunked, chunked_gradient) = differentiate(4096), differentiate(chunk_tokens)
    np.testing.assert_allclose(whole, chunked, rtol=1e-5)
    for name, gradient in whole_gradient.items():
        np.testing.assert_allclose(chunked_gradient[name], gradient, atol=1e-5)
        assert np.abs(gradient).max() > 0


def test_gradient_equals_finite_differences(params: Params) -> None:
    rows = draw_rows()
    loss = jax.jit(lambda p: compute_loss(p, CONFIG, rows, z_loss=1e-2)[0])
    gradient = jax.jit(jax.grad(loss))(params)
    for name, value in params.items():
        direction = jax.random.normal(jax.random.key(3), value.shape)
        step = 1e-2 / float(jnp.linalg.norm(direction))
        ahead, behind = (loss(params | {name: value + sign * step * direction}) for sign in (1, -1))
        slope = float((ahead - behind) / (2 * step))
        np.testing.assert_allclose(float(jnp.vdot(gradient[name], direction)), slope, rtol=0.03, atol=0.02)


def test_batch_without_any_prediction_has_no_loss(params: Params) -> None:
    rows = draw_rows()
    rows = rows._replace(loss_weights=jnp.zeros_like(rows.loss_weights))
    loss, metrics = jax.jit(lambda: compute_loss(params, CONFIG, rows))()
    assert loss == 0.0
    assert metrics["predicted_tokens"] == 0
