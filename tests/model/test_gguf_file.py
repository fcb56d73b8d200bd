"""GGUF as a format: there and back bit for bit, with tokenizer, terms and lineage in the one file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from codegemma.errors import InputError
from codegemma.model.formats.parts import list_parts
from codegemma.model.formats.table import open_weights
from codegemma.model.gguf_reader import read_gguf
from codegemma.model.weights import load_model, save_model
from codegemma.model.write import convert

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"


def read_all(place: Path) -> dict[str, bytes]:
    weights = open_weights(place)
    return {
        str(part): np.ascontiguousarray(weights.read(part, slice(None))).tobytes()
        for part in list_parts(weights.config)
    }


@pytest.mark.parametrize("dtype", [None, "f32"])
def test_model_goes_to_gguf_and_back_bit_for_bit(dtype, tmp_path):
    convert(BASE, tmp_path / "gguf", "gguf", dtype)
    convert(tmp_path / "gguf", tmp_path / "again", "hf", dtype and "bf16")
    assert open_weights(tmp_path / "again").dtype == open_weights(BASE).dtype
    assert read_all(tmp_path / "again") == read_all(BASE)


@pytest.mark.parametrize("to", ["orbax", "flax", "hf"])
def test_every_format_comes_to_the_same_file(to, tmp_path):
    convert(BASE, tmp_path / to, to)
    convert(tmp_path / to, tmp_path / "gguf", "gguf")
    convert(BASE, tmp_path / "straight", "gguf")
    assert read_all(tmp_path / "gguf") == read_all(tmp_path / "straight")


def test_norms_of_float32_come_back_bit_for_bit(tmp_path):
    params, config = load_model(BASE)
    params = {name: value * 1.01 for name, value in params.items()}
    extra = {"tokenizer.json": (BASE / "tokenizer.json").read_bytes()}
    save_model(tmp_path / "hf", params, config, dtype="float32", extra_files=extra)
    convert(tmp_path / "hf", tmp_path / "gguf", "gguf")
    assert read_all(tmp_path / "gguf") == read_all(tmp_path / "hf")


def test_single_file_brings_tokenizer_and_lineage_along(tmp_path):
    convert(BASE, tmp_path / "gguf", "gguf")
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "gguf" / "model.gguf", tmp_path / "alone" / "any-name.gguf")
    convert(tmp_path / "alone" / "any-name.gguf", tmp_path / "again", "hf")
    assert json.loads((tmp_path / "again" / "tokenizer.json").read_text()) == json.loads(
        (BASE / "tokenizer.json").read_text()
    )
    lineage = json.loads((tmp_path / "again" / "lineage.json").read_text())
    assert [step["act"] for step in lineage["steps"]] == ["take", "convert", "convert"]
    assert lineage["steps"][0]["model"] == "tiny"


def test_terms_of_gemma_stand_in_the_file(tmp_path):
    source = tmp_path / "derived"
    shutil.copytree(BASE, source)
    (source / "lineage.json").write_text(json.dumps({"terms": "gemma", "steps": [{"act": "take", "model": "g"}]}))
    convert(source, tmp_path / "gguf", "gguf")
    notes = read_gguf(tmp_path / "gguf" / "model.gguf").notes
    assert notes["general.license"] == "gemma"
    assert notes["codegemma.notice"].startswith("Gemma is provided under and subject to the Gemma Terms of Use")
    assert json.loads(notes["codegemma.lineage"])["terms"] == "gemma"
    convert(tmp_path / "gguf" / "model.gguf", tmp_path / "again", "hf")
    assert (tmp_path / "again" / "NOTICE").read_text() == notes["codegemma.notice"]


@pytest.mark.parametrize(("dtype", "kind"), [("int8", "Q8_0"), ("int4", "Q4_0"), ("f16", "F16"), ("bf16", "BF16")])
def test_names_of_the_command_line_mean_the_formats_of_llama_cpp(dtype, kind, tmp_path):
    convert(BASE, tmp_path / "gguf", "gguf", dtype)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "gguf" / "model.gguf").tensors}
    assert kinds["blk.0.ffn_up.weight"] == kind
    if dtype.startswith("int"):
        with pytest.raises(InputError, match="is quantised"):
            open_weights(tmp_path / "gguf")


def test_unknown_type_names_those_of_the_format(tmp_path):
    with pytest.raises(InputError, match=r"'q5_k' is no type.*gguf; known: bf16, f16, f32, int8, int4"):
        convert(BASE, tmp_path / "gguf", "gguf", "q5_k")
    with pytest.raises(InputError, match=r"'int8' is no type.*hf; known: bf16, f32"):
        convert(BASE, tmp_path / "hf", "hf", "int8")


def test_model_without_a_tokenizer_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "far" / "off" / "bare").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(BASE / name, tmp_path / "far" / "off" / "bare")
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        convert(tmp_path / "far" / "off" / "bare", tmp_path / "gguf", "gguf")
    assert not (tmp_path / "gguf").exists()
