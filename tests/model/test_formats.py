"""Every format gives back every bit, reads what others wrote, and names what is wrong with a checkpoint."""

import dataclasses
import json
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tests.model.drawn import (
    GROUPED,
    MHA,
    MQA,
    assert_same_bits,
    configs,
    draw_weights,
    spell_google,
    write_drawn,
)

from codegemma.errors import InputError, OutputError
from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.formats import huggingface
from codegemma.model.formats.parts import DTYPES, Part, list_parts, shape_part
from codegemma.model.formats.stores import create_array, open_arrays, write_metadata, write_rows
from codegemma.model.formats.table import open_weights
from codegemma.model.weights import describe_model, load_model
from codegemma.model.write import convert

WRITABLE = ["hf", "flax", "orbax"]
TYPES = st.sampled_from(["bf16", "f16", "f32"])


@settings(max_examples=25)
@given(config=configs, dtype=TYPES, path=st.lists(st.sampled_from(WRITABLE), min_size=2, max_size=4))
def test_any_path_through_the_formats_gives_back_every_bit(config: GemmaConfig, dtype: str, path: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = write_drawn(folder / "0", path[0], config, dtype)
        for step, (_, to) in enumerate(pairwise(path)):
            convert(folder / str(step), folder / str(step + 1), to)
        assert_same_bits(open_weights(folder / str(len(path) - 1)), drawn)


@pytest.mark.parametrize("config", [MQA, GROUPED, MHA])
def test_a_round_writes_the_same_files_again(config: GemmaConfig, tmp_path: Path) -> None:
    write_drawn(tmp_path / "hf", "hf", config)
    for source, target, to in [("hf", "orbax", "orbax"), ("orbax", "flax", "flax"), ("flax", "again", "hf")]:
        convert(tmp_path / source, tmp_path / target, to)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()


@given(config=configs, max_bytes=st.integers(1, 20_000))
def test_weights_divided_over_any_number_of_files_come_back(config: GemmaConfig, max_bytes: int) -> None:
    drawn = draw_weights(config)
    with tempfile.TemporaryDirectory() as name:
        huggingface.write_weights(Path(name), drawn, drawn.dtype, max_file_bytes=max_bytes)
        assert_same_bits(open_weights(Path(name)), drawn)
        files = sorted(path.name for path in Path(name).glob("*.safetensors"))
        if len(files) > 1:
            index = json.loads((Path(name) / "model.safetensors.index.json").read_text())
            assert sorted(set(index["weight_map"].values())) == files
            assert index["metadata"]["total_size"] == 2 * config.count_parameters()
        else:
            assert files == ["model.safetensors"]


def test_the_library_of_safetensors_reads_what_is_streamed(tmp_path: Path) -> None:
    drawn = write_drawn(tmp_path / "hf", "hf", MQA)
    tensors = load_file(tmp_path / "hf/model.safetensors")
    assert sum(tensor.size for tensor in tensors.values()) == MQA.count_parameters()
    np.testing.assert_array_equal(
        tensors["model.layers.1.mlp.down_proj.weight"].view(np.uint16),
        drawn.read(Part("down", (1,)), slice(None)).T.view(np.uint16),
    )


@pytest.mark.parametrize(("stored", "asked"), [("f32", "bf16"), ("bf16", "f32"), ("f16", "f32"), ("f16", "bf16")])
@pytest.mark.parametrize("to", WRITABLE)
def test_another_type_is_rounded_once(stored: str, asked: str, to: str, tmp_path: Path) -> None:
    write_drawn(tmp_path / "a", "hf", MHA, stored, is_finite=True)
    convert(tmp_path / "a", tmp_path / "b", to, asked)
    before, after = open_weights(tmp_path / "a"), open_weights(tmp_path / "b")
    assert after.dtype == DTYPES[asked]
    for part in list_parts(MHA):
        expected = before.read(part, slice(None)).astype(DTYPES[asked])
        np.testing.assert_array_equal(after.read(part, slice(None)), expected)


@pytest.mark.parametrize("config", [MQA, GROUPED, MHA])
def test_orbax_restores_what_is_written(config: GemmaConfig, tmp_path: Path) -> None:
    ocp = pytest.importorskip("orbax.checkpoint")
    drawn = write_drawn(tmp_path / "orbax", "orbax", config)
    write_drawn(tmp_path / "flax", "flax", config)
    stacks = ocp.StandardCheckpointer().restore(tmp_path / "orbax")
    assert {name: array.shape for name, array in stacks.items()} == config.shape_params()
    tree = ocp.PyTreeCheckpointer().restore(tmp_path / "flax")
    emb = drawn.read(Part("emb"), slice(None))
    assert tree["transformer/embedder"]["input_embedding"][: config.vocab_size].tobytes() == emb.tobytes()
    assert not tree["transformer/embedder"]["input_embedding"][config.vocab_size :].astype(np.float32).any()
    shapes = {name.removeprefix("transformer/"): {k: v.shape for k, v in leaf.items()} for name, leaf in tree.items()}
    d, h, k, a = config.embed_dim, config.num_heads, config.num_kv_heads, config.head_dim
    attention = (
        {"layer_1/attn/qkv_einsum": {"w": (3, h, d, a)}}
        if h == k
        else {"layer_1/attn/q_einsum": {"w": (h, d, a)}, "layer_1/attn/kv_einsum": {"w": (2, k, d, a)}}
    )
    assert {name: shape for name, shape in shapes.items() if not name.startswith(("layer_0", "layer_2"))} == {
        "embedder": {"input_embedding": (config.vocab_size + 128, d)},
        "final_norm": {"scale": (d,)},
        "layer_1/pre_attention_norm": {"scale": (d,)},
        **attention,
        "layer_1/attn/attn_vec_einsum": {"w": (h, a, d)},
        "layer_1/pre_ffw_norm": {"scale": (d,)},
        "layer_1/mlp/gating_einsum": {"w": (2, d, config.mlp_dim)},
        "layer_1/mlp/linear": {"w": (config.mlp_dim, d)},
    }
    q = (
        tree["transformer/layer_1/attn/qkv_einsum"]["w"][0]
        if h == k
        else tree["transformer/layer_1/attn/q_einsum"]["w"]
    )
    assert q.tobytes() == drawn.read(Part("q", (1,)), slice(None)).transpose(1, 0, 2).tobytes()


@pytest.mark.parametrize("config", [MQA, MHA])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_published_flax_folder_is_read_without_config(config: GemmaConfig, is_nested: bool, tmp_path: Path) -> None:
    """As orbax itself writes it: whole arrays in one chunk, metadata of its own, the tokenizer one folder up."""
    ocp = pytest.importorskip("orbax.checkpoint")
    drawn = write_drawn(tmp_path / "ours", "flax", config)
    flat = ocp.PyTreeCheckpointer().restore(tmp_path / "ours")
    tree: dict[str, Any] = flat
    if is_nested:
        tree = {}
        for path, leaf in flat.items():
            node = tree
            for level in path.split("/"):
                node = node.setdefault(level, {})
            node.update(leaf)
    ocp.PyTreeCheckpointer().save(tmp_path / "kaggle" / "2b", tree)
    (tmp_path / "kaggle" / "tokenizer.model").write_bytes(b"pieces")
    # The padding cannot be told from words where the vocabulary is not Gemma's.
    padded = dataclasses.replace(config, vocab_size=config.vocab_size + 128, max_positions=8192, rope_theta=10_000.0)
    for place in (tmp_path / "kaggle", tmp_path / "kaggle" / "2b"):
        assert open_weights(place).config == padded
        convert(place, tmp_path / "hf", "hf")
        assert (tmp_path / "hf/tokenizer.model").read_bytes() == b"pieces"
    (tmp_path / "kaggle/2b/config.json").write_text(json.dumps(config.to_hf_dict()))
    assert_same_bits(open_weights(tmp_path / "kaggle"), drawn)


@pytest.mark.parametrize("shape", [codegemma_2b, codegemma_7b])
def test_the_shape_of_a_published_flax_folder_is_read_off_its_arrays(shape: Any, tmp_path: Path) -> None:
    """Arrays of the real sizes; TensorStore keeps no chunk of zeros, so that they take no space."""
    config = dataclasses.replace(shape(), num_layers=1)
    d, h, k, a = config.embed_dim, config.num_heads, config.num_kv_heads, config.head_dim
    arrays = {
        "embedder.input_embedding": (256_128, d),
        "final_norm.scale": (d,),
        "layer_0/pre_attention_norm.scale": (d,),
        "layer_0/pre_ffw_norm.scale": (d,),
        "layer_0/attn/attn_vec_einsum.w": (h, a, d),
        "layer_0/mlp/gating_einsum.w": (2, d, config.mlp_dim),
        "layer_0/mlp/linear.w": (config.mlp_dim, d),
    }
    joined = {"layer_0/attn/qkv_einsum.w": (3, h, d, a)}
    apart = {"layer_0/attn/q_einsum.w": (h, d, a), "layer_0/attn/kv_einsum.w": (2, k, d, a)}
    for name, size in (arrays | (joined if h == k else apart)).items():
        create_array(tmp_path, f"transformer/{name}", (), size, DTYPES["bf16"])
    assert open_weights(tmp_path).config == config


@pytest.mark.parametrize("config", [MQA, MHA])
@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_googles_pytorch_checkpoint_is_read(config: GemmaConfig, dtype: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    drawn = draw_weights(config, dtype)
    torch.save({"model_state_dict": spell_google(drawn)}, tmp_path / "codegemma-2b.ckpt")
    (tmp_path / "config.json").write_text(json.dumps(config.to_hf_dict()))
    assert_same_bits(open_weights(tmp_path), drawn)
    assert_same_bits(open_weights(tmp_path / "codegemma-2b.ckpt"), drawn)
    convert(tmp_path / "codegemma-2b.ckpt", tmp_path / "hf", "hf")
    assert_same_bits(open_weights(tmp_path / "hf"), drawn)


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 1), (2, 2)])
def test_the_shape_of_googles_checkpoint_is_read_off_its_tensors(heads: int, kv_heads: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    config = GemmaConfig(300, 16, 2, num_heads=heads, num_kv_heads=kv_heads, head_dim=256, mlp_dim=24)
    drawn = draw_weights(config)
    torch.save({"model_state_dict": spell_google(drawn)}, tmp_path / "model.ckpt")
    assert_same_bits(open_weights(tmp_path), drawn)


def test_a_divided_pytorch_checkpoint_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    spelled = spell_google(drawn := draw_weights(MQA))
    halves = dict(list(spelled.items())[:7]), dict(list(spelled.items())[7:])
    for number, half in enumerate(halves):
        torch.save(half, tmp_path / f"pytorch_model-{number}.bin")
    homes = {name: f"pytorch_model-{number}.bin" for number, half in enumerate(halves) for name in half}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": homes}))
    (tmp_path / "config.json").write_text(json.dumps(MQA.to_hf_dict()))
    assert_same_bits(open_weights(tmp_path), drawn)
    (tmp_path / "pytorch_model-1.bin").unlink()
    with pytest.raises(InputError, match=r"pytorch_model-1\.bin is missing, though pytorch_model\.bin\.index\.json"):
        open_weights(tmp_path)


def test_transformers_pytorch_files_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    write_drawn(tmp_path / "hf", "hf", GROUPED, "f32")
    tensors = {name: torch.from_numpy(t) for name, t in load_file(tmp_path / "hf/model.safetensors").items()}
    (tmp_path / "bin").mkdir()
    torch.save(tensors, tmp_path / "bin/pytorch_model.bin")
    shutil.copy(tmp_path / "hf/config.json", tmp_path / "bin")
    assert_same_bits(open_weights(tmp_path / "bin"), open_weights(tmp_path / "hf"))


@pytest.mark.parametrize("to", WRITABLE)
@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_parameters_are_the_same_whatever_format_they_come_from(to: str, dtype: Any, tmp_path: Path) -> None:
    drawn = write_drawn(tmp_path / "model", to, MQA, is_finite=True)
    params, config = load_model(tmp_path / "model", dtype)
    assert config == MQA == describe_model(tmp_path / "model")
    for part in list_parts(config):
        expected = drawn.read(part, slice(None)).astype(DTYPES[dtype])
        np.testing.assert_array_equal(np.asarray(params[part.name])[part.at], expected)


def test_an_array_in_one_large_chunk_is_read_whole_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegemma.model.formats.stores._MAX_CHUNK_BYTES", 1)
    drawn = write_drawn(tmp_path / "flax", "flax", MHA)
    assert_same_bits(open_weights(tmp_path / "flax"), drawn)


def test_blocks_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegemma.model.formats.parts.BLOCK_BYTES", 1000)
    drawn = write_drawn(tmp_path / "0", "hf", MQA)
    for step, to in enumerate(["flax", "orbax", "hf"]):
        convert(tmp_path / str(step), tmp_path / str(step + 1), to)
        assert_same_bits(open_weights(tmp_path / str(step + 1)), drawn)


def test_tokenizer_and_papers_go_along(tmp_path: Path) -> None:
    papers = {"tokenizer.json": b"{}", "generation_config.json": b"{}", "USE_POLICY.md": b"be kind"}
    write_drawn(tmp_path / "hf", "hf", MQA, files=papers)
    (tmp_path / "hf/optimizer.pt").write_bytes(b"not this")
    convert(tmp_path / "hf", tmp_path / "flax", "flax")
    assert {name: (tmp_path / "flax" / name).read_bytes() for name in papers} == papers
    assert not (tmp_path / "flax/optimizer.pt").exists()


@pytest.mark.parametrize("target", ["hf", ".", "hf/../hf"])
def test_a_source_is_not_replaced_by_its_own_copy(target: str, tmp_path: Path) -> None:
    drawn = write_drawn(tmp_path / "hf", "hf", MQA)
    with pytest.raises(OutputError, match="is the source or holds it"):
        convert(tmp_path / "hf", tmp_path / target, "orbax")
    assert_same_bits(open_weights(tmp_path / "hf"), drawn)


def test_a_failed_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    write_drawn(tmp_path / "orbax", "orbax", MQA)
    largest = max((tmp_path / "orbax/d").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])
    with pytest.raises(InputError, match=r"emb cannot be read.*copy"):
        convert(tmp_path / "orbax", tmp_path / "hf", "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["orbax"]


def test_unknown_format_and_type_are_named_with_the_known_ones(tmp_path: Path) -> None:
    write_drawn(tmp_path / "hf", "hf", MQA)
    with pytest.raises(InputError, match=r"'onnx' is no format.*hf, flax, orbax"):
        convert(tmp_path / "hf", tmp_path / "b", "onnx")
    with pytest.raises(InputError, match=r"'fp4' is no type.*bf16, f32"):
        convert(tmp_path / "hf", tmp_path / "b", "hf", "fp4")


def make_damaged(folder: Path, wrong: dict[str, tuple[int, ...]], left_out: str = "") -> None:
    """Write MQA's stacks with some shapes changed or one array missing."""
    for name, shape in MQA.shape_params().items():
        if name != left_out:
            create_array(folder, name, (), wrong.get(name, shape), DTYPES["f32"])
    write_metadata(folder, [("emb",)])
    (folder / "config.json").write_text(json.dumps(MQA.to_hf_dict()))


def test_a_checkpoint_with_a_wrong_or_missing_array_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    make_damaged(tmp_path / "a", {"kv": (3, 2, 64, 2, 32)})
    with pytest.raises(InputError, match=r"kv is \[3, 2, 64, 2, 32\]; config\.json asks for \[3, 2, 64, 1, 32\]"):
        open_weights(tmp_path / "a")
    make_damaged(tmp_path / "b", {}, left_out="down")
    with pytest.raises(InputError, match=r"lacks the array down; wanted \[3, 96, 64\]"):
        open_weights(tmp_path / "b")
    shutil.copy(tmp_path / "b/config.json", tmp_path / "config.json")
    store = create_array(tmp_path / "c", "emb", (), (512, 64), DTYPES["f32"])
    write_rows(store, (), 0, np.ones((512, 64)), DTYPES["f32"])
    with pytest.raises(InputError, match=r"has no config\.json"):
        open_weights(tmp_path / "c")


def test_a_later_gemma_is_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    create_array(tmp_path / "flax", "transformer/embedder.input_embedding", (), (300, 8), DTYPES["bf16"])
    create_array(tmp_path / "flax", "transformer/layer_0/post_attention_norm.scale", (), (8,), DTYPES["bf16"])
    with pytest.raises(InputError, match="Gemma 2 or later"):
        open_weights(tmp_path / "flax")
    spelled = spell_google(draw_weights(MQA))
    spelled["model.layers.0.pre_feedforward_layernorm.weight"] = torch.ones(8)
    torch.save({"model_state_dict": spelled}, tmp_path / "gemma-2.ckpt")
    with pytest.raises(InputError, match="Gemma 2 or later"):
        open_weights(tmp_path / "gemma-2.ckpt")


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "llama"])
def test_another_architecture_is_named(model_type: str, tmp_path: Path) -> None:
    write_drawn(tmp_path / "hf", "hf", MQA)
    plain = json.loads((tmp_path / "hf/config.json").read_text()) | {"model_type": model_type}
    (tmp_path / "hf/config.json").write_text(json.dumps(plain))
    with pytest.raises(InputError, match=rf"model_type '{model_type}'; wanted 'gemma' \(Gemma 1 or CodeGemma\)"):
        convert(tmp_path / "hf", tmp_path / "out", "flax")


