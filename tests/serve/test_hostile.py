"""Whatever comes, each route answers in its own shape: never a 5xx, never a control token, never another's text."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.serve.conftest import SOURCE, serve
from tests.serve.parrot import Parrot

from codegemma.serve.api.door import Door
from codegemma.serve.api.pages import read_page_files
from codegemma.serve.choices import ServeChoices
from codegemma.serve.doors import DOORS
from codegemma.text.control_tokens import CONTROL_TOKENS, RESERVED_IDS
from codegemma.text.tokenizer import train_tokenizer

# Each once: `/completions` and `/v1beta/chat/completions` are other names of doors that are here.
TWINS = ("/completions", "/v1beta/chat/completions")
POSTS = [door for door in DOORS if door.method == "POST" and door.fields and door.path not in TWINS]
NAMES = [door.path for door in POSTS]
TURNS = [{"role": "user", "content": "Hi"}]
GOOD: dict[str, dict[str, Any]] = {
    "/infill": {"input_prefix": "def a", "input_suffix": "\n"},
    "/completion": {"prompt": "def a"},
    "/tokenize": {"content": "a"},
    "/detokenize": {"tokens": [200]},
    "/apply-template": {"messages": TURNS},
    "/v1/completions": {"prompt": "def a"},
    "/v1/chat/completions": {"messages": TURNS, "max_tokens": 4},
    "/v1/fim/completions": {"prompt": "def a", "suffix": "\n"},
    "/api/generate": {"prompt": "def a", "stream": False},
    "/api/chat": {"messages": TURNS, "stream": False},
    "/api/show": {"model": "x"},
    "/v1/events": {"type": "view", "completion_id": "x"},
    "/generate": {"inputs": "def a"},
    "/v1/run": {"language": "shell", "code": "true"},
    "/v1/tutor/exercise": {"kind": "write"},
    "/v1/tutor/attempt": {"exercise": "predict-beginner-numbers-1", "code": "1"},
    "/v1/tutor/hint": {"exercise": "write-beginner-numbers-1"},
    "/v1/tutor/correct": {"code": "x = 1"},
    "/v1/tutor/explain": {"code": "x = 1", "line": 1},
    "/v1/tutor/ask": {"messages": TURNS},
}
BAD: list[Any] = [
    None, True, -1, 0, 3.5, 1e300, -1e300, 2**70, -(2**70), "", "text", "\ud800", "a\udfffb", [], [None], ["\ud834"],
    [[1, 2]], {}, {"a": 1}, [{}], [{"text": 5}], [1e99], [-5], "x" * 20_000, [[[[[[]]]]]], [2**31 - 1],
]  # fmt: skip
RAW = [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b'{"prompt":"\xc3"}', b'{"n":NaN}', b'{"n":Infinity}',
       b"[" * 100_000, b'{"a":' * 50_000, b'{"n":' + b"9" * 5_000 + b"}", b'{"n":1e999}', b"\0" * 10]  # fmt: skip


def check_shape(door: Door, status: int, content: bytes) -> None:
    """An error is spelled as the protocol's own server spells one."""
    assert status < 500, content
    if status >= 400:
        error = json.loads(content)
        assert error.keys() == door.shape(status, "").keys()


@pytest.mark.parametrize("door", POSTS, ids=NAMES)
def test_bad_fields_are_answered_in_the_routes_own_shape(running, door):
    tried = 0
    for name in (*door.fields, "unknown"):
        for value in BAD:
            body = json.dumps(GOOD[door.path] | {name: value}).encode()
            check_shape(door, *running.send(door.path, body))
            tried += 1
    for name in door.required:
        status, content = running.send(
            door.path, json.dumps({k: v for k, v in GOOD[door.path].items() if k != name}).encode()
        )
        assert status == 400
        check_shape(door, status, content)
        tried += 1
    assert tried >= len(BAD) * 2


@pytest.mark.parametrize("door", POSTS, ids=NAMES)
def test_a_body_that_is_no_request_is_refused_with_400(running, door):
    for body in RAW:
        status, content = running.send(door.path, body)
        is_object = body.startswith(b'{"n":') and not body.startswith((b'{"n":NaN', b'{"n":Inf', b'{"n":99'))
        assert status == 400 or is_object, (body[:20], content)
        check_shape(door, status, content)


def test_a_body_of_50_mb_is_refused(running):
    status, content = running.send("/infill", b'{"prompt":"' + b"x" * 50_000_000 + b'"}')
    assert status == 413
    assert b"at most" in content


