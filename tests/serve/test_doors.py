"""Each protocol's door: the same completion behind all, in the shape that its clients read."""

import json

import pytest
from tests.serve.conftest import SOURCE

BEFORE, MIDDLE = SOURCE[: SOURCE.index("st - second")], "st - second"
AFTER = SOURCE[SOURCE.index("\n    return total") :]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "def subtract(first, second):"}]


def test_every_protocol_gives_the_same_completion(running):
    sides = {"prompt": BEFORE, "suffix": AFTER}
    template = f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>"
    segments = {"prefix": BEFORE, "suffix": AFTER}
    answers = {
        "llama.cpp": running.post("/infill", input_prefix=BEFORE, input_suffix=AFTER, prompt="")["content"],
        "openai": running.post("/v1/completions", **sides, max_tokens=64, temperature=0)["choices"][0]["text"],
        "mistral": running.post("/v1/fim/completions", **sides)["choices"][0]["message"]["content"],
        "ollama": running.post("/api/generate", model="x", **sides, stream=False)["response"],
        "tabby": running.post("/v1/completions", language="python", segments=segments)["choices"][0]["text"],
        "tgi": running.post("/generate", inputs=template)["generated_text"],
    }
    assert set(answers.values()) == {MIDDLE}


@pytest.mark.parametrize(
    "template",
    [
        "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        "<|repo_name|>r\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\n"
        "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        "<PRE> {prefix} <SUF>{suffix} <MID>",
        "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
        "[SUFFIX]{suffix}[PREFIX]{prefix}",
        "{prefix}<|FIM|>{suffix}",
    ],
)
def test_a_template_of_any_model_is_spelled_anew_as_ours(running, template):
    prompt = template.format(prefix=BEFORE, suffix=AFTER)
    for path in ("/completion", "/v1/completions"):
        reply = running.post(path, prompt=prompt, n_predict=64, max_tokens=64, temperature=0)
        text = reply["content"] if "content" in reply else reply["choices"][0]["text"]
        assert text == MIDDLE


def test_streams_add_up_to_the_whole(running):
    body = {"prompt": BEFORE, "suffix": AFTER, "max_tokens": 64, "temperature": 0}
    events = running.stream("/v1/completions", **body, stream_options={"include_usage": True})
    assert "".join(e["choices"][0]["text"] for e in events if e["choices"]) == MIDDLE
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["completion_tokens"] > 0
    events = running.stream("/v1/fim/completions", **body)
    assert "".join(e["choices"][0]["delta"]["content"] for e in events) == MIDDLE
    events = running.stream("/infill", input_prefix=BEFORE, input_suffix=AFTER)
    assert "".join(e["content"] for e in events) == MIDDLE
    assert [e["stop"] for e in events][-1] is True
    lines = running.client.post("/api/generate", json={"prompt": BEFORE, "suffix": AFTER}).text.splitlines()
    assert "".join(json.loads(line)["response"] for line in lines) == MIDDLE
    assert json.loads(lines[-1])["done"] is True


def test_a_stream_tells_of_every_token_also_of_one_whose_text_is_held_back(running):
    """What a stop string may still cut off is told later, its log-probability with its token."""
    body = {"temperature": 0, "max_tokens": 30, "stop": ["\n\nxx"]}
    said = [{"role": "user", "content": SOURCE[: SOURCE.index("second):") + 8]}]
    for path, prompt, read in (
        ("/v1/completions", {"prompt": BEFORE, "logprobs": 1}, lambda c: c["logprobs"]["token_logprobs"]),
        (
            "/v1/chat/completions",
            {"messages": said, "logprobs": True},
            lambda c: (c["logprobs"] or {"content": []})["content"],
        ),
    ):
        whole = read(running.post(path, **body, **prompt)["choices"][0])
        events = running.stream(path, **body, **prompt)
        assert len(whole) > 10
        assert sum(len(read(event["choices"][0])) for event in events) == len(whole)
    body = {"prompt": BEFORE, "n_probs": 1, "n_predict": 30, "stop": ["\n\nxx"], "temperature": 0}
    rated = running.post("/completion", **body)["completion_probabilities"]
    events = running.stream("/completion", **body)
    assert [e for event in events for e in event.get("completion_probabilities", ())] == rated


def test_chat_is_answered_by_every_protocol_that_has_it(running):
    whole = running.post("/v1/chat/completions", messages=CHAT, max_tokens=8)
    assert whole["choices"][0]["message"]["role"] == "assistant"
    events = running.stream("/v1/chat/completions", messages=CHAT, max_tokens=8)
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert "message" in running.post("/api/chat", model="x", messages=CHAT, stream=False)
    assert running.post("/apply-template", messages=CHAT)["prompt"] == (
        "<bos><start_of_turn>user\nBe brief.\n\ndef subtract(first, second):<end_of_turn>\n<start_of_turn>model\n"
    )


