"""Integer weights: near the floats that they stand for, read by the same model, kept bit for bit."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.formats.integers import write_weights
from codegemma.model.formats.parts import DTYPES, Part, Weights
from codegemma.model.gemma import Params, compute_logits, forward, forward_cached, init_cache, init_params
from codegemma.model.quantize import Bits, load_quantized, quantize_params, widen
from codegemma.model.weights import load_model
from codegemma.model.write import convert
from codegemma.records import Request
from codegemma.text.tokenizer import Tokenizer

pytest.importorskip("qwix", reason="the extra quant is not installed: make setup-dev")

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
# Widths that no group of 128 divides, an odd number of integers, and more query heads than keys.
CONFIG = GemmaConfig(513, 60, 2, num_heads=4, num_kv_heads=2, head_dim=6, mlp_dim=150, max_positions=64)
WIDTHS: list[Bits] = [8, 4]


def draw_params() -> Params:
    params = init_params(CONFIG, jax.random.key(1))
    return {name: value + 0.05 * jax.random.normal(jax.random.key(2), value.shape) for name, value in params.items()}


def draw_ids() -> tuple[jax.Array, jax.Array]:
    ids = jax.random.randint(jax.random.key(3), (2, 20), 0, CONFIG.vocab_size)
    return ids, jnp.broadcast_to(jnp.arange(20), ids.shape)


def widen_all(params: Params) -> Params:
    return {name: widen(value) for name, value in params.items()}


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (4, 0.13)])
def test_every_matrix_is_near_its_floats_and_norms_are_untouched(bits: Bits, error: float) -> None:
    floats = draw_params()
    for name, value in widen_all(quantize_params(floats, bits)).items():
        if "norm" in name:
            np.testing.assert_array_equal(value, floats[name])
        else:
            assert value.shape == floats[name].shape
            assert jnp.linalg.norm(value - floats[name]) < error * jnp.linalg.norm(floats[name]), name


def test_no_number_is_further_off_than_half_a_step_of_its_own_output() -> None:
    floats = np.asarray(draw_params()["down"])
    steps = np.abs(floats).max(axis=1, keepdims=True) / 127
    off = np.asarray(widen(quantize_params(draw_params(), 8)["down"])) - floats
    assert (np.abs(off) <= 0.501 * steps).all()


def test_no_number_is_further_off_than_a_step_of_its_own_group() -> None:
    # The largest divisor of 150 inputs that is at most 32 is 30; an eighth of the largest number is a step.
    floats = np.asarray(draw_params()["down"]).reshape(2, 5, 30, 60)
    steps = np.abs(floats).max(axis=2, keepdims=True) / 8
    off = np.asarray(widen(quantize_params(draw_params(), 4)["down"])).reshape(floats.shape) - floats
    assert (np.abs(off) <= 1.01 * steps).all()
    # Only what is as far from 0 as the furthest, on the other side, is more than half a step off.
    assert (np.abs(off) <= 0.52 * steps).mean() > 0.98


def test_group_of_zeros_stays_zeros() -> None:
    params = {name: jnp.zeros_like(value) for name, value in draw_params().items()}
    for bits in WIDTHS:
        assert all(not jnp.any(value) for value in widen_all(quantize_params(params, bits)).values())


@pytest.mark.parametrize("bits", WIDTHS)
def test_model_computes_what_the_widened_weights_would(bits: Bits) -> None:
    integers = quantize_params(draw_params(), bits)
    ids, positions = draw_ids()
    ours = compute_logits(integers, forward(integers, CONFIG, ids, jnp.ones_like(ids), positions))
    widened = widen_all(integers)
    plain = compute_logits(widened, forward(widened, CONFIG, ids, jnp.ones_like(ids), positions))
    np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("bits", WIDTHS)
def test_reading_through_the_cache_gives_the_same(bits: Bits) -> None:
    integers = quantize_params(draw_params(), bits)
    ids, positions = draw_ids()
    whole = forward(integers, CONFIG, ids, jnp.ones_like(ids), positions)
    cached, _ = forward_cached(integers, CONFIG, ids, positions, jnp.array([[2], [0]]), init_cache(CONFIG, 3, 20))
    np.testing.assert_allclose(cached, whole, atol=1e-4)


def test_engine_completes_with_integer_weights() -> None:
    params, config = load_model(BASE)
    engine = GeneratorCompleter(Engine(quantize_params(params, 8), config, Tokenizer.load(BASE)))
    floats = GeneratorCompleter(Engine(params, config, Tokenizer.load(BASE)))
    request = Request(
        "import json\n\n\ndef load(path):\n    with open(path) as file:\n        return ", "\n", max_new_tokens=8
    )
    assert engine.complete_all([request])[0].token_ids == floats.complete_all([request])[0].token_ids


def write_folder(folder: Path, bits: Bits, params: Params | None = None) -> Path:
    """Write the drawn model, its embedding in several blocks."""
    host = {name: np.asarray(value) for name, value in (params or draw_params()).items()}

    def read(part: Part, rows: slice) -> np.ndarray:
        array: np.ndarray = host[part.name][part.at][rows]
        return array

    weights = Weights(folder, "memory", CONFIG, DTYPES["f32"], read)
    folder.mkdir(exist_ok=True)
    write_weights(folder, weights, bits)
    return folder


@pytest.mark.parametrize("bits", WIDTHS)
def test_folder_gives_back_integers_and_scales_bit_for_bit(
    bits: Bits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegemma.model.formats.parts.BLOCK_BYTES", 5000)
    integers = quantize_params(draw_params(), bits)
    loaded = load_quantized(write_folder(tmp_path / "model", bits))
    assert loaded is not None
    again, config = loaded
    assert config == CONFIG
    assert str(jax.tree.structure(integers)) == str(jax.tree.structure(again))
    for ours, came in zip(jax.tree.leaves(integers), jax.tree.leaves(again), strict=True):
        assert ours.dtype == came.dtype
        np.testing.assert_array_equal(ours, came)


@pytest.mark.parametrize("bits", WIDTHS)
def test_folder_is_read_everywhere_as_the_floats_that_it_stands_for(bits: Bits, tmp_path: Path) -> None:
    params, config = load_model(write_folder(tmp_path / "model", bits))
    assert config == CONFIG
    for name, value in widen_all(quantize_params(draw_params(), bits)).items():
        np.testing.assert_array_equal(params[name], value)


def test_four_bits_take_half_the_bytes_of_eight(tmp_path: Path) -> None:
    sizes = {}
    for bits in WIDTHS:
        stored = load_file(write_folder(tmp_path / str(bits), bits) / "integers.safetensors")
        sizes[bits] = sum(tensor.nbytes for name, tensor in stored.items() if ".values" in name and "emb" not in name)
    assert sizes[4] == sizes[8] / 2


def test_any_other_folder_is_no_folder_of_integers(tmp_path: Path) -> None:
    assert load_quantized(tmp_path) is None
    assert load_quantized(BASE) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q[1].values": None}, r"q\[1\]\.values is nothing"),
        ({"q[0].scales": np.zeros((1, 4, 5), np.float32)}, r"scales is \[1, 4, 5\] float32.*\[1, 4, 6\]"),
        ({"final_norm": np.zeros(60, np.float16)}, r"final_norm is \[60\] float16"),
    ],
)
def test_tensor_that_does_not_fit_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path, 8) / "integers.safetensors"
    tensors = load_file(path) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(InputError, match=message):
        load_quantized(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 500, -1])
def test_file_that_is_cut_off_is_refused(keep: int, tmp_path: Path) -> None:
    path = write_folder(tmp_path, 4) / "integers.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"integers\.safetensors is cut off"):
        load_quantized(tmp_path)


def test_folder_without_its_shape_is_refused(tmp_path: Path) -> None:
    (write_folder(tmp_path, 4) / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_quantized(tmp_path)


def test_numbers_that_are_not_finite_are_refused_with_their_part(tmp_path: Path) -> None:
    params = draw_params()
    params["down"] = params["down"].at[1, 2, 3].set(jnp.nan)
    with pytest.raises(InputError, match=r"down\[1\] holds numbers that are not finite"):
        write_folder(tmp_path, 8, params)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_converted_model_completes(dtype: str, tmp_path: Path) -> None:
    convert(BASE, tmp_path / "model", "qwix", dtype)
    engine = Engine.load(tmp_path / "model")
    assert not isinstance(engine.params["q"], jax.Array)
    request = Request("import json\n\n\ndef load(path):\n    ", "\n", max_new_tokens=4)
    assert GeneratorCompleter(engine).complete_all([request])[0].text
