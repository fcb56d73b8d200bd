"""Adapters beside frozen weights compute what the merged weights compute, gradients included."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.model.oracle import SHAPES

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.formats.parts import Part
from codegemma.model.formats.peft import TARGETS, shape_target
from codegemma.model.gemma import Params, compute_logits, forward, forward_cached, init_cache, init_params
from codegemma.model.layers import STACKED_NAMES
from codegemma.model.lora import Adapters, attach, init_adapters
from codegemma.model.quantize import Bits, quantize_params, widen

SCALE = 0.5
STACKS = {"q": ("q", ()), "k": ("kv", (0,)), "v": ("kv", (1,)), "o": ("o", ()), "gate": ("gate_up", (0,)),
          "up": ("gate_up", (1,)), "down": ("down", ())}  # fmt: skip


def draw_adapters(config: GemmaConfig, targets: tuple[str, ...] = TARGETS, rank: int = 3) -> Adapters:
    """Draw adapters of which no matrix is zero."""
    fresh = init_adapters(config, rank, targets, jax.random.key(7))
    return {
        t: pair | {"b": 0.1 * jax.random.normal(jax.random.key(n), pair["b"].shape)}
        for n, (t, pair) in enumerate(fresh.items())
    }


def merge(params: Params, adapters: Adapters) -> Params:
    """Add the products to the matrices: what adapters must equal, written another way."""
    merged = dict(params)
    for target, pair in adapters.items():
        stack, pair_at = STACKS[target]
        added = SCALE * jnp.einsum("nir,nro->nio", pair["a"], pair["b"])
        at = (slice(None), *pair_at)
        merged[stack] = merged[stack].at[at].add(added.reshape(merged[stack][at].shape))
    return merged


def compute(params: Params, config: GemmaConfig, **options: Any) -> jax.Array:
    options = {"unroll": False, **options}
    ids = jax.random.randint(jax.random.key(5), (2, 12), 0, config.vocab_size)
    positions = jnp.broadcast_to(jnp.arange(12), ids.shape)
    hidden = forward(params, config, ids, jnp.ones_like(ids), positions, Execution(**options))
    return compute_logits(params, hidden)


def test_fresh_adapters_change_no_bit() -> None:
    config = dataclasses.replace(SHAPES["mqa"], num_layers=1)
    params = init_params(config, jax.random.key(0))
    fresh = init_adapters(config, 4, TARGETS, jax.random.key(1))
    # Operation by operation: a compiler that fuses one more of them may round others in another order.
    with jax.disable_jit():
        alone, beside = (compute(p, config, compute_dtype="bfloat16") for p in (params, attach(params, fresh, SCALE)))
    np.testing.assert_array_equal(alone, beside)


@pytest.mark.parametrize("shape", ["mqa", "mha_wide"])
def test_adapters_compute_what_merged_weights_compute(shape: str) -> None:
    config = SHAPES[shape]
    params, adapters = init_params(config, jax.random.key(0)), draw_adapters(config)
    merged = compute(merge(params, adapters), config)
    assert float(jnp.abs(merged - compute(params, config)).max()) > 0.01
    np.testing.assert_allclose(compute(attach(params, adapters, SCALE), config), merged, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("targets", "remat"), [(TARGETS, "none"), (("q", "v"), "full"), (("k", "up"), "qkvo"), (("down", "o"), "none")]
)
def test_gradients_are_those_of_merged_weights(targets: tuple[str, ...], remat: str) -> None:
    config = SHAPES["grouped"]
    params, adapters = init_params(config, jax.random.key(0)), draw_adapters(config, targets)

    def rate(adapters: Adapters, is_merged: bool) -> jax.Array:
        whole = merge(params, adapters) if is_merged else attach(params, adapters, SCALE)
        return jnp.sum(jnp.sin(compute(whole, config, remat=remat)))

    ours, expected = (jax.jit(jax.grad(rate), static_argnums=1)(adapters, merged) for merged in (False, True))
    for name, pair in expected.items():
        for side, slope in pair.items():
            tolerance = 2e-5 * float(jnp.abs(slope).max()) + 1e-6
            np.testing.assert_allclose(ours[name][side], slope, atol=tolerance, rtol=0)


def test_reading_through_the_cache_heeds_adapters() -> None:
    config = SHAPES["mqa"]
    params = attach(init_params(config, jax.random.key(0)), draw_adapters(config), SCALE)
    ids = jax.random.randint(jax.random.key(5), (2, 12), 0, config.vocab_size)
    hidden, _ = forward_cached(
        params,
        config,
        ids,
        jnp.broadcast_to(jnp.arange(12), ids.shape),
        jnp.array([[1], [0]]),
        init_cache(config, 2, 12),
    )
    np.testing.assert_allclose(compute_logits(params, hidden), compute(params, config), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bits", [8, 4])
def test_adapters_hang_on_integers_as_on_the_floats_that_these_stand_for(bits: Bits) -> None:
    pytest.importorskip("qwix", reason="the extra quant is not installed: make setup-dev")
    config, adapters = SHAPES["mqa"], draw_adapters(SHAPES["mqa"])
    integers = quantize_params(init_params(config, jax.random.key(0)), bits)
    floats = {name: widen(value) for name, value in integers.items()}
    assert all(not isinstance(integers[name], jax.Array) for name in STACKED_NAMES if "norm" not in name)
    np.testing.assert_allclose(
        compute(attach(integers, adapters, SCALE), config), compute(merge(floats, adapters), config), atol=1e-4, rtol=0
    )


def test_dropout_leaves_out_its_share_anew_for_each_key_and_nothing_without_one() -> None:
    config = SHAPES["mqa"]
    params, adapters = init_params(config, jax.random.key(0)), draw_adapters(config, ("down",))

    @jax.jit
    def drop(key: jax.Array) -> jax.Array:
        return compute(attach(params, adapters, SCALE, 0.3, key), config)

    drawn = [drop(jax.random.key(n)) for n in range(100)]
    np.testing.assert_array_equal(drawn[0], drop(jax.random.key(0)))
    assert float(jnp.abs(drawn[0] - drawn[1]).max()) > 1e-3
    plain = compute(attach(params, adapters, SCALE), config)
    np.testing.assert_array_equal(compute(attach(params, adapters, SCALE, 0.3), config), plain)
    assert float(jnp.abs(jnp.mean(jnp.stack(drawn), axis=0) - plain).mean()) < 0.03


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_inputs_and_outputs_of_its_part(target: str) -> None:
    config = SHAPES["mqa"]
    stack, at = STACKS[target]
    inputs, outputs = shape_target(config, target)
    assert inputs * outputs == init_params(config, jax.random.key(0))[stack][(0, *at)].size
    assert str(Part(stack, (0, *at)))