def test_an_unknown_model_is_answered_by_the_loaded_one_and_named(running):
    reply = running.post("/v1/completions", model="google/gemini-2.5-flash", prompt="x", max_tokens=1)
    assert reply["model"] == "parrot"


def test_what_clients_ask_before_they_begin(running):
    get = lambda path: running.client.get(path).json()  # noqa: E731
    assert get("/health") == {"status": "ok"}
    health = get("/v1/health")
    assert health["status"] == "ok"
    assert health["version"]["git_describe"]
    assert get("/v1beta/server_setting") == {"disable_client_side_telemetry": True}
    assert get("/v1/models")["data"][0]["max_model_len"] == 4096
    assert get("/props")["default_generation_settings"]["n_ctx"] == 4096
    assert len(get("/slots")) == 4
    assert ".Suffix" in running.post("/api/show", model="x")["template"]
    assert get("/api/tags")["models"][0]["name"] == "parrot"
    assert running.client.post("/api/pull", json={"model": "x"}).status_code == 403
    assert "codegemma_replies_total" in running.client.get("/metrics").text
    assert "parrot" in running.client.get("/status").text


def test_tokens_go_there_and_back(running):
    text = "print('<|fim_middle|> – é')"
    tokens = running.post("/tokenize", content=text)["tokens"]
    assert min(tokens) >= 108
    assert running.post("/detokenize", tokens=tokens)["content"] == text
    assert running.post("/tokenize", content="<|fim_middle|>", parse_special=True, add_special=True)["tokens"] == [
        2,
        68,
    ]
    pieces = running.post("/tokenize", content="add", with_pieces=True)["tokens"]
    assert "".join(p["piece"] for p in pieces) == "add"


def test_data_in_a_string_does_not_break_hand_written_parsers_of_events(running):
    running.parrot.text = "say data: this and data: that\n"
    reply = running.client.post(
        "/v1/completions", json={"prompt": "say ", "stream": True, "temperature": 0, "max_tokens": 64}
    )
    events = [line for line in reply.text.split("\n\n") if line]
    assert all(event.count("data:") == 1 for event in events)
    assert "".join(json.loads(e[6:])["choices"][0]["text"] for e in events[:-1]) == "data: this and data: that\n"


def test_the_last_event_of_an_editor_is_counted(running):
    reply = running.post("/v1/completions", language="python", segments={"prefix": BEFORE, "suffix": AFTER})
    for kind in ("view", "select"):
        event = {"type": kind, "completion_id": reply["id"], "choice_index": 0}
        assert running.client.post("/v1/events?select_kind=line", json=event).status_code == 200
    counters = running.client.get("/metrics").text
    assert 'codegemma_completions_total{event="accepted",language="python"} 1.0' in counters
    assert f"codegemma_accepted_characters_total {len(MIDDLE)}.0" in counters


PENALTIES = {"presence_penalty": 0.5, "frequency_penalty": 0.25}
CONVERSATION = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/infill", {"input_prefix": "def a", "input_suffix": "\n", **PENALTIES, "repeat_last_n": -1}),
        ("/completion", {"prompt": "def a", **PENALTIES}),
        ("/v1/completions", {"prompt": "def a", "suffix": "\n", **PENALTIES}),
        ("/v1/chat/completions", {"messages": CONVERSATION, **PENALTIES}),
        ("/v1/fim/completions", {"prompt": "def a", "suffix": "\n", **PENALTIES}),
        ("/api/generate", {"prompt": "def a", "stream": False, "options": PENALTIES}),
    ],
)
def test_penalties_reach_the_engine(running, path, body):
    running.post(path, **body)
    sampling = running.parrot.generations[-1].sampling
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, 0.25)
    assert sampling.penalized_tokens == (None if path == "/infill" else 64)


def test_penalties_of_text_generation_inference_count_the_whole_prompt(running):
    running.post("/generate", inputs="def a", parameters={"repetition_penalty": 1.2, "frequency_penalty": 0.25})
    sampling = running.parrot.generations[-1].sampling
    assert (sampling.repetition_penalty, sampling.frequency_penalty) == (1.2, 0.25)
    assert sampling.penalized_tokens is None


