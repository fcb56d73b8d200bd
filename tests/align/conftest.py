"""A model of some thousand parameters that knows nothing, and a family of a few problems: stages in seconds."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from codegemma.align.choices import (
    AlignChoices,
    ExerciseChoices,
    PolicyChoices,
    PreferenceChoices,
    SamplingChoices,
)
from codegemma.align.exercises import make_problems
from codegemma.errors import UserError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.model.weights import save_model
from codegemma.records import Split
from codegemma.sandbox.calls import Caller
from codegemma.text.tokenizer import Tokenizer, train_tokenizer
from codegemma.train.choices import TrainChoices

EXERCISES = ExerciseChoices(problems=40, demonstrated=40, heldout=10, max_operations=2, tests=4, audits=2)
SAMPLING = SamplingChoices(answers=4, max_new_tokens=24)
_TRAIN = TrainChoices(
    batch_rows=4, row_tokens=192, steps=3, warmup_steps=1, compute_dtype="float32", save_dtype="float32",
    save_every_steps=2, log_every_steps=1, sample_every_steps=100,
)  # fmt: skip
CHOICES = AlignChoices(
    exercises=EXERCISES,
    sft=_TRAIN,
    preference=PreferenceChoices(problems=8, sampling=SAMPLING, train=_TRAIN),
    policy=PolicyChoices(problems=2, sampling=SAMPLING, train=_TRAIN),
    rehearsal_share=0.0,
    rehearsal_rows=0,
)


@pytest.fixture(scope="package", autouse=True)
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Share compiled steps between the tests: compiling one takes longer than a whole stage."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [text for p in make_problems(EXERCISES, Split.TRAIN) for text in (p.words, p.demonstration or "")]
    return train_tokenizer(texts, vocab_size=512)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    config = GemmaConfig(512, 32, 1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=192)
    folder = tmp_path_factory.mktemp("base") / "model"
    files = {"tokenizer.json": tokenizer.to_json().encode()}
    save_model(folder, init_params(config, jax.random.key(1)), config, dtype="float32", extra_files=files)
    return folder


@pytest.fixture(scope="package")
def caller() -> Iterator[Caller]:
    try:
        opened = Caller()
    except UserError as error:
        pytest.skip(str(error))
    with opened:
        yield opened
