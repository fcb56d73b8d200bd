"""The network equals transformers' Gemma, however its rows are packed, cached or unrolled."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from tests.model.oracle import SHAPES, compute_oracle_logits, make_oracle

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Params, compute_logits, forward, forward_cached, init_cache, init_params
from codegemma.model.weights import load_model

MQA = SHAPES["mqa"]


def draw_ids(config: GemmaConfig, rows: int, tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, config.vocab_size, (rows, tokens)).astype(np.int32)


def read_rows(params: Params, config: GemmaConfig, ids: np.ndarray, **options: object) -> np.ndarray:
    """Read whole rows of one segment each and return their logits."""

    def read(params: Params, ids: jax.Array) -> jax.Array:
        positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
        hidden = forward(params, config, ids, jnp.ones_like(ids), positions, Execution(**options))  # type: ignore[arg-type]
        return compute_logits(params, hidden)

    return np.asarray(jax.jit(read)(params, jnp.asarray(ids)))


def load_oracle(shape: str, folder: Path) -> tuple[object, Params, GemmaConfig]:
    model = make_oracle(SHAPES[shape])
    model.save_pretrained(folder)
    params, config = load_model(folder)
    return model, params, config


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_those_of_transformers(shape: str, tmp_path: Path) -> None:
    model, params, config = load_oracle(shape, tmp_path)
    ids = draw_ids(config, 3, 24)
    ours, theirs = read_rows(params, config, ids), compute_oracle_logits(model, ids)
    assert np.abs(theirs).max() > 1.0
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", ["mqa", "mha_wide"])
def test_greedy_continuation_equals_that_of_transformers_token_for_token(shape: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model, params, config = load_oracle(shape, tmp_path)
    prompt, new_tokens = draw_ids(config, 2, 7, seed=3), 20
    theirs = model.generate(  # type: ignore[attr-defined]
        torch.from_numpy(prompt.astype(np.int64)),
        attention_mask=torch.ones(prompt.shape, dtype=torch.int64),
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=None,
        pad_token_id=0,
    ).numpy()
    # Pages of 9 tokens, in no order.
    tables = jnp.array([[5, 0, 3], [1, 4, 2]])
    step = jax.jit(lambda ids, positions, cache: forward_cached(params, config, ids, positions, tables, cache))
    positions = jnp.broadcast_to(jnp.arange(7), (2, 7))
    hidden, cache = step(jnp.asarray(prompt), positions, init_cache(config, 6, 9))
    ours = [prompt]
    for position in range(7, 7 + new_tokens):
        token = jnp.argmax(compute_logits(params, hidden[:, -1:]), axis=-1)
        ours.append(np.asarray(token))
        hidden, cache = step(token, jnp.full((2, 1), position), cache)
    np.testing.assert_array_equal(np.concatenate(ours, axis=1), theirs)


@pytest.mark.parametrize(("unroll", "remat"), [(False, "none"), (2, "full"), (False, "qkvo")])
def test_unrolling_and_recomputation_change_nothing(unroll: bool | int, remat: str) -> None:
    params, ids = init_params(MQA, jax.random.key(0)), draw_ids(MQA, 2, 16)
    np.testing.assert_allclose(
        read_rows(params, MQA, ids, unroll=unroll, remat=remat), read_rows(params, MQA, ids), atol=1e-5, rtol=0
    )


def test_two_packs_in_one_row_read_as_each_alone() -> None:
    params = init_params(MQA, jax.random.key(1))
    first, second = draw_ids(MQA, 1, 9, seed=1), draw_ids(MQA, 1, 14, seed=2)
    padding = np.zeros((1, 9), np.int32)
    ids = jnp.asarray(np.concatenate([first, second, padding], axis=1))
    segments = jnp.asarray(np.repeat([[1, 2, 0]], [9, 14, 9], axis=1))
    positions = jnp.asarray(np.concatenate([np.arange(9), np.arange(14), np.zeros(9, int)])[None])
    logits = np.asarray(compute_logits(params, forward(params, MQA, ids, segments, positions)))
    np.testing.assert_allclose(logits[:, :9], read_rows(params, MQA, first), atol=1e-5, rtol=0)
    np.testing.assert_allclose(logits[:, 9:23], read_rows(params, MQA, second), atol=1e-5, rtol=0)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_through_the_cache_equals_reading_whole_rows_of_different_length(shape: str) -> None:
    config = SHAPES[shape]
    params, lengths, total = init_params(config, jax.random.key(2)), np.array([3, 8, 5]), 14
    ids = draw_ids(config, 3, total, seed=4)
    whole = read_rows(params, config, ids)
    # Prefill: short rows carry arbitrary filler where their prompt has ended.
    prompt = np.where(np.arange(8) < lengths[:, None], ids[:, :8], 7)
    cache = init_cache(config, 7, 5)
    tables = jnp.array([[6, 0, 3], [1, 4, 2], [5, 7, 7]])  # the last row has one page; there is no page 7
    total_of_row = np.array([total, total, 5])
    read = jax.jit(lambda ids, positions, cache: forward_cached(params, config, ids, positions, tables, cache))
    hidden, cache = read(jnp.asarray(prompt), jnp.broadcast_to(jnp.arange(8), (3, 8)), cache)
    last = np.asarray(compute_logits(params, hidden))[np.arange(3), lengths - 1]
    np.testing.assert_allclose(last, whole[np.arange(3), lengths - 1], atol=1e-5, rtol=0)
    # Decode: each row goes on from its own length; what has no page is stored nowhere.
    for step in range(total):
        at = lengths + step
        tokens = ids[np.arange(3), np.minimum(at, total - 1)][:, None]
        hidden, cache = read(jnp.asarray(tokens), jnp.asarray(at)[:, None], cache)
        logits = np.asarray(compute_logits(params, hidden))[:, 0]
        live = at < total_of_row
        np.testing.assert_allclose(
            logits[live], whole[np.arange(3), np.minimum(at, total - 1)][live], atol=1e-5, rtol=0
        )


def test_bfloat16_products_stay_near_float32() -> None:
    params, ids = init_params(MQA, jax.random.key(0)), draw_ids(MQA, 2, 16)
    exact, rounded = read_rows(params, MQA, ids), read_rows(params, MQA, ids, compute_dtype=jnp.bfloat16)
    assert 1e-6 < np.abs(exact - rounded).max() < 0.1


def test_wrong_shape_is_refused() -> None:
    params, ids = init_params(MQA, jax.random.key(0)), jnp.zeros((2, 8), jnp.int32)
    with pytest.raises(TypeCheckError):
        forward(params, MQA, ids, jnp.ones((2, 9), jnp.int32), ids)