SECRET = "ghp_" + "a1B2c3D4e5F6" * 3
ASKED = {
    ".env looks like": "Why is this?\n\n`.env`:\n```\nKEY=1\n```",
    "deploy/id_rsa looks like": "`deploy/id_rsa:1-2`:\n````text\nabc\n````\nWhat is it?",
    "prod.env looks like": "`prod.env`\r\n\r\n```\r\nKEY=1\r\n```\r\n",
    "by its name": "```yaml config/secrets.yml\na: 1",
    "github-token in line 2": f"`a.py`:\n~~~python\nimport os\ntoken = '{SECRET}'\n~~~",
}


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/chat/completions", lambda reply: reply["error"]["message"]),
        ("/v1beta/chat/completions", lambda reply: reply["error"]["message"]),
        ("/api/chat", lambda reply: reply["error"]),
        ("/apply-template", lambda reply: reply["error"]["message"]),
        ("/v1/tutor/ask", lambda reply: reply["error"]["message"]),
    ],
)
def test_a_message_that_quotes_a_secret_is_refused_at_every_door_and_says_why(running, path, shape):
    before = len(running.parrot.generations)
    for reason, text in ASKED.items():
        reply = running.client.post(path, json={"messages": [{"role": "user", "content": text}], "stream": True})
        assert reply.status_code == 400
        assert reason in shape(reply.json())
        assert SECRET not in reply.text
    assert len(running.parrot.generations) == before


def test_what_a_person_types_or_a_model_said_is_no_quoted_secret(running):
    messages = [
        {"role": "user", "content": f"What is a .env file, and is {SECRET} one of GitHub's?"},
        {"role": "assistant", "content": "`.env`:\n```\nKEY=...\n```"},
        {"role": "user", "content": "`.env.example`:\n```\nKEY=\n```\nand `a.py`:\n```python\nx = 1\n```"},
    ]
    assert running.client.post("/v1/chat/completions", json={"messages": messages}).status_code == 200


def test_a_learners_own_code_with_a_secret_is_refused_before_anything_is_told(running):
    body = {"messages": CONVERSATION, "code": f"token = '{SECRET}'"}
    reply = running.client.post("/v1/tutor/ask", json=body)
    assert reply.status_code == 400
    assert "your code looks like a file of secrets (github-token in line 1)" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "wrong"),
    [
        ("/infill", {"input_prefix": "a"}, {"typical_p": 0.5}),
        ("/completion", {"prompt": "a"}, {"grammar": 'root ::= "x"'}),
        ("/completion", {"prompt": "a"}, {"ignore_eos": True}),
        ("/v1/completions", {"prompt": "a"}, {"best_of": 4, "n": 2}),
        ("/v1/chat/completions", {"messages": CONVERSATION}, {"response_format": {"type": "json_object"}}),
        ("/v1/chat/completions", {"messages": CONVERSATION}, {"top_logprobs": 3}),
        ("/v1/fim/completions", {"prompt": "a"}, {"min_tokens": 9}),
        ("/api/generate", {"prompt": "a"}, {"format": "json"}),
    ],
)
def test_what_would_change_an_answer_and_is_not_done_is_refused_by_name(running, path, body, wrong):
    name = next(iter(wrong))
    reply = running.client.post(path, json=body | wrong)
    assert reply.status_code == 400
    assert name in reply.text


def test_samplers_that_are_not_here_are_let_through_where_they_do_nothing(running):
    neutral = {"typical_p": 1, "mirostat": 0, "dry_multiplier": 0, "xtc_probability": 0, "ignore_eos": False}
    running.post("/completion", prompt="a", grammar="", **neutral)
    running.post("/v1/chat/completions", messages=CONVERSATION, response_format={"type": "text"})


def test_every_field_of_a_shared_route_counts_for_tabby_too(running):
    body = {"segments": {"prefix": BEFORE, "suffix": AFTER}, "top_k": 3, "presence_penalty": 0.5, "stop": ["zz"]}
    running.post("/v1/completions", **body)
    asked = running.parrot.generations[-1]
    assert (asked.sampling.top_k, asked.sampling.presence_penalty) == (3, 0.5)
    assert "zz" in asked.stop.strings


def test_openais_door_takes_llama_cpps_name_for_a_length(running):
    running.post("/v1/completions", prompt="def a", n_predict=3)
    assert running.parrot.generations[-1].max_new_tokens == 3


def test_more_blocks_than_are_looked_through_are_refused(running):
    text = "\n".join(f"```\n{number}\n```" for number in range(2001))
    reply = running.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}]})
    assert reply.status_code == 400
    assert "quote over 2,000 blocks" in reply.json()["error"]["message"]
