"""A model behind a server: llama.cpp's own, ours, and servers that are ill."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.http_server import listen
from tests.serve.conftest import serve as serve_ours

from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.engine.llama_start import LlamaChoices
from codegemma.engine.remote import RemoteCompleter, Route
from codegemma.errors import InputError
from codegemma.records import Completer, InfillMode, Neighbor, Request, Sampling, StopReason, Turn
from codegemma.serve.choices import ServeChoices
from codegemma.text.dialects import find_dialect, list_stops, spell_infill
from codegemma.text.infill_format import format_prompt
from codegemma.text.tokenizer import Tokenizer
from codegemma.wire import ServerError, Wire

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: make setup-dev")

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"
SOURCE = Path(json.__file__).read_text(encoding="utf-8")
CUT = SOURCE.index("if cls is ") + len("if cls is ")
OFFSETS = [match.end() for match in re.finditer(r"= |return ", SOURCE) if match.end() > 150][:12]
HOLE = Request(SOURCE[CUT - 150 : CUT], SOURCE[CUT : CUT + 80], max_new_tokens=12)


def test_llama_cpp_is_asked_by_infill(oracle):
    remote = RemoteCompleter(oracle._server.listening_address + "/v1")
    assert isinstance(remote, Completer)
    assert (remote.route, remote.max_context_tokens) == (Route.INFILL, 256)
    theirs = oracle.ask(
        "/infill", input_prefix=HOLE.prefix, input_suffix=HOLE.suffix, input_extra=[], n_predict=12, temperature=0
    )
    answer = remote.complete_all([HOLE])[0]
    assert (answer.text, answer.prompt_tokens) == (theirs["content"], theirs["tokens_evaluated"])
    (delta,) = remote.complete(HOLE)
    assert (delta.text, delta.stop_reason) == (answer.text, answer.stop_reason)


def test_a_template_spells_the_prompt_that_we_would(oracle):
    remote = RemoteCompleter(oracle._server.listening_address, template="codegemma")
    tokenizer = Tokenizer.load(BASE)
    ids = format_prompt(tokenizer, prefix=HOLE.prefix, suffix=HOLE.suffix, mode=InfillMode.PSM, path="a.py")
    theirs = oracle.generate(ids, 12, top_k=1, samplers=["top_k"])
    request = Request(HOLE.prefix, HOLE.suffix, "a.py", max_new_tokens=12)
    answer = remote.complete_all([request])[0]
    assert (answer.text, answer.prompt_tokens) == (theirs["content"], len(ids))


def test_a_request_without_a_hole_goes_on_from_its_prefix(oracle):
    remote = RemoteCompleter(oracle._server.listening_address)
    tokenizer = Tokenizer.load(BASE)
    theirs = oracle.generate([2, *tokenizer.encode(HOLE.prefix).tolist()], 12)
    answer = remote.complete_all([Request(HOLE.prefix, "", mode=None, max_new_tokens=12)])[0]
    assert answer.text == theirs["content"]


def test_many_requests_come_back_in_order(oracle):
    remote = RemoteCompleter(oracle._server.listening_address)
    requests = [Request(f"x{number} = ", "\n", max_new_tokens=3) for number in range(20)]
    alone = [remote.complete_all([request])[0].text for request in requests]
    assert [answer.text for answer in remote.complete_all(requests)] == alone


def test_it_does_not_score_and_knows_one_order(oracle):
    remote = RemoteCompleter(oracle._server.listening_address)
    with pytest.raises(NotImplementedError, match="cannot rate"):
        remote.score([((2,), (3,))])
    with pytest.raises(InputError, match="orders the parts itself"):
        remote.complete_all([Request("a", "b", mode=InfillMode.SPM)])
    with pytest.raises(InputError, match=r"has no model 'other'; it has "):
        RemoteCompleter(oracle._server.listening_address, model="other")
    with pytest.raises(InputError, match="unknown template 'klingon'; known: codegemma, codellama, "):
        RemoteCompleter(oracle._server.listening_address, template="klingon")


def test_our_server_on_llama_cpp_answers_by_infill_and_by_suffix_alike(gguf):
    engine = LlamaCpp.load(gguf, LlamaChoices(slots=2, threads=1, is_exact=True))
    try:
        with serve_ours(engine) as running:
            remote = RemoteCompleter(running.url)
            holes = [replace(HOLE, prefix=SOURCE[at - 150 : at], suffix=SOURCE[at : at + 80]) for at in OFFSETS]
            by_infill = [answer.text for answer in remote.complete_all(holes)]
            remote.route = Route.SUFFIX
            assert [answer.text for answer in remote.complete_all(holes)] == by_infill
            assert any(by_infill)
    finally:
        engine.close()


def test_what_llama_cpp_reads_of_a_cold_prompt_hangs_on_its_measured_speed_and_the_deadline(gguf):
    engine = LlamaCpp.load(gguf, LlamaChoices(slots=2, threads=1))
    try:
        with serve_ours(engine, ServeChoices(prepares_next=False, least_tokens=32)) as running:
            body = {"input_suffix": "\n", "n_predict": 1, "t_max_prompt_ms": 200}
            running.post("/completion", prompt=SOURCE[:400], n_predict=1)  # read whole, and measured
            assert running.service.speed_tokens_per_s
            counts = []
            for start, speed in ((0, 10_000.0), (2000, 100.0)):
                running.service._speed.tokens_per_s = speed  # whatever else this machine does
                reply = running.post("/infill", input_prefix=SOURCE[start : start + 1500], **body)
                counts.append(reply["tokens_evaluated"])
            assert counts[1] <= 32 + 8
            assert counts[1] < counts[0]
            assert any("prefix" in dropped for dropped in reply["why"]["dropped"])
    finally:
        engine.close()


@contextmanager
def ill_server(replies: list[Callable[[BaseHTTPRequestHandler], None]]) -> Iterator[tuple[str, list[Any]]]:
    """Answer with each of the replies in turn, the last one for ever; `/v1/models` is always well."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            send(self, 200, {"data": [{"id": "m", "max_model_len": 99}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, json.loads(body), self.headers.get("Authorization")))
            replies[min(len(asked), len(replies)) - 1](self)

    with listen(Handler) as address:
        yield address, asked


