"""A model folder is written whole or not at all: full disks, kills, and folders that hold something else."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tests.model.drawn import MHA, MQA, assert_same_bits, draw_weights, write_drawn

from codegemma.errors import InputError, OutputError
from codegemma.model.formats import huggingface
from codegemma.model.formats.table import FORMATS, open_weights
from codegemma.model.lineage import GEMMA_TERMS, Lineage
from codegemma.model.write import check_target, convert

BASE = Path(huggingface.__file__).parents[2] / "bases" / "tiny"


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Limit how long a file of this process may grow, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("limit", [10_000, 100_000])
def test_a_disk_that_is_full_in_the_middle_is_named_and_nothing_is_left(
    to: str, limit: int, limit_files: Callable[[int], None], tmp_path: Path
) -> None:
    earlier = write_drawn(tmp_path / "out", "hf", MQA, is_finite=True)
    limit_files(limit)
    with pytest.raises(OutputError, match=r"out.*free space or name another"):
        convert(BASE, tmp_path / "out", to)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert_same_bits(open_weights(tmp_path / "out"), earlier)


def test_a_disk_too_small_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_drawn(tmp_path / "hf", "hf", MQA, is_finite=True)
    usage = namedtuple("usage", "total used free")
    needed = 2 * MQA.count_parameters()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 10**12, needed - 1))
    with pytest.raises(OutputError, match=r"the model takes 0\.0 GB, and .* has 0\.0 GB free.*another disk"):
        convert(tmp_path / "hf", tmp_path / "out", "hf")
    with pytest.raises(OutputError, match="another disk"):
        convert(tmp_path / "hf", tmp_path / "out", "hf", "f32")
    convert(tmp_path / "hf", tmp_path / "out", "qwix", "int8")


PAUSED = """
import sys, time
from pathlib import Path
from codegemma.model.formats import parts
from codegemma.model.write import convert
blocks = parts.Weights.read_blocks
def read_slowly(self, part):
    if part.name == "down":
        print("in the middle", flush=True)
        time.sleep(60)
    return blocks(self, part)
parts.Weights.read_blocks = read_slowly
convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""


@pytest.mark.parametrize("to", ["hf", "orbax", "flax", "gguf", "qwix"])
def test_a_killed_conversion_leaves_nothing_that_is_taken_for_a_model(to: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    command = [sys.executable, "-c", PAUSED, str(BASE), str(target), to]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the middle\n"
        process.send_signal(signal.SIGKILL)
    (half,) = tmp_path.iterdir()
    assert half.name == f".out.partial-{process.pid}"
    with pytest.raises(InputError):
        open_weights(half)
    with pytest.raises(InputError, match="no such model folder"):
        open_weights(target)
    convert(BASE, target, to)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_model_that_was_moved_away_when_its_writer_died_comes_back(tmp_path: Path) -> None:
    drawn = write_drawn(tmp_path / ".out.replaced-999999999", "hf", MQA)
    (tmp_path / ".out.partial-999999999").mkdir()
    mine = tmp_path / f".out.partial-{os.getppid()}"
    mine.mkdir()
    with pytest.raises(InputError):
        convert(tmp_path / "nowhere", tmp_path / "out", "hf")
    torn = draw_weights(MHA)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    from codegemma.model.write import write_model

    with pytest.raises(OutputError, match="No space left"):
        write_model(tmp_path / "out", torn, fail, torn.dtype, Lineage(None), {})
    assert_same_bits(open_weights(tmp_path / "out"), drawn)
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "out"]


def test_a_model_that_cannot_take_the_place_of_another_leaves_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = write_drawn(tmp_path / "out", "hf", MQA)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if "partial" in path.name:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_drawn(tmp_path / "out", "hf", MHA)
    assert_same_bits(open_weights(tmp_path / "out"), drawn)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    write_drawn(tmp_path / "hf", "hf", MQA, is_finite=True)
    for name, content in {"package.json": "{}", "config.json": '{"port": 80}', "notes.txt": "mine"}.items():
        (tmp_path / name.partition(".")[0]).mkdir()
        (tmp_path / name.partition(".")[0] / name).write_text(content)
        with pytest.raises(OutputError, match="exists and is not a model folder; name another folder"):
            convert(tmp_path / "hf", tmp_path / name.partition(".")[0], "hf")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not a model folder"):
        convert(tmp_path / "hf", tmp_path / "file", "hf")
    write_drawn(tmp_path / "clone", "hf", MQA)
    (tmp_path / "clone/.git").mkdir()
    with pytest.raises(OutputError, match=r"holds \.git/ too, which would be lost"):
        convert(tmp_path / "hf", tmp_path / "clone", "hf")
    for to in FORMATS:
        if to != "gguf":  # it needs a tokenizer
            convert(tmp_path / "hf", tmp_path / "again", to)
            check_target(tmp_path / "again")


