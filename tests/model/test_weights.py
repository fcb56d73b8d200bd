"""A model folder is exchanged with transformers both ways, and a damaged one is refused by file and tensor."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.model.oracle import SHAPES, compute_oracle_logits, make_oracle

from codegemma.errors import InputError, OutputError
from codegemma.model.gemma import Params, init_params
from codegemma.model.weights import describe_model, load_model, save_model

CONFIG = SHAPES["grouped"]


def draw_params(seed: int = 0) -> Params:
    """Draw parameters with norms that differ from their start, so that swapped norms would show."""
    params = init_params(CONFIG, jax.random.key(seed))
    return {
        name: value + 0.1 * jax.random.normal(jax.random.key(seed + 1), value.shape) for name, value in params.items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a sound model folder."""
    save_model(tmp_path / "model", draw_params(), CONFIG, dtype="float32", extra_files={"note.txt": b"kept"})
    return tmp_path / "model"


def edit_tensors(folder: Path, **changes: np.ndarray | None) -> None:
    """Replace (or with `None` remove) tensors whose names end in these words; `_` stands for `.`."""
    tensors = load_file(folder / "model.safetensors")
    for ending, value in changes.items():
        name = next(n for n in tensors if n.endswith(ending.replace("__", ".")))
        del tensors[name]
        if value is not None:
            tensors[name] = value
    save_file(tensors, folder / "model.safetensors")


def test_float32_comes_back_bit_for_bit_with_its_extra_files(folder: Path) -> None:
    params, config = load_model(folder)
    assert config == CONFIG == describe_model(folder)
    expected = draw_params()
    assert params.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(params[name], value)
    assert (folder / "note.txt").read_bytes() == b"kept"


def test_bfloat16_comes_back_rounded_once(tmp_path: Path) -> None:
    save_model(tmp_path / "model", draw_params(), CONFIG)
    for name, value in load_model(tmp_path / "model")[0].items():
        np.testing.assert_array_equal(value, draw_params()[name].astype(jnp.bfloat16).astype(jnp.float32))


@pytest.mark.parametrize("shape", ["mqa", "grouped"])
def test_transformers_loads_what_is_written(shape: str, tmp_path: Path) -> None:
    original = make_oracle(SHAPES[shape], seed=5)
    original.save_pretrained(tmp_path / "theirs")
    params, config = load_model(tmp_path / "theirs")
    save_model(tmp_path / "ours", params, config, dtype="float32")
    transformers = pytest.importorskip("transformers")
    again = transformers.GemmaForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    ids = np.arange(20).reshape(2, 10)
    np.testing.assert_array_equal(compute_oracle_logits(again, ids), compute_oracle_logits(original, ids))


def test_weights_divided_over_several_files_are_read(tmp_path: Path) -> None:
    model = make_oracle(CONFIG)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "divided", max_shard_size="100KB")
    assert (tmp_path / "divided" / "model.safetensors.index.json").is_file()
    whole, divided = load_model(tmp_path / "whole")[0], load_model(tmp_path / "divided")[0]
    for name, value in whole.items():
        np.testing.assert_array_equal(divided[name], value)
    next((tmp_path / "divided").glob("model-00002*")).unlink()
    with pytest.raises(InputError, match=r"model-00002.*missing"):
        load_model(tmp_path / "divided")


def test_padded_embedding_rows_are_cut_off_and_an_output_table_is_passed_over(folder: Path) -> None:
    emb = np.asarray(draw_params()["emb"])
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = np.pad(emb, ((0, 128), (0, 0)))
    tensors["lm_head.weight"] = emb
    save_file(tensors, folder / "model.safetensors")
    np.testing.assert_array_equal(load_model(folder)[0]["emb"], emb)


def test_missing_folder_says_what_a_model_folder_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such model folder.*config\.json.*model\.safetensors"):
        load_model(tmp_path / "nowhere")


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        describe_model(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", '{"model_type": "llama"}', "\ud800"])
def test_config_that_is_no_gemma_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match="model"):
        describe_model(folder)


def test_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("keep_share", [0.0, 0.001, 0.5, 0.999])
def test_cut_off_weights_are_refused(folder: Path, keep_share: float) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(keep_share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"model\.safetensors is cut off"):
        load_model(folder)


def test_missing_tensor_is_named(folder: Path) -> None:
    edit_tensors(folder, **{"layers.1.mlp.up_proj.weight": None})
    with pytest.raises(InputError, match=r"lacks the tensor model\.layers\.1\.mlp\.up_proj\.weight.*96, 64"):
        load_model(folder)


def test_wrong_shape_and_type_are_named(folder: Path) -> None:
    edit_tensors(folder, **{"layers.0.self_attn.q_proj.weight": np.zeros((64, 60), np.float32)})
    with pytest.raises(InputError, match=r"q_proj\.weight is \[64, 60\].*\[64, 64\]"):
        load_model(folder)
    edit_tensors(folder, **{"layers.0.self_attn.q_proj.weight": np.zeros((64, 64), np.int8)})
    with pytest.raises(InputError, match=r"q_proj\.weight is stored as int8"):
        load_model(folder)


def test_index_without_a_tensor_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    names = load_file(folder / "model-1.safetensors")
    index = {"weight_map": {name: "model-1.safetensors" for name in names if "final" not in name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    load_model(folder)
    del index["weight_map"]["model.norm.weight"]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"does not list model\.norm\.weight"):
        load_model(folder)


def test_saving_replaces_a_model_but_nothing_else(folder: Path) -> None:
    save_model(folder, draw_params(seed=7), CONFIG, dtype="float32")
    np.testing.assert_array_equal(load_model(folder)[0]["emb"], draw_params(seed=7)["emb"])
    other = folder.parent / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("precious")
    with pytest.raises(OutputError, match="not a model folder"):
        save_model(other, draw_params(), CONFIG)
    assert (other / "chapter.txt").read_text() == "precious"


def test_failed_save_leaves_nothing_behind_and_keeps_the_earlier_model(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="could not be written"):
        save_model(folder, draw_params(seed=7), CONFIG, extra_files={"no/such/place.txt": b""})
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