def send(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def answer_well(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, {"choices": [{"text": "1", "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}})


def ask_ill(
    replies: list[Callable[[BaseHTTPRequestHandler], None]], timeout_s: float = 60.0
) -> tuple[Any, list[Any], list[float]]:
    waits: list[float] = []
    with ill_server(replies) as (address, asked):
        remote = RemoteCompleter(address, wire=Wire(address, api_key="k", timeout_s=60.0, tries=4, wait=waits.append))
        remote.wire._timeout_s = timeout_s  # of the questions alone: what the server has is found out in peace
        try:
            return remote.complete_all([Request("x = ", "\n")])[0], asked, waits
        except ServerError as error:
            return error, asked, waits


def test_a_busy_server_is_asked_again_as_it_wishes():
    answer, asked, waits = ask_ill(
        [
            lambda h: send(h, 503, {"error": {"message": "Loading model"}}),
            lambda h: send(h, 429, {}, Retry_After="7"),
            lambda h: h.connection.close(),
            answer_well,
        ]
    )
    assert (answer.text, answer.stop_reason, answer.prompt_tokens) == ("1", StopReason.CONTROL_TOKEN, 3)
    assert len(asked) == 4
    assert 0.5 <= waits[0] < 1 and waits[1] == 7 and 2 <= waits[2] < 3
    path, body, key = asked[-1]
    assert (path, body["prompt"], body["suffix"], key) == ("/v1/completions", "x = ", "\n", "Bearer k")


@pytest.mark.parametrize(
    ("reply", "message", "tries"),
    [
        (lambda h: send(h, 503, {"error": "full"}), "no answer in 4 tries.*503 full", 4),
        (lambda h: send(h, 400, {"error": {"message": "suffix is not supported"}}), "refused: 400 suffix is not", 1),
        (lambda h: send(h, 200, b"<html>"), "no JSON: '<html>'", 1),
        (lambda h: send(h, 200, {"choices": []}), "without a text", 1),
        (lambda h: send(h, 200, [1]), "without a text", 1),
        (lambda h: send(h, 200, {"choices": [{"text": ""}]}), "no text and no reason", 1),
    ],
)
def test_no_answer_is_never_an_empty_one(reply, message, tries):
    error, asked, _ = ask_ill([reply])
    assert isinstance(error, ServerError)
    assert re.search(message, str(error))
    assert len(asked) == tries


def test_a_server_that_is_silent_is_left_after_its_tries():
    is_over = threading.Event()

    def say_nothing(_: BaseHTTPRequestHandler) -> None:
        is_over.wait(60)

    try:
        error, _, waits = ask_ill([say_nothing], timeout_s=0.1)
    finally:
        is_over.set()
    assert isinstance(error, ServerError)
    assert "no answer in 4 tries" in str(error)
    assert len(waits) == 3


def test_a_server_that_is_not_there_is_named_at_once():
    with pytest.raises(ServerError, match=r"does not answer.*is the server up"):
        RemoteCompleter("http://127.0.0.1:9")
    with pytest.raises(InputError, match="no address"):
        RemoteCompleter("127.0.0.1:9")


def test_sampling_reaches_the_server():
    with ill_server([answer_well]) as (address, asked):
        sampling = Sampling(0.5, 40, 0.9, 0.05, 1.1, 7, ((3, -1.0),), 0.2, 0.3)
        RemoteCompleter(address).complete_all([Request("a", "b", sampling=sampling)])
    body = asked[0][1]
    assert [body[name] for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")] == [
        0.5, 40, 0.9, 0.05, 1.1, 7,
    ]  # fmt: skip
    assert body["logit_bias"] == {"3": -1.0}
    assert (body["presence_penalty"], body["frequency_penalty"]) == (0.2, 0.3)


def test_conversation_goes_to_the_chat_door_with_what_ends_its_answer():
    def answer(handler: BaseHTTPRequestHandler) -> None:
        choice = {"message": {"role": "assistant", "content": "four"}, "finish_reason": "stop"}
        send(handler, 200, {"choices": [choice], "usage": {"prompt_tokens": 9}})

    turns = (Turn("system", "s"), Turn("user", "2+2?"), Turn("model", "3"), Turn("user", "no"))
    with ill_server([answer]) as (address, asked):
        remote = RemoteCompleter(address)
        completion = remote.complete_all([Request("", "", turns=turns, stop_strings=("#",))])[0]
        with pytest.raises(InputError, match="cannot be sent"):
            remote.complete_all([Request("begun", "", turns=turns)])
    assert (completion.text, completion.prompt_tokens) == ("four", 9)
    path, body, _ = asked[0]
    assert path == "/v1/chat/completions"
    assert [tuple(message.values()) for message in body["messages"]] == [
        ("system", "s"), ("user", "2+2?"), ("assistant", "3"), ("user", "no"),
    ]  # fmt: skip
    assert body["stop"] == ["#"]


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("codegemma", "n.py\ny\n<|file_separator|>m.py\n<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        ("qwen", "<|file_sep|>n.py\ny\n<|file_sep|>m.py\n<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        ("starcoder", "<file_sep>n.py\ny\n<file_sep>m.py\n<fim_prefix>a<fim_suffix>b<fim_middle>"),
        ("deepseek", "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"),
        ("codellama", "<PRE> a <SUF>b <MID>"),
    ],
)
def test_templates_are_spelled_as_their_models_were_trained(name, spelled):
    dialect = find_dialect(name)
    assert spell_infill(dialect, "a", "b", "m.py", [Neighbor("n.py", "y\n")]) == spelled
    assert dialect.middle in list_stops(dialect)
