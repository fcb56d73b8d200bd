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
from tests.model.oracle import make_oracle
from tests.model.test_gemma import draw_ids, read_rows

from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.formats import huggingface
from codegemma.model.formats.table import open_weights
from codegemma.model.gemma import Params
from codegemma.model.weights import load_model

torch = pytest.importorskip("torch", reason="the independent reference needs torch: make setup-dev")

MODELS = [
    pytest.param(codegemma_2b, id="2b"),
    pytest.param(codegemma_7b, id="7b", marks=pytest.mark.slow),  # 1.1 GB of float32, three times
]
# Sums of 16,384 and 24,576 products in another order, on logits up to 44: measured 1.9e-5 for 2B, 1.5e-5 for 7B.
FLOAT32_TOLERANCE = 5e-5
# Eight bits of mantissa, rounded at other places than theirs: measured 0.12 for 2B, 0.14 for 7B.
BFLOAT16_TOLERANCE = 0.25


def narrow(shape: Any) -> GemmaConfig:
    """Keep one layer and a small vocabulary."""
    config: GemmaConfig = dataclasses.replace(shape(), num_layers=1, vocab_size=1024)
    return config


def compute_theirs(model: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(ids.astype(np.int64))).logits.float().numpy()
    return logits


@pytest.mark.parametrize("shape", MODELS)
def test_a_layer_of_real_width_equals_that_of_transformers(shape: Any, tmp_path: Path) -> None:
    config = narrow(shape)
    model = make_oracle(config)
    model.save_pretrained(tmp_path)
    ids = draw_ids(config, 2, 24)
    exact = compute_theirs(model, ids)
    params, found = load_model(tmp_path)
    assert found == config
    np.testing.assert_allclose(read_rows(params, config, ids), exact, atol=FLOAT32_TOLERANCE, rtol=0)

    theirs = compute_theirs(model.to(torch.bfloat16), ids)
    del model
    rounded = {name: value.astype(jnp.bfloat16) for name, value in params.items()}
    del params
    ours = read_rows(rounded, config, ids, compute_dtype=jnp.bfloat16, activation_dtype=jnp.bfloat16)
    np.testing.assert_allclose(ours, theirs, atol=BFLOAT16_TOLERANCE, rtol=0)
    # Neither is the truth: ours is as near to it as theirs.
    assert np.linalg.norm(ours - exact) < 1.05 * np.linalg.norm(theirs - exact)


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
