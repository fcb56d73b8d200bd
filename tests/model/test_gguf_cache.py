"""A model is quantized once and found again, until its files change; headers are read quickly and never trusted."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model.drawn import GROUPED, MQA, write_drawn
from tests.model.test_gguf import draw_tensors, read_whole, small_tokenizer

from codegemma.errors import InputError
from codegemma.model.gguf import write_gguf
from codegemma.model.gguf_cache import name_model, provide_gguf
from codegemma.model.gguf_header import TOKENIZER_KEY, read_gguf_header


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_drawn(
        tmp_path / "model", "hf", MQA, is_finite=True, files={"tokenizer.json": small_tokenizer().to_json().encode()}
    )
    return tmp_path / "model"


def test_weights_are_quantized_at_the_first_start_and_found_at_the_next(model, tmp_path):
    told: list[Path] = []
    first = provide_gguf(model, "int8", tmp_path / "cache", told.append)
    assert told == [first]
    assert read_gguf_header(first)["general.file_type"] == 7
    written = first.stat()
    assert provide_gguf(model, "int8", tmp_path / "cache", told.append) == first
    assert told == [first]
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    other = provide_gguf(model, "int4", tmp_path / "cache", told.append)
    assert told == [first, other]


def test_other_weights_are_another_model(model, tmp_path):
    name = name_model(model, "int8")
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(model, moved)
    assert name_model(moved, "int8") == name
    write_drawn(moved, "hf", GROUPED, is_finite=True, files={})
    assert name_model(moved, "int8") != name
    weights = model / "model.safetensors"
    times = weights.stat()
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert name_model(model, "int8") != name


def test_a_gguf_file_is_served_as_it_is(tmp_path):
    file = tmp_path / "a.gguf"
    write_gguf(file, MQA, small_tokenizer(), read_whole(draw_tensors(MQA)), "f32")
    assert provide_gguf(file, cache=tmp_path / "cache") == file
    assert provide_gguf(tmp_path, cache=tmp_path / "cache") == file
    assert not (tmp_path / "cache").exists()
    shutil.copy(file, tmp_path / "b.gguf")
    with pytest.raises(InputError, match="holds 2 GGUF files; name one of them"):
        provide_gguf(tmp_path)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such model"):
        provide_gguf(tmp_path / "nowhere")
    with pytest.raises(InputError, match="unknown type 'int3'"):
        provide_gguf(tmp_path, "int3")


def test_a_header_tells_what_was_written(tmp_path):
    file = tmp_path / "a.gguf"
    write_gguf(file, MQA, small_tokenizer(), read_whole(draw_tensors(MQA)), "f16", {"general.license": "mit"})
    header = read_gguf_header(file)
    assert header["gemma.context_length"] == MQA.max_positions
    assert header["gemma.rope.freq_base"] == MQA.rope_theta
    assert header["general.license"] == "mit"
    assert header["tokenizer.ggml.tokens"] == MQA.vocab_size
    assert json.loads(str(header[TOKENIZER_KEY]))["model"]["type"] == "BPE"


HEAD = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)


def test_lists_within_lists_without_end_are_refused(tmp_path):
    file = tmp_path / "a.gguf"
    file.write_bytes(HEAD + struct.pack("<Qc", 1, b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000)
    with pytest.raises(InputError, match="no whole GGUF file"):
        read_gguf_header(file)


@given(st.binary(max_size=60))
def test_hostile_headers_are_refused_in_one_line(tmp_path_factory, tail):
    file = tmp_path_factory.mktemp("hostile") / "a.gguf"
    file.write_bytes(HEAD + tail)
    try:
        read_gguf_header(file)
    except InputError as error:
        assert "no whole GGUF file" in str(error)
