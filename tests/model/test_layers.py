"""Layers laid out one by one give what a stack of them gives."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params, forward, forward_cached, init_cache, init_params
from codegemma.model.layers import take_apart
from codegemma.model.lora import attach, init_adapters

CONFIG = GemmaConfig(48, 32, 3, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=40, max_positions=64)
IDS = jnp.arange(20).reshape(2, 10) % 48
ONES = jnp.ones_like(IDS)
POSITIONS = jnp.broadcast_to(jnp.arange(10), IDS.shape)
TABLES = jnp.arange(6).reshape(2, 3)


def make_params(kv_heads: int, *, has_adapters: bool) -> tuple[Params, GemmaConfig]:
    config = replace(CONFIG, num_kv_heads=kv_heads)
    params = init_params(config, jax.random.key(0))
    if not has_adapters:
        return params, config
    adapters = init_adapters(config, 4, ("q", "v", "gate", "down"), jax.random.key(1))
    return attach(params, jax.tree.map(lambda leaf: leaf + 0.1, adapters), 0.5), config


@pytest.mark.parametrize("has_adapters", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_layers_apart_compute_what_a_stack_does(kv_heads: int, has_adapters: bool) -> None:
    params, config = make_params(kv_heads, has_adapters=has_adapters)
    apart = take_apart(params)
    assert "q" not in apart
    assert apart["emb"] is params["emb"]
    whole = forward(params, config, IDS, ONES, POSITIONS)
    np.testing.assert_allclose(forward(apart, config, IDS, ONES, POSITIONS), whole, rtol=2e-5, atol=2e-6)
    caches = []
    for some in (params, apart):
        read, cache = forward_cached(some, config, IDS, POSITIONS, TABLES, init_cache(config, 6, 4))
        np.testing.assert_allclose(read, whole, rtol=2e-5, atol=2e-6)
        caches.append(cache)
    np.testing.assert_allclose(caches[1].keys, caches[0].keys, rtol=2e-5, atol=2e-6)


def test_deep_and_quantised_models_stay_stacked() -> None:
    params = init_params(replace(CONFIG, num_layers=9), jax.random.key(0))
    assert take_apart(params) is params
    integers = init_params(CONFIG, jax.random.key(0)) | {"down": {"q": np.zeros(3, np.int8)}}
    assert take_apart(integers) is integers
