"""One layer of the published widths equals transformers', in float32 and in bfloat16; what we write, it generates with.

The vocabulary is cut to 1,024 rows: a layer's mathematics does not depend on it, and the embedding's 2 GB would.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.model.oracle import compute_oracle_logits, make_oracle
from tests.model.test_gemma import draw_ids, read_rows

from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.execution import Execution
from codegemma.model.formats import huggingface
from codegemma.model.formats.table import open_weights
from codegemma.model.gemma import Params, compute_logits, forward
from codegemma.model.weights import load_model

torch = pytest.importorskip("torch", reason="the independent reference needs torch: make setup-dev")

MODELS = [
    pytest.param(codegemma_2b, id="2b"),
    pytest.param(codegemma_7b, id="7b", marks=pytest.mark.slow),  # 1.1 GB of float32, three times
]
# Sums of 16,384 and 24,576 products in another order, on logits up to 45: in float32 2e-5 was measured. In bfloat16
# both round what stands between operations, at other places, and theirs are bfloat16 themselves: a step is 2**-7.
TOLERANCES = {"float32": (5e-5, 0.0), "bfloat16": (0.06, 2**-7)}  # absolute, relative


def narrow(shape: Any) -> GemmaConfig:
    """Keep one layer and a small vocabulary."""
    config: GemmaConfig = dataclasses.replace(shape(), num_layers=1, vocab_size=1024)
    return config


def compute_ours(folder: Path, ids: np.ndarray, dtype: str) -> np.ndarray:
    params, config = load_model(folder)
    execution = Execution(compute_dtype=jnp.dtype(dtype), activation_dtype=jnp.dtype(dtype))
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)

    @jax.jit
    def read(params: Any, ids: jax.Array) -> jax.Array:
        hidden = forward(params, config, ids, jnp.ones_like(ids), positions, execution)
        return compute_logits(params, hidden, execution.compute_dtype)

    return np.asarray(read(params, jnp.asarray(ids)), np.float32)


@pytest.mark.parametrize("shape", MODELS)
def test_one_layer_of_real_width_equals_that_of_transformers(shape: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference needs transformers: make setup-dev")
    config = narrow(shape)
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
        np.testing.assert_allclose(ours, theirs, atol=absolute, rtol=relative, err_msg=dtype)
    # bfloat16 of ours is no further from the exact logits than bfloat16 of theirs.
    assert np.abs(ours - exact).mean() < 1.5 * np.abs(rounded - exact).mean() + 1e-3


def test_weights_in_16_bits_compute_in_float32_what_their_floats_do() -> None:
    """What a 2B is completed with on a CPU: bfloat16 in memory, a layer and some rows of the output widened."""
    config = dataclasses.replace(narrow(codegemma_2b), vocab_size=16_384, mlp_dim=512)
    key = jax.random.key(0)
    params: Params = {
        name: 0.02 * jax.random.normal(key, shape, jnp.bfloat16) for name, shape in config.shape_params().items()
    }
    widened = {name: value.astype(jnp.float32) for name, value in params.items()}
    ids = draw_ids(config, 1, 12)
    np.testing.assert_allclose(read_rows(params, config, ids), read_rows(widened, config, ids), atol=1e-6, rtol=0)


def test_a_large_model_is_read_in_the_type_it_is_stored_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.model.drawn import MQA, write_drawn

    write_drawn(tmp_path / "model", "hf", MQA, is_finite=True)
    assert load_model(tmp_path / "model", None)[0]["emb"].dtype == jnp.float32
    monkeypatch.setattr("codegemma.model.weights.MAX_WIDENED_BYTES", 4 * MQA.count_parameters() - 1)
    assert {value.dtype for value in load_model(tmp_path / "model", None)[0].values()} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("max_file_bytes", [60_000_000, huggingface.MAX_FILE_BYTES])
def test_transformers_generates_the_same_with_what_we_write(max_file_bytes: int, tmp_path: Path) -> None:
    """At the width of 2B, in one file and divided, each with its index."""
    transformers = pytest.importorskip("transformers")
    config = dataclasses.replace(narrow(codegemma_2b), mlp_dim=1024)
    model = make_oracle(config, seed=3)
    model.save_pretrained(tmp_path / "theirs")
    weights = open_weights(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    huggingface.write_weights(tmp_path / "ours", weights, weights.dtype, max_file_bytes)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) == (1 if max_file_bytes > 10**9 else 2)
    again = transformers.GemmaForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    prompt = torch.from_numpy(draw_ids(config, 2, 7, seed=3).astype(np.int64))
    options = {"do_sample": False, "max_new_tokens": 16, "attention_mask": torch.ones_like(prompt)}
    assert torch.equal(again.generate(prompt, **options), model.generate(prompt, **options))
