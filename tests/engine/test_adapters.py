"""Several adapters over one model at once: each row answers as a model with its adapter alone would."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.model.formats.peft import AdapterFile, shape_target, write_adapter
from codegemma.model.lora import attach
from codegemma.model.weights import save_model
from codegemma.records import Generation, Request, Sampling
from codegemma.text.control_tokens import STOP_IDS

FILES = {"mine": (4, ("q", "k", "v", "o"), 2.0), "yours": (2, ("o", "gate", "up", "down"), 0.5)}
# Answers of one length: an adapter's noise shall not end them.
SAMPLING = [Sampling(t, seed=3, logit_bias=tuple((i, -1000.0) for i in sorted(STOP_IDS))) for t in (0.0, 0.9)]


@pytest.fixture(scope="module")
def adapters(engine: Engine) -> dict[str, AdapterFile]:
    draw, layers = np.random.default_rng(0), engine.config.num_layers
    made = {}
    for name, (rank, targets, scale) in FILES.items():
        matrices = {}
        for target in targets:
            inputs, outputs = shape_target(engine.config, target)
            a, b = draw.normal(0, 0.3, (layers, inputs, rank)), draw.normal(0, 0.3, (layers, rank, outputs))
            matrices[target] = (a.astype(np.float32), b.astype(np.float32))
        made[name] = AdapterFile(rank, scale * rank, scale, 0.0, matrices, base="the base")
    return made


def spell(engine: Engine, adapter: str | None, sampling: Sampling, text: str = "def add(") -> Generation:
    prompt = GeneratorCompleter(engine).build_prompt(Request(text, ")\n", max_new_tokens=9))
    return Generation(tuple(prompt), 9, sampling, adapter=adapter)


def read(engine: Engine, generation: Generation) -> tuple[int, ...]:
    return tuple(token_id for delta in engine.generate(generation) for token_id in delta.token_ids)


def make_alone(engine: Engine, file: AdapterFile | None) -> Engine:
    if file is None:
        return engine
    matrices = {target: {"a": jnp.asarray(a), "b": jnp.asarray(b)} for target, (a, b) in file.matrices.items()}
    return Engine(attach(engine.params, matrices, file.scale), engine.config, engine.tokenizer, rows=8)


def test_each_row_answers_as_with_its_adapter_alone(engine: Engine, adapters: dict[str, AdapterFile]) -> None:
    together = Engine(engine.params, engine.config, engine.tokenizer, rows=8, adapters=adapters)
    wanted = {}
    for name in (None, *adapters):
        alone = make_alone(engine, adapters.get(name or ""))
        for sampling in SAMPLING:
            wanted[name, sampling] = read(alone, spell(engine, None, sampling))
    assert len(set(wanted.values())) == len(wanted)
    streams = {key: together.generate(spell(engine, *key)) for key in wanted}
    found = {key: [i for delta in stream for i in delta.token_ids] for key, stream in streams.items()}
    assert {key: tuple(ids) for key, ids in found.items()} == wanted


def test_what_one_adapter_read_is_no_reading_of_another(engine: Engine, adapters: dict[str, AdapterFile]) -> None:
    together = Engine(engine.params, engine.config, engine.tokenizer, rows=8, adapters=adapters)
    cached = []
    for name in (None, "mine", "yours", "mine", None):
        usage = list(together.generate(spell(engine, name, SAMPLING[0])))[-1].usage
        assert usage is not None
        cached.append(usage.cached_tokens)
    length = len(spell(engine, None, SAMPLING[0]).prompt_ids)
    assert cached == [0, 0, 0, length - 1, length - 1]


def test_adapters_are_loaded_beside_their_base_and_others_are_refused(
    engine: Engine, adapters: dict[str, AdapterFile], tmp_path: Path
) -> None:
    files = {"tokenizer.json": engine.tokenizer.to_json().encode()}
    save_model(tmp_path / "base", engine.params, engine.config, dtype="float32", extra_files=files)
    (tmp_path / "mine").mkdir()
    write_adapter(tmp_path / "mine", engine.config, adapters["mine"])
    loaded = Engine.load(tmp_path / "base", rows=8, adapters={"mine": tmp_path / "mine"})
    assert loaded.describe()["adapters"] == ["mine"]
    alone = make_alone(engine, adapters["mine"])
    assert read(loaded, spell(engine, "mine", SAMPLING[0])) == read(alone, spell(engine, None, SAMPLING[0]))
    with pytest.raises(InputError, match=r"no adapter 'other'; there are: mine"):
        loaded.generate(spell(engine, "other", SAMPLING[0]))
    with pytest.raises(InputError):
        Engine.load(tmp_path / "base", adapters={"mine": tmp_path / "base"})
    assert jax.tree.leaves(loaded.params)
