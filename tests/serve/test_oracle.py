"""llama.cpp's own server and ours are sent the same: the same keys come back, of the same types, in the same order.

What differs on purpose is listed here, so that nothing else does.
"""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import xllamacpp  # noqa: F401  # where it is missing this fails: nothing else holds what is promised here
from safetensors import safe_open
from tests.model.llama_cpp import LlamaCpp, serve

from codegemma.model.gguf import write_gguf
from codegemma.model.weights import describe_model
from codegemma.text.tokenizer import Tokenizer

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
SIDES = {"input_prefix": "def add(a, b):\n", "input_suffix": "\n", "prompt": "    ret"}
FIELDS = ["content", "timings/prompt_n", "timings/predicted_per_second", "truncated", "tokens_cached", "no/such"]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/infill", SIDES | {"n_predict": 4}),
    ("/infill", SIDES | {"n_predict": 0}),
    ("/infill", SIDES | {"n_predict": 4, "prompt": ""}),
    ("/infill", SIDES | {"n_predict": 4, "input_extra": [{"text": "x = 1\n", "filename": "a.py"}]}),
    ("/infill", SIDES | {"n_predict": 4, "input_extra": [{"text": "x = 1\n", "time": [1, 2], "filename": ""}]}),
    ("/infill", SIDES | {"n_predict": 4, "response_fields": FIELDS}),
    ("/infill", SIDES | {"n_predict": 0, "response_fields": [""]}),
    ("/infill", SIDES | {"n_predict": 4, "n_indent": 4, "samplers": ["top_k", "top_p", "infill"]}),
    ("/infill", SIDES | {"n_predict": 4, "t_max_predict_ms": 250, "t_max_prompt_ms": 500}),
    ("/infill", SIDES | {"n_predict": 4, "n_cmpl": 1, "top_k": 40, "top_p": 0.99}),
    ("/infill", SIDES | {"max_tokens": 4, "stop": ["x"], "return_tokens": True}),
    ("/completion", {"prompt": "def add(", "n_predict": 4}),
    ("/completion", {"prompt": "def add(", "n_predict": 4, "n_probs": 2}),
    ("/completion", {"prompt": [2, 400, 401], "n_predict": 4}),
    ("/completion", {"prompt": [2, "def"], "n_predict": 4, "return_tokens": True}),
    ("/completion", {"prompt": "def add(", "n_predict": 4, "temperature": 0, "stop": ["x", "y"], "seed": 3}),
    ("/completion", {"prompt": "def add(", "n_predict": 4, "logit_bias": [[500, -5.0]]}),
    ("/tokenize", {"content": "ab é", "with_pieces": True}),
    ("/tokenize", {"content": "ab", "add_special": True}),
    ("/detokenize", {"tokens": [400, 401]}),
    ("/apply-template", {"messages": [{"role": "user", "content": "Hi"}]}),
]
# Ours says why, and how large the window is, which llama.vscode shows and llama.cpp no longer sends.
OURS_ALONE = {"why", "generation_settings/n_ctx"}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory) -> Iterator[LlamaCpp]:
    path = tmp_path_factory.mktemp("oracle") / "tiny.gguf"
    with safe_open(BASE / "model.safetensors", framework="numpy") as weights:
        tokenizer = Tokenizer.load(BASE)
        write_gguf(path, describe_model(BASE), tokenizer, lambda name: [weights.get_tensor(name)], "f32")
    with serve(path) as server:
        yield server


def describe(value: Any, name: str = "") -> dict[str, str]:
    """Name the type of everything in a reply; of a list, that of its first item."""
    if isinstance(value, dict):
        inner = {key: describe(item, f"{name}/{key}".strip("/")) for key, item in value.items()}
        return {name: "object"} | {path: kind for types in inner.values() for path, kind in types.items()}
    if isinstance(value, list):
        return {name: "list"} | (describe(value[0], f"{name}/0".strip("/")) if value else {})
    kinds = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}
    return {name: kinds[type(value)]}


def is_ours_alone(path: str) -> bool:
    return any(path == alone or path.startswith(f"{alone}/") for alone in OURS_ALONE)


@pytest.mark.parametrize(("path", "body"), REQUESTS, ids=range(len(REQUESTS)))
def test_a_reply_has_llama_cpps_keys_and_types(oracle, running, path, body):
    theirs, ours = oracle.ask(path, **body), running.post(path, **body)
    told = {p: kind for p, kind in describe(ours).items() if not is_ours_alone(p)}
    wanted = describe(theirs)
    # Whether a list has items is the model's business.
    assert {p for p in wanted.keys() ^ told.keys() if "/0" not in p} == set()
    assert {p: told[p] for p in wanted.keys() & told.keys()} == {p: wanted[p] for p in wanted.keys() & told.keys()}
    if isinstance(theirs, dict):
        assert [key for key in ours if key not in OURS_ALONE] == list(theirs)


@pytest.mark.parametrize("path", ["/health", "/slots"])
def test_what_is_read_without_a_body_has_their_keys(oracle, running, path):
    with urllib.request.urlopen(oracle._server.listening_address + path, timeout=60) as reply:  # noqa: S310
        theirs = json.load(reply)
    ours = running.client.get(path).json()
    if isinstance(theirs, list):
        theirs, ours = theirs[0], ours[0]
        # What the slot holds is somebody's prompt.
        assert ours.keys() <= theirs.keys()
    else:
        assert ours == theirs


def test_a_wrong_field_is_refused_in_the_same_shape(oracle, running):
    with pytest.raises(HTTPError) as raised:
        oracle.ask("/infill", input_prefix="x", input_suffix=5)
    theirs = raised.value
    with theirs:
        wanted = describe(json.load(theirs))
    ours = running.client.post("/infill", json={"input_prefix": "x", "input_suffix": 5})
    assert (ours.status_code, describe(ours.json())) == (theirs.code, wanted)
