"""A real tokenizer and a small Gemma with random weights, shared by the engine's tests."""

import dataclasses

import jax
import pytest

from codegemma.engine.engine import Engine
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

SOURCE = 'def add(first, second):\n    """Add – both."""\n    return first + second\n\n\nprint(add(1, 2))\n'
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
