"""GGUF files: what keeps floats comes back bit for bit, and what cannot be written or read is named."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.errors import InputError, OutputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gguf import list_tensors, write_gguf
from codegemma.model.gguf_reader import read_gguf
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

CONFIG = GemmaConfig(512, 64, 2, num_heads=4, num_kv_heads=1, head_dim=32, mlp_dim=96, max_positions=512)
FLOATS = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


@functools.cache
def small_tokenizer() -> Tokenizer:
    return train_tokenizer([Path(json.__file__).read_text(encoding="utf-8")] * 2, 512)


def draw_tensors(config: GemmaConfig, dtype: type = np.float32, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw a model's tensors under their Hugging Face names."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * (0.3 if len(shape) == 1 else shape[-1] ** -0.5)).astype(dtype)
        for name, _, shape in list_tensors(config)
    }


def read_whole(tensors: dict[str, np.ndarray]) -> Callable[[str], list[np.ndarray]]:
    """Give each tensor as one block."""
    return lambda name: [tensors[name]]


def write(path: Path, tensors: dict[str, np.ndarray], dtype: str, config: GemmaConfig = CONFIG) -> Path:
    write_gguf(path, config, small_tokenizer(), read_whole(tensors), dtype)
    return path


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_come_back_bit_for_bit_with_shape_tokenizer_and_notes(dtype, tmp_path):
    tensors = draw_tensors(CONFIG, FLOATS[dtype])
    notes = {"general.license": "gemma", "codegemma.lineage": '{"base": "google/codegemma-2b"}'}
    write_gguf(tmp_path / "a.gguf", CONFIG, small_tokenizer(), read_whole(tensors), dtype, notes)
    model = read_gguf(tmp_path / "a.gguf")
    assert model.config == CONFIG
    assert model.notes == notes
    assert model.tokenizer is not None
    assert model.tokenizer.to_json() == small_tokenizer().to_json()
    for name, tensor in tensors.items():
        came = model.read(name)
        # Norms are float32 in the file, whatever they were.
        assert same_bits(came.astype(FLOATS[dtype]) if came.ndim == 1 else came, tensor), name


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=64, max_size=64))
@settings(max_examples=25)
def test_norms_come_back_although_adding_one_rounds(tmp_path_factory, norm):
    path = tmp_path_factory.mktemp("norms") / "a.gguf"
    tensors = draw_tensors(CONFIG)
    tensors["model.norm.weight"] = np.asarray(norm, np.float32)
    write(path, tensors, "f16")
    assert np.array_equal(read_gguf(path).read("model.norm.weight"), tensors["model.norm.weight"])


def test_norm_that_another_program_changed_is_read_as_it_stands(tmp_path):
    path = write(tmp_path / "a.gguf", draw_tensors(CONFIG), "f32")
    reader = gguf.GGUFReader(path, "r+")
    assert "codegemma.norm_weights" in reader.fields
    next(t for t in reader.tensors if t.name == "output_norm.weight").data[:] = 3.0
    reader.data.flush()
    assert read_gguf(path).read("model.norm.weight").tolist() == [2.0] * 64


@pytest.mark.parametrize(("dtype", "error"), [("q8_0", 0.01), ("q4_0", 0.12)])
def test_quantised_weights_are_near_theirs_and_the_embedding_keeps_eight_bits(dtype, error, tmp_path):
    tensors = draw_tensors(CONFIG)
    path = write(tmp_path / "a.gguf", tensors, dtype)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert stored["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert stored["blk.0.ffn_up.weight"].tensor_type == gguf.GGMLQuantizationType[dtype.upper()]
    for name, theirs, shape in list_tensors(CONFIG):
        if len(shape) == 2:
            came = dequantize(stored[theirs].data, stored[theirs].tensor_type)
            assert np.linalg.norm(came - tensors[name]) < error * np.linalg.norm(tensors[name]), name
    with pytest.raises(InputError, match=r"token_embd\.weight is quantised \(Q8_0\).*f32, f16 or bf16"):
        read_gguf(path)


def test_rows_that_no_block_divides_stay_float16(tmp_path):
    config = GemmaConfig(512, 64, 1, num_heads=1, num_kv_heads=1, head_dim=6, mlp_dim=40)
    path = write(tmp_path / "a.gguf", draw_tensors(config), "q4_0", config)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["blk.0.ffn_down.weight"] == kinds["blk.0.attn_output.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q4_0"


def test_large_tensor_is_converted_in_parts_as_it_would_be_whole(tmp_path, monkeypatch):
    tensors = draw_tensors(CONFIG)
    whole = write(tmp_path / "whole.gguf", tensors, "q8_0").read_bytes()
    monkeypatch.setattr("codegemma.model.gguf._CHUNK_WEIGHTS", 1000)
    assert write(tmp_path / "parts.gguf", tensors, "q8_0").read_bytes() == whole


def test_tensors_are_asked_for_one_after_the_other(tmp_path):
    tensors, asked = draw_tensors(CONFIG), []

    def read(name: str) -> Iterator[np.ndarray]:
        asked.append(name)
        yield from np.array_split(tensors[name], 3)

    write_gguf(tmp_path / "a.gguf", CONFIG, small_tokenizer(), read, "bf16")
    matrices = [name for name in asked if tensors[name].ndim == 2]
    assert matrices == [name for name, _, shape in list_tensors(CONFIG) if len(shape) == 2]


def test_unknown_format_names_the_known_ones_and_the_tool_for_others(tmp_path):
    with pytest.raises(InputError, match=r"f32, f16, bf16, q8_0, q4_0.*llama-quantize"):
        write(tmp_path / "a.gguf", draw_tensors(CONFIG), "q4_k_m")


@pytest.mark.parametrize(
    ("value", "dtype", "is_written"),
    [(1e6, "f16", False), (np.inf, "q8_0", False), (np.nan, "q4_0", False), (1e6, "bf16", True), (np.inf, "f32", True)],
)
def test_number_that_a_format_cannot_hold_is_refused_with_its_tensor(value, dtype, is_written, tmp_path):
    tensors = draw_tensors(CONFIG)
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = value
    if is_written:
        write(tmp_path / "a.gguf", tensors, dtype)
        return
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.down_proj\.weight holds numbers"):
        write(tmp_path / "a.gguf", tensors, dtype)
    assert list(tmp_path.iterdir()) == []


def test_tensor_of_another_shape_is_refused_and_nothing_is_left(tmp_path):
    tensors = draw_tensors(CONFIG)
    tensors["model.layers.0.self_attn.k_proj.weight"] = np.zeros((64, 64), np.float32)
    with pytest.raises(InputError, match=r"k_proj\.weight is \[64, 64\].*\[32, 64\]"):
        write(tmp_path / "a.gguf", tensors, "f16")
    assert list(tmp_path.iterdir()) == []


def test_embedding_above_the_vocabulary_is_padding_and_below_it_is_refused(tmp_path):
    wide = GemmaConfig(640, 64, 1, num_heads=1, num_kv_heads=1, head_dim=32, mlp_dim=32)
    write(tmp_path / "a.gguf", draw_tensors(wide), "f16", wide)
    assert read_gguf(tmp_path / "a.gguf").config.vocab_size == 640
    narrow = GemmaConfig(500, 64, 1, num_heads=1, num_kv_heads=1, head_dim=32, mlp_dim=32)
    with pytest.raises(InputError, match="512 ids, the embedding 500 rows"):
        write(tmp_path / "b.gguf", draw_tensors(narrow), "f16", narrow)


def test_note_outside_its_names_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.ggml\.model.*general\. or codegemma\."):
        write_gguf(
            tmp_path / "a.gguf",
            CONFIG,
            small_tokenizer(),
            read_whole(draw_tensors(CONFIG)),
            "f16",
            {"tokenizer.ggml.model": "gpt2"},
        )


def test_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "a.gguf", draw_tensors(CONFIG), "f16")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.gguf: no such GGUF file"):
        read_gguf(tmp_path / "nowhere.gguf")


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "a.gguf", draw_tensors(CONFIG), "bf16").read_bytes()


@given(data=st.data())
@settings(max_examples=60)
def test_damaged_file_is_refused_or_read_but_never_crashes(whole_file, tmp_path_factory, data):
    damage: Callable[[], bytes] = data.draw(
        st.sampled_from(
            [
                lambda: whole_file[: data.draw(st.integers(0, len(whole_file) - 1))],
                lambda: flip(whole_file, data.draw(st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255))))),
                lambda: data.draw(st.binary(max_size=400)),
                lambda: whole_file[:24] + data.draw(st.binary(max_size=400)),
            ]
        )
    )
    path = tmp_path_factory.mktemp("damaged") / "a.gguf"
    path.write_bytes(damage())
    try:
        model = read_gguf(path)
        for name, _, _ in list_tensors(model.config):
            model.read(name)
    except InputError as error:
        assert str(path) in str(error)


def flip(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed)


def test_array_longer_than_the_file_is_refused_at_once(tmp_path):
    key = b"general.tags"
    header = b"GGUF" + np.asarray([3], "<u4").tobytes() + np.asarray([0, 1], "<u8").tobytes()
    header += np.asarray([len(key)], "<u8").tobytes() + key + np.asarray([9, 4], "<u4").tobytes()
    (tmp_path / "a.gguf").write_bytes(header + np.asarray([1 << 60], "<u8").tobytes())
    with pytest.raises(InputError, match="cut off or no GGUF"):
        read_gguf(tmp_path / "a.gguf")


def test_other_architecture_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InputError, match=r"'llama'; wanted 'gemma'"):
        read_gguf(tmp_path / "a.gguf")
