"""Answers written at once are those that the engine writes one by one."""

import jax
import numpy as np
import pytest

from codegemma.engine.engine import Engine
from codegemma.engine.rollout import Writing, roll_out
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.records import Generation, Sampling
from codegemma.text.control_tokens import STOP_IDS
from codegemma.text.tokenizer import train_tokenizer

CONFIG = GemmaConfig(512, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=128)
PROMPTS = [[2, 150, 151], [2, 160, 161, 162, 163, 164, 165]]


@pytest.fixture(scope="module")
def params() -> dict[str, jax.Array]:
    drawn = init_params(CONFIG, jax.random.key(3))
    # Sharper than fresh ones, and ready to end.
    drawn["emb"] = drawn["emb"] * 4
    return drawn


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_seed_gives_the_engines_answer(params: dict[str, jax.Array], temperature: float) -> None:
    tokenizer = train_tokenizer(["def f(x):\n    return x\n"], vocab_size=512)
    found = roll_out(params, CONFIG, PROMPTS, Writing(2, 40, temperature), [7, 8, 17, 18])
    engine = Engine(params, CONFIG, tokenizer, rows=2)
    for place, prompt in enumerate(PROMPTS):
        asked = Generation(tuple(prompt), 40, Sampling(temperature, seed=7 + 10 * place), choices=2, top_logprobs=1)
        deltas = list(engine.generate(asked))
        for choice in range(2):
            told = [d for d in deltas if d.choice == choice]
            ids = [i for d in told for i in d.token_ids]
            rollout = found[2 * place + choice]
            written = list(rollout.ids[:-1] if rollout.has_ended else rollout.ids)
            assert written == ids
            rated = [entry.logprob for d in told for entry in d.logprobs]
            np.testing.assert_allclose(rollout.logprobs[: len(rated)], rated, atol=1e-4)
    engine.close()


def test_answers_end_with_a_control_token_or_at_the_limit(params: dict[str, jax.Array]) -> None:
    found = roll_out(params, CONFIG, PROMPTS[:1], Writing(16, 33, 1.5), list(range(16)))
    for rollout in found:
        assert rollout.has_ended == (rollout.ids[-1] in STOP_IDS)
        assert not STOP_IDS & set(rollout.ids[:-1])
        assert rollout.has_ended or len(rollout.ids) == 33


def test_a_prompt_without_room_is_refused(params: dict[str, jax.Array]) -> None:
    with pytest.raises(InputError, match="1 to 127 tokens"):
        roll_out(params, CONFIG, [[2] * 128], Writing(1, 4, 0.0), [0])