def test_a_body_that_dribbles_is_cut_off_in_time(tokenizer):
    choices = ServeChoices(body_timeout_s=0.3, prepares_next=False)
    with (
        serve(Parrot(tokenizer, SOURCE), choices) as running,
        socket.create_connection(("127.0.0.1", running.port)) as slow,
    ):
        slow.sendall(b"POST /infill HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        slow.settimeout(20)
        assert b" 408 " in slow.recv(4096)


def test_headers_that_dribble_or_never_end_are_cut_off(running, monkeypatch):
    monkeypatch.setattr("codegemma.serve.server._HEADER_TIMEOUT_S", 0.3)
    with socket.create_connection(("127.0.0.1", running.port)) as slow:
        slow.settimeout(20)
        slow.sendall(b"GET /health HTTP/1.1\r\nX: ")
        assert slow.recv(10) == b""
    with socket.create_connection(("127.0.0.1", running.port)) as endless:
        endless.settimeout(20)
        with pytest.raises(OSError):
            for _ in range(1000):
                endless.sendall(b"X: " + b"y" * 1000 + b"\r\n")
                if endless.recv(1) == b"":
                    raise BrokenPipeError
    assert running.client.get("/health").status_code == 200


def test_a_name_of_no_file_of_the_page_is_not_found_and_not_remembered(running):
    for name in ("none.js", "a" * 300 + ".js", "a%00.js", "..", "%2e%2e%2fapp.py", "index"):
        status, _ = running.send(f"/web/{name}", None)
        assert status == 404, name
    assert running.send("/web/app.js", None)[0] == 200
    assert {"index.html", "app.js", "style.css"} <= read_page_files().keys()
    assert read_page_files.cache_info().currsize == 1


def wait_until(condition, seconds=20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_client_that_leaves_cancels_its_own_request_and_no_other(tokenizer, is_streamed):
    parrot = Parrot(tokenizer, "start " + "abc " * 400, step_s=0.01)
    with serve(parrot) as running:
        body = {"prompt": "start ", "n_predict": 150, "temperature": 0, "stream": is_streamed}
        other: list[str] = []
        thread = threading.Thread(
            target=lambda: other.append(running.post("/completion", **body | {"stream": False, "seed": 5})["content"])
        )
        thread.start()
        wait_until(lambda: len(parrot.generations) == 2)  # the first warmed the engine up
        spelled = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", running.port)) as leaver:
            head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(spelled)}\r\n\r\n"
            leaver.sendall(head.encode() + spelled)
            wait_until(lambda: len(parrot.generations) == 3)
        wait_until(lambda: parrot.cancelled == 1)
        wait_until(lambda: running.service.running <= 1)
        thread.join()
        assert other[0].startswith("abc abc")
        assert parrot.cancelled == 1


def test_a_prompt_over_the_context_is_trimmed_by_rule_and_says_so(tokenizer):
    with serve(Parrot(tokenizer, SOURCE, max_context_tokens=256)) as running:
        long = "value = 1\n" * 3000
        infill = running.post("/infill", input_prefix=long + "def add(", input_suffix=long, prompt="")
        assert infill["truncated"] is True
        assert any("prefix" in d for d in infill["why"]["dropped"])
        plain = running.post("/completion", prompt=long)
        assert plain["truncated"] is True
        chat = running.post("/v1/chat/completions", messages=[{"role": "user", "content": long}])
        assert chat["why"]["dropped"]
        assert all(len(g.prompt_ids) <= 256 for g in running.parrot.generations)


ROUTES = (
    "/infill", "/completion", "/v1/completions", "/v1/chat/completions", "/v1/fim/completions", "/api/generate",
    "/api/chat", "/generate",
)  # fmt: skip


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_forced_control_token_never_reaches_the_editor(running, path, is_streamed):
    for token_id, spelled in CONTROL_TOKENS.items():
        running.parrot.forced = token_id
        body = GOOD[path] | {"stream": is_streamed, "user": str(token_id), "seed": token_id}
        if path in ("/infill", "/completion"):
            body["logit_bias"] = [[token_id, 100]]
        elif path.startswith("/v1/") and "fim" not in path:
            body["logit_bias"] = {str(token_id): 100}
        reply = running.client.post(path, json=body)
        assert reply.status_code == 200
        assert spelled not in reply.text
        assert not any(piece in reply.text for piece in ("fim_", "|>", "_of_turn", "<bos", "<eos", "separator|"))


def test_sentinels_in_source_code_stay_text(running):
    spelled = "".join(CONTROL_TOKENS.values())
    code = f"TOKENS = '{spelled}'\n"
    running.post("/infill", input_prefix=code, input_suffix=code, prompt=spelled, input_extra=[{"text": code}])
    prompt = running.parrot.generations[-1].prompt_ids
    assert sorted(i for i in prompt if i < RESERVED_IDS) == [2, 67, 68, 69, 70]
    running.post("/v1/chat/completions", messages=[{"role": "user", "content": code}], max_tokens=1)
    prompt = running.parrot.generations[-1].prompt_ids
    assert sorted(i for i in prompt if i < RESERVED_IDS) == [2, 106, 106, 107]
    running.post("/v1/completions", prompt=code, max_tokens=1)
    assert sorted(i for i in running.parrot.generations[-1].prompt_ids if i < RESERVED_IDS) == [2]


def test_many_at_once_get_their_own_text():
    words = [f"word{n:03d}" for n in range(48)]
    text = "".join(f"# {word} begins\nname = '{word}'\n\n" for word in words)
    parrot = Parrot(train_tokenizer([text] * 3, vocab_size=700), text, step_s=0.001)

    def ask(word: str) -> str:
        answer: str = running.post("/infill", input_prefix=f"# {word} begins\n", input_suffix="\n", prompt="")[
            "content"
        ]
        return answer

    with serve(parrot) as running, ThreadPoolExecutor(24) as pool:
        for word, answer in zip(words * 3, pool.map(ask, words * 3), strict=True):
            assert answer.startswith(f"name = '{word}'"), answer


def test_identical_requests_at_once_are_written_once(tokenizer):
    parrot = Parrot(tokenizer, SOURCE, step_s=0.02)
    with serve(parrot) as running, ThreadPoolExecutor(3) as pool:
        body = {"input_prefix": SOURCE[: SOURCE.index("first -")], "input_suffix": "\n    return total\n"}
        answers = list(pool.map(lambda _: running.post("/infill", **body), range(3)))
        assert len({a["content"] for a in answers}) == 1
        assert sorted(a["why"]["source"] for a in answers)[0] == "engine"
        assert len([g for g in parrot.generations if g.max_new_tokens > 1]) == 1
