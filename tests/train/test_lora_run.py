"""A run on adapters: the train state is theirs alone, a kill changes nothing, and what it leaves is a model."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError, OutputError
from codegemma.model.formats.peft import WEIGHTS_FILE
from codegemma.model.gemma import init_params
from codegemma.model.lineage import LINEAGE_FILE
from codegemma.model.weights import load_model, save_model
from codegemma.model.write import convert
from codegemma.train.choices import LoraChoices
from codegemma.train.guards import InterruptedRun
from codegemma.train.job import TrainJob
from codegemma.train.loop import train
from codegemma.train.start import load_start
from codegemma.train.step import init_state

from .run_job import CONFIG
from .test_loop import read_numbers, stop_at, with_train

LORA = LoraChoices(rank=4, alpha=8.0)


@pytest.fixture
def adapting(job: TrainJob, tmp_path: Path) -> TrainJob:
    """The small job on a base, in adapters."""
    base = tmp_path / "base"
    files = {"tokenizer.json": job.tokenizer.to_json().encode()}
    save_model(base, init_params(CONFIG, jax.random.key(3)), CONFIG, dtype="float32", extra_files=files)
    return with_train(dataclasses.replace(job, base=base), lora=LORA, peak_learning_rate=0.01)


def test_interrupted_run_of_adapters_goes_on_bit_for_bit_and_leaves_a_model(adapting: TrainJob, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in (tmp_path / "base").iterdir()}
    result = train(adapting)
    halved = dataclasses.replace(adapting, out=tmp_path / "halved")
    with pytest.raises(InterruptedRun):
        train(halved, stop_at(7))
    assert train(halved).resumed_step == 7
    assert read_numbers(halved.out) == read_numbers(adapting.out)
    left, right = (load_file(job.out / "model" / WEIGHTS_FILE) for job in (adapting, halved))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_array_equal(tensor, right[name], err_msg=name)
    assert {file.name: file.read_bytes() for file in (tmp_path / "base").iterdir()} == before
    losses = [line["loss"] for line in read_numbers(adapting.out)]
    assert losses[-1] < losses[0]
    engine = Engine.load(result.model)
    assert adapting.sample is not None
    sample = json.loads((adapting.out / "samples.jsonl").read_text().splitlines()[-1])
    assert GeneratorCompleter(engine).complete_all([adapting.sample])[0].text == sample["text"]
    steps = json.loads((result.model / LINEAGE_FILE).read_text())["steps"]
    assert steps[-1]["adapter"]["rank"] == 4
    _go_on_with(adapting, result.model, tmp_path)


def _go_on_with(adapting: TrainJob, model: Path, tmp_path: Path) -> None:
    """An adapter as base goes on as that adapter, on the same frozen model."""
    further = with_train(dataclasses.replace(adapting, base=model, out=tmp_path / "further"), steps=2)
    start = load_start(model, CONFIG, further.train)
    stored = load_file(model / WEIGHTS_FILE)
    np.testing.assert_array_equal(
        start.trained["q"]["a"][0].T, stored["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    )
    second = train(further)
    assert json.loads((second.model / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tmp_path / "base"
    )
    load_model(second.model)
    with pytest.raises(
        InputError, match=r"adapter of rank 4, scale 2, on q, .* wanted is rank 8, .*convert .* --to hf"
    ):
        train(with_train(dataclasses.replace(further, out=tmp_path / "other"), lora=LoraChoices(rank=8)))


def test_train_state_holds_adapters_alone(adapting: TrainJob) -> None:
    start = load_start(adapting.base, CONFIG, adapting.train)
    state = init_state(start.trained, adapting.train, 10)
    matrices = {"q": (32, 32), "k": (32, 16), "v": (32, 16), "o": (32, 32), "gate": (32, 64), "up": (32, 64),
                "down": (64, 32)}  # fmt: skip
    numbers = sum(4 * (inputs + outputs) for inputs, outputs in matrices.values())
    held = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert 3 * numbers <= held <= 3 * numbers + 8  # parameters and two moments, and a few counters
    assert sum(leaf.size for leaf in jax.tree.leaves(start.frozen)) == CONFIG.count_parameters()


@pytest.mark.parametrize("base_dtype", ["int8", "int4"])
def test_adapters_train_on_integers_and_lower_the_loss(
    adapting: TrainJob, base_dtype: Literal["int8", "int4"], tmp_path: Path
) -> None:
    pytest.importorskip("qwix", reason="the extra quant is not installed: make setup-dev")
    rounded = with_train(adapting, lora=dataclasses.replace(LORA, base_dtype=base_dtype))
    start = load_start(rounded.base, CONFIG, rounded.train)
    assert start.frozen is not None
    assert not isinstance(start.frozen["down"], jax.Array)
    train(dataclasses.replace(rounded, sample=None))
    losses = [line["loss"] for line in read_numbers(rounded.out)]
    assert losses[-1] < losses[0]
    if base_dtype == "int4":
        convert(tmp_path / "base", tmp_path / "integers", "qwix", "int4")
        stored = load_start(tmp_path / "integers", CONFIG, adapting.train)
        for one, other in zip(*map(jax.tree.leaves, (stored.frozen, start.frozen)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_adapters_without_a_base_and_a_resume_with_others_are_refused(job: TrainJob, adapting: TrainJob) -> None:
    with pytest.raises(InputError, match=r"adapters hang on a base, and none is given.*train\.lora\.rank=none"):
        train(with_train(job, lora=LORA))
    with pytest.raises(InterruptedRun):
        train(dataclasses.replace(adapting, out=adapting.out.with_name("begun")), stop_at(1))
    other = with_train(adapting, lora=LoraChoices(rank=2, alpha=8.0))
    with pytest.raises(OutputError, match=r"train\.lora\.rank was 4, now 2"):
        train(dataclasses.replace(other, out=adapting.out.with_name("begun")))