def test_damaged_orbax_metadata_is_named(tmp_path: Path) -> None:
    write_drawn(tmp_path / "orbax", "orbax", MQA)
    (tmp_path / "orbax/manifest.ocdbt").write_bytes(b"\0" * 40)
    with pytest.raises(InputError, match="cannot be read as an orbax checkpoint"):
        open_weights(tmp_path / "orbax")


def test_several_checkpoints_in_a_folder_have_to_be_chosen_from(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for name in ("2b.ckpt", "7b.ckpt"):
        torch.save(spell_google(draw_weights(MQA)), tmp_path / name)
    with pytest.raises(InputError, match=r"holds 2 checkpoints; name one: .*2b\.ckpt, .*7b\.ckpt"):
        open_weights(tmp_path)


def test_nothing_but_names_is_read_when_a_model_is_opened(tmp_path: Path) -> None:
    drawn = write_drawn(tmp_path / "hf", "hf", MQA)
    weights = open_weights(tmp_path / "hf")
    block = weights.read(Part("q", (0,)), slice(None))
    assert not block.flags.owndata
    assert block.shape == shape_part(MQA, Part("q", (0,)))
    assert block.tobytes() == drawn.read(Part("q", (0,)), slice(None)).tobytes()
    assert sorted(open_arrays_names(tmp_path)) == sorted(MQA.shape_params())


def open_arrays_names(folder: Path) -> list[str]:
    write_drawn(folder / "orbax", "orbax", MQA)
    return open_arrays(folder / "orbax").names
