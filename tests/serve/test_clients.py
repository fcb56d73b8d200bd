"""openai-python, for all that it calls: it was not written for this server."""

import openai
import pytest
from tests.serve.conftest import SOURCE, Running

BEFORE, MIDDLE = SOURCE[: SOURCE.index("st - second")], "st - second"
AFTER = SOURCE[SOURCE.index("\n    return total") :]


@pytest.fixture
def client(running: Running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_completes_with_a_suffix(client):
    reply = client.completions.create(model="any", prompt=BEFORE, suffix=AFTER, max_tokens=64, temperature=0)
    assert reply.choices[0].text == MIDDLE
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details.cached_tokens >= 0
    assert reply.model == "parrot"


def test_openai_streams_with_usage(client):
    stream = client.completions.create(
        model="any", prompt=BEFORE, suffix=AFTER, max_tokens=64, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == MIDDLE
    assert chunks[-1].usage.completion_tokens > 0


def test_openai_asks_for_choices_logprobs_echo_and_stops(client):
    reply = client.completions.create(
        model="any", prompt="def add", n=2, logprobs=1, echo=True, max_tokens=20, temperature=0,
        stop=["->", "return"] * 5, extra_body={"top_k": 1, "min_p": 0.05, "cache_prompt": True},
    )  # fmt: skip
    assert [c.index for c in reply.choices] == [0, 1]
    assert reply.choices[0].text.startswith("def add(first, second)")
    assert len(reply.choices[0].logprobs.tokens) == len(reply.choices[0].logprobs.token_logprobs) > 0
    assert "return" not in reply.choices[0].text


def test_openai_sends_several_prompts_and_ids(client, running):
    reply = client.completions.create(model="any", prompt=["def add", "def subtract"], max_tokens=4, temperature=0)
    assert [c.index for c in reply.choices] == [0, 1]
    ids = running.post("/tokenize", content="def add", add_special=True)["tokens"]
    by_ids = client.completions.create(model="any", prompt=ids, max_tokens=4, temperature=0)
    assert by_ids.choices[0].text == reply.choices[0].text


def test_openai_chats(client):
    parts = [{"type": "text", "text": "def add("}]
    messages = [{"role": "system", "content": "Brief."}, {"role": "user", "content": parts}]
    reply = client.chat.completions.create(model="any", messages=messages, max_tokens=8, logprobs=True, top_logprobs=1)
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].logprobs.content
    stream = client.chat.completions.create(
        model="any", messages=messages, max_completion_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.prompt_tokens > 0


def test_openai_lists_models(client):
    assert [m.id for m in client.models.list()] == ["parrot"]
    assert client.models.retrieve("unknown").id == "parrot"


def test_openai_raises_its_own_error_for_a_wrong_field(client):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="any", prompt="x", temperature=-1)
