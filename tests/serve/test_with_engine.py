"""The doors before the JAX engine with a small model: the promises hold where tokens are really computed."""

import dataclasses
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import jax
import pytest
from tests.serve.conftest import SOURCE, Running, serve

from codegemma.engine.choose import choose_engine, open_generator
from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import init_params
from codegemma.model.write import convert
from codegemma.records import InfillMode, Request
from codegemma.serve.choices import ServeChoices
from codegemma.text.control_tokens import CONTROL_TOKENS, STOP_IDS

CONFIG = GemmaConfig(480, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=192)
# No answer ends by itself: the model is random.
GOES_ON = [[token_id, -1000] for token_id in sorted(STOP_IDS)]


@pytest.fixture(scope="module")
def engine(tokenizer) -> Iterator[Engine]:
    config = dataclasses.replace(CONFIG, vocab_size=tokenizer.vocab_size)
    params = init_params(config, jax.random.key(3))
    params |= {"o": 8 * params["o"], "down": 8 * params["down"], "final_norm": params["final_norm"] + 4.0}
    engine = Engine(params, config, tokenizer, (InfillMode.SPM, InfillMode.PSM), rows=4, model_name="random")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def served(engine) -> Iterator[Running]:
    with serve(engine, ServeChoices(prepares_next=False, has_healing=False)) as running:
        yield running


def test_a_fresh_completion_is_what_the_evaluations_get(served, engine):
    prefix, suffix = SOURCE[:60], "\nprint(1)\n"
    wanted = GeneratorCompleter(engine).complete_all([Request(prefix, suffix, mode=InfillMode.SPM, max_new_tokens=6)])[
        0
    ]
    reply = served.post("/infill", input_prefix=prefix, input_suffix=suffix, n_predict=6, return_tokens=True)
    shared = min(len(reply["tokens"]), len(wanted.token_ids))
    assert tuple(reply["tokens"][:shared]) == wanted.token_ids[:shared]
    assert reply["tokens_evaluated"] == wanted.prompt_tokens


def test_typing_on_finds_what_was_read(served):
    counts = []
    for end in range(70, 82):
        reply = served.post("/infill", input_prefix=SOURCE[:end], input_suffix="\nz = 1\n", n_predict=1)
        counts.append(reply["timings"]["prompt_n"])
    assert sorted(counts[1:])[5] <= 2


@pytest.mark.parametrize("path", ["/infill", "/completion", "/v1/completions", "/v1/chat/completions"])
def test_a_control_token_forced_by_its_bias_ends_the_answer_unseen(served, path):
    bodies = {
        "/infill": {"input_prefix": "def a", "input_suffix": "\n", "n_predict": 4},
        "/completion": {"prompt": "def a", "n_predict": 4},
        "/v1/completions": {"prompt": "def a", "max_tokens": 4},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    }
    for token_id, spelled in CONTROL_TOKENS.items():
        is_openai = path.startswith("/v1/")
        bias = {str(token_id): 1000} if is_openai else [[token_id, 1000]]
        for is_streamed in (False, True):
            reply = served.client.post(path, json=bodies[path] | {"logit_bias": bias, "stream": is_streamed})
            assert reply.status_code == 200, reply.text
            assert spelled not in reply.text


def test_many_at_once_get_what_each_gets_alone(served):
    def ask(number: int) -> str:
        body = {"prompt": f"def f{number}(", "n_predict": 8, "temperature": 1.0, "seed": number, "logit_bias": GOES_ON}
        return str(served.post("/completion", **body)["content"])

    alone = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone


def test_choices_and_logprobs_come_through(served):
    body = {"prompt": "def add", "max_tokens": 4, "n": 3, "temperature": 1.0, "seed": 1, "logprobs": 2}
    reply = served.post("/v1/completions", **body, logit_bias={str(i): -1000 for i in STOP_IDS})
    assert len({choice["text"] for choice in reply["choices"]}) > 1
    for choice in reply["choices"]:
        assert all(value <= 0 for value in choice["logprobs"]["token_logprobs"])
        assert all(len(top) >= 1 for top in choice["logprobs"]["top_logprobs"])


def test_a_value_that_the_engine_refuses_is_a_400(served):
    for body in ({"prompt": [2, 10**6]}, {"prompt": "x", "logit_bias": [[10**6, 1]]}):
        assert served.client.post("/completion", json=body | {"n_predict": 1}).status_code == 400


@pytest.mark.parametrize("engine_name", ["llama.cpp", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_model_file_that_disappears_while_it_is_served_is_not_missed(engine_name, tmp_path):
    """Nothing of it is read later than at the start: the server goes on as it was."""
    base = Path(str(resources.files("codegemma.bases").joinpath("tiny")))
    place = tmp_path / "model"
    if engine_name == "jax":
        shutil.copytree(base, place)
    else:
        convert(base, place, "gguf", "f32")
    with serve(open_generator(place, engine_name, {}, print, warms=False)) as running:
        body = {"input_prefix": "import os\n\nprint(os.", "input_suffix": "\n", "n_predict": 4}
        before = running.post("/infill", **body, temperature=0.0)["content"]
        shutil.rmtree(place)
        assert running.post("/infill", **body, temperature=0.0)["content"] == before
        assert running.client.get("/health").status_code == 200
    with pytest.raises(InputError, match="no such model"):
        choose_engine(place, engine_name, {})
