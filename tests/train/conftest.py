"""A run small enough for seconds: this project's own source as packs, a tokenizer trained on it, a model of 30 k."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from codegemma.feed.choices import FeedChoices
from codegemma.records import InfillMode, Pack, PackedFile, Request, Split
from codegemma.shards import write_records
from codegemma.text.tokenizer import Tokenizer, train_tokenizer
from codegemma.train.job import TrainJob

from .run_job import CHOICES, CONFIG

SOURCES = sorted((Path(__file__).parents[2] / "src/codegemma/text").glob("*.py"))


@pytest.fixture(scope="package", autouse=True)
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Share compiled steps between the tests: compiling one takes longer than a whole run."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([path.read_text() for path in SOURCES], vocab_size=512)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    none = np.zeros(0, np.int32)
    packs = [
        Pack(str(n), "own", None, Split.TRAIN, (PackedFile(p.name, "python", p.read_text(), p.name, None, none, none),))
        for n, p in enumerate(SOURCES)
    ]
    folder = tmp_path_factory.mktemp("data")
    write_records(folder / "packs-train.parquet", packs)
    return folder


@pytest.fixture
def job(data: Path, tokenizer: Tokenizer, tmp_path: Path) -> TrainJob:
    sample = Request(
        "def encode(self, text: str) -> ", "\n", path="tokenizer.py", max_new_tokens=8, mode=InfillMode.SPM
    )
    feed = FeedChoices(packing_bins=2)
    return TrainJob(data, tmp_path / "run", CHOICES, feed, tokenizer, CONFIG, sample=sample)
