"""One layer of 2B and of 7B at its real width equals transformers', in float32 and in bfloat16.

The vocabulary is cut: its rows are alike, and 256,000 of them would be most of the arithmetic.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.model.oracle import compute_oracle_logits, make_oracle

from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.execution import Execution
from codegemma.model.gemma import compute_logits, forward
from codegemma.model.weights import load_model

WIDTHS = {"2b": codegemma_2b(), "7b": codegemma_7b()}
# Logits reach 45. In bfloat16 both round what stands between operations, at other places, and theirs are bfloat16
# themselves: a step is 2**-7 of a number.
TOLERANCES = {"float32": (2e-4, 0.0), "bfloat16": (0.06, 2**-7)}  # absolute, relative


def compute_ours(folder: Path, ids: np.ndarray, dtype: str) -> np.ndarray:
    params, config = load_model(folder)
    execution = Execution(compute_dtype=jnp.dtype(dtype), activation_dtype=jnp.dtype(dtype))
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)

    @jax.jit
    def read(params: Any, ids: jax.Array) -> jax.Array:
        hidden = forward(params, config, ids, jnp.ones_like(ids), positions, execution)
        return compute_logits(params, hidden, execution.compute_dtype)

    return np.asarray(read(params, jnp.asarray(ids)), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("size", WIDTHS)
def test_one_layer_of_real_width_equals_that_of_transformers(size: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the independent reference needs torch: make setup-dev")
    transformers = pytest.importorskip("transformers", reason="the reference needs transformers: make setup-dev")
    config: GemmaConfig = dataclasses.replace(WIDTHS[size], num_layers=1, vocab_size=512)
    model = make_oracle(config)
    with torch.no_grad():
        for parameter in model.parameters():  # to what bfloat16 holds, so that both types mean the same model
            parameter.copy_(parameter.bfloat16().float())
    model.save_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (1, 24)).astype(np.int32)
    exact = compute_oracle_logits(model, ids)
    # Loaded, not converted: converting rounds the rotary wavelengths too.
    half = transformers.GemmaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, attn_implementation="eager")
    with torch.no_grad():
        rounded = half.eval()(torch.from_numpy(ids.astype(np.int64))).logits.float().numpy()
    for dtype, theirs in (("float32", exact), ("bfloat16", rounded)):
        ours = compute_ours(tmp_path, ids, dtype)
        assert np.abs(theirs).max() > 1.0
        absolute, relative = TOLERANCES[dtype]
        np.testing.assert_allclose(ours, theirs, atol=absolute, rtol=relative, err_msg=f"{size} {dtype}")
    # bfloat16 of ours is no further from the exact logits than bfloat16 of theirs.
    assert np.abs(ours - exact).mean() < 1.5 * np.abs(rounded - exact).mean() + 1e-3