@given(name=st.from_regex(r"model\.(layers\.[0-9]{1,2}\.)?[a-z_.]{1,20}", fullmatch=True))
def test_any_extra_tensor_is_named(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("extra") / "hf"
    write_drawn(folder, "hf", MQA, "f32", is_finite=True)
    tensors = load_file(folder / "model.safetensors")
    if name in tensors:
        return
    save_file(tensors | {name: np.zeros(1, np.float32)}, folder / "model.safetensors")
    with pytest.raises(InputError) as caught:
        open_weights(folder)
    assert name in str(caught.value)
    assert "for which the Gemma 1" in str(caught.value) or "Gemma 2 or later" in str(caught.value)


SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
)  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same weights in every format that has a `config.json` of its own to be wrong."""
    folder = tmp_path_factory.mktemp("sound")
    for to in ("hf", "orbax", "flax", "qwix"):
        write_drawn(folder / to, to, MHA, is_finite=True)
    return folder


@pytest.mark.parametrize("to", ["hf", "orbax", "flax", "qwix"])
@given(field=st.sampled_from(SIZES), size=st.integers(1, 200))
def test_a_config_of_any_other_size_is_named_before_anything_is_read(
    sound: Path, to: str, field: str, size: int
) -> None:
    plain = MHA.to_hf_dict()
    if plain[field] == size:
        return
    (sound / to / "config.json").write_text(json.dumps(plain | {field: size}))
    with pytest.raises(InputError) as caught:
        open_weights(sound / to)
    sentence = str(caught.value)
    assert "config.json" in sentence or "lacks" in sentence or "choose" in sentence


def test_integers_with_an_adapter_are_named(tmp_path: Path) -> None:
    convert(BASE, tmp_path / "qwix", "qwix")
    tensors = load_file(tmp_path / "qwix/integers.safetensors")
    save_file(tensors | {"lora_a": np.zeros(1, np.float32)}, tmp_path / "qwix/integers.safetensors")
    with pytest.raises(InputError, match=r"holds lora_a, for which.*merge an adapter before"):
        open_weights(tmp_path / "qwix")


def test_terms_and_steps_are_handed_down_through_every_format(tmp_path: Path) -> None:
    """From a derivative of Gemma; nobody passes its lineage by hand."""
    started = Lineage(GEMMA_TERMS).extend("take", model="google/codegemma-2b@0123").extend("train", data="8d3f")
    shutil.copytree(BASE, tmp_path / "0")
    for name, content in started.spell().items():
        (tmp_path / "0" / name).write_bytes(content)
    for number, to in enumerate(["orbax", "flax", "gguf", "hf", "qwix"]):
        if to == "hf":  # a GGUF file travels alone
            (tmp_path / "alone").mkdir()
            shutil.copy(tmp_path / str(number) / "model.gguf", tmp_path / "alone/m.gguf")
            shutil.rmtree(tmp_path / str(number))
            (tmp_path / "alone").rename(tmp_path / str(number))
        convert(tmp_path / str(number), tmp_path / str(number + 1), to)
    last = json.loads((tmp_path / "5/lineage.json").read_text())
    assert last["terms"] == "gemma"
    assert [step["act"] for step in last["steps"]] == ["take", "train", *["convert"] * 5]
    assert last["steps"][0]["model"] == "google/codegemma-2b@0123"
    assert [step.get("format") for step in last["steps"][2:]] == ["orbax", "flax", "gguf", "hf", "qwix"]
    assert (tmp_path / "5/NOTICE").read_text().startswith("Gemma is provided under and subject to the Gemma Terms")
