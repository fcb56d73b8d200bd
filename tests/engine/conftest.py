"""A real tokenizer and a small Gemma with random weights; the shipped base as GGUF, and llama.cpp's server on it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from tests.model.llama_cpp import LlamaCpp as Oracle
from tests.model.llama_cpp import serve

from codegemma.engine.engine import Engine
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.model.write import convert
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

SOURCE = 'def add(first, second):\n    """Add – both."""\n    return first + second\n\n\nprint(add(1, 2))\n'
BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
CONFIG = GemmaConfig(500, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=64)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([SOURCE] * 9, vocab_size=CONFIG.vocab_size)


@pytest.fixture(scope="session")
def engine(tokenizer: Tokenizer) -> Engine:
    """A model whose layers outweigh its embedding (else it repeats the last id), and sharp: no two ids are close."""
    config = dataclasses.replace(CONFIG, vocab_size=tokenizer.vocab_size)
    params = init_params(config, jax.random.key(3))
    params |= {"o": 8 * params["o"], "down": 8 * params["down"], "final_norm": params["final_norm"] + 4.0}
    return Engine(params, config, tokenizer, rows=8)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "tiny-base"
    convert(BASE, folder, "gguf", "f32")
    return folder / "model.gguf"


@pytest.fixture(scope="session")
def oracle(gguf: Path) -> Iterator[Oracle]:
    with serve(gguf) as llama:
        yield llama
