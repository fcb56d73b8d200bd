"""Who may ask, from where, and how the server begins and ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.serve.conftest import SOURCE, serve
from tests.serve.parrot import Parrot

from codegemma.cli.main import cli
from codegemma.errors import InputError
from codegemma.serve.app import Gate, make_app
from codegemma.serve.choices import ServeChoices
from codegemma.serve.doors import DOORS
from codegemma.serve.keys import KeyRing, add_key, read_keys
from codegemma.serve.server import _GRACE_S, Server, open_socket
from codegemma.serve.service import Service

ASK = {"prompt": "def add", "max_tokens": 2}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    file = tmp_path / "keys"
    return file, add_key(file, "laptop")


def test_a_key_is_kept_as_a_hash_readable_by_its_owner_alone(keys):
    file, token = keys
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert read_keys(file).find(token) == "laptop"
    assert read_keys(file).find(token[:-1]) is None
    with pytest.raises(InputError, match="already"):
        add_key(file, "laptop")


def test_a_key_is_added_on_a_line_of_its_own(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"typed:{'0' * 64}:60")  # by hand, without an end of line
    token = add_key(file, "laptop")
    assert read_keys(file).find(token) == "laptop"
    (tmp_path / "other").write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read as a file of keys"):
        add_key(tmp_path / "other", "laptop")


def test_without_a_key_a_guarded_server_answers_401_in_the_protocols_shape(tokenizer, keys):
    file, token = keys
    with serve(Parrot(tokenizer, SOURCE), keys=read_keys(file)) as running:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            reply = running.client.post("/v1/completions", json=ASK, headers=headers)
            assert reply.status_code == 401
            assert reply.json()["error"]["code"] == "invalid_api_key"
        assert running.client.post("/api/generate", json={"prompt": "x"}).json().keys() == {"error"}
        assert running.client.get("/metrics").status_code == 401
        assert running.client.get("/health").status_code == 200
        for headers in ({"Authorization": f"Bearer {token}"}, {"X-Api-Key": token}):
            assert running.client.post("/v1/completions", json=ASK, headers=headers).status_code == 200


def test_a_key_has_its_own_rate(tokenizer, tmp_path):
    busy, calm = add_key(tmp_path / "keys", "busy", per_minute=2), add_key(tmp_path / "keys", "calm")
    with serve(Parrot(tokenizer, SOURCE), keys=read_keys(tmp_path / "keys")) as running:
        ask = lambda token: running.client.get("/v1/models", headers={"Authorization": f"Bearer {token}"})  # noqa: E731
        assert [ask(busy).status_code for _ in range(3)] == [200, 200, 429]
        assert ask(calm).status_code == 200


def test_an_owner_is_never_shown_what_another_typed(tokenizer, tmp_path):
    tokens = [add_key(tmp_path / "keys", name) for name in ("ada", "bob")]
    with serve(Parrot(tokenizer, SOURCE), keys=read_keys(tmp_path / "keys")) as running:
        secret, shared = "# only ada knows\n", "value = 1\n" * 40
        for token, prefix in zip(tokens, (secret + shared, shared), strict=True):
            body = {"input_prefix": prefix, "input_suffix": "", "path": "a.py"}
            running.client.post("/infill", json=body, headers={"Authorization": f"Bearer {token}"})
        told = tokenizer.decode(running.parrot.generations[-1].prompt_ids)
        assert "only ada" not in told


def test_web_pages_are_not_answered(running):
    for origin in ("https://evil.example", "http://localhost:1", "null", "http://[::1", "[x"):
        reply = running.client.post("/v1/completions", json=ASK, headers={"Origin": origin})
        assert reply.status_code == 403
        assert "access-control-allow-origin" not in reply.headers
    rebound = {"Host": "evil.example:8012", "Origin": "http://evil.example:8012"}
    assert running.client.post("/v1/completions", json=ASK, headers=rebound).status_code == 403
    assert running.client.post("/v1/completions", json=ASK, headers={"Host": "[::1"}).status_code == 403
    preflight = running.client.options("/infill", headers={"Origin": "https://evil.example"})
    assert preflight.status_code in (403, 405)
    assert running.client.post("/v1/completions", json=ASK, headers={"Origin": "vscode-webview://x"}).status_code == 200


def test_every_door_answers_503_in_its_shape_while_the_model_is_loaded(tokenizer):
    gate, may_load = Gate(ServeChoices(), KeyRing()), threading.Event()
    with open_socket("127.0.0.1", 0) as listener:
        server = Server(make_app(gate, DOORS), gate, listener)
        gate.doing = "compiling"

        def load() -> Service:
            may_load.wait(60)
            return Service(Parrot(tokenizer, SOURCE))

        thread = threading.Thread(target=server.run, args=(load, lambda _: None))
        thread.start()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=60)
            for path, body in (("/health", None), ("/infill", b"{}"), ("/v1/completions", b"{}"), ("/api/tags", None)):
                connection.request("GET" if body is None else "POST", path, body)
                reply = connection.getresponse()
                assert reply.status == 503
                assert "Loading model: compiling" in reply.read().decode()
            connection.close()
        finally:
            may_load.set()
            time.sleep(0.1)
            server.stop()
            thread.join(30)
    assert not thread.is_alive()


def test_a_server_that_is_stopped_while_the_model_is_loaded_waits_for_nothing():
    gate, is_loading, may_end = Gate(ServeChoices(), KeyRing()), threading.Event(), threading.Event()

    def load() -> Service:
        is_loading.set()
        may_end.wait(600)
        raise InputError("nobody hears this")

    with open_socket("127.0.0.1", 0) as listener:
        server = Server(make_app(gate, DOORS), gate, listener)
        thread = threading.Thread(target=server.run, args=(load, print))
        thread.start()
        try:
            assert is_loading.wait(60)
            server.stop()
            thread.join(60)
            assert not thread.is_alive()
        finally:
            may_end.set()
            thread.join(60)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "model.gguf"), "cannot be read .*model.gguf.* still there"),
        (MemoryError("9 GB"), "not enough memory .*9 GB"),
        (InputError("damaged"), "damaged"),
    ],
)
def test_a_model_that_cannot_be_opened_ends_the_server_with_its_reason(wrong, told):
    """It may be gone by the time it is read; a server without a model would say 503 for ever."""
    gate = Gate(ServeChoices(), KeyRing())

    def load() -> Service:
        raise wrong

    with open_socket("127.0.0.1", 0) as listener, pytest.raises(InputError, match=told):
        Server(make_app(gate, DOORS), gate, listener).run(load, print)


def test_a_defect_at_the_start_ends_the_server_too():
    gate = Gate(ServeChoices(), KeyRing())
    with open_socket("127.0.0.1", 0) as listener, pytest.raises(ZeroDivisionError):
        Server(make_app(gate, DOORS), gate, listener).run(lambda: 1 // 0, print)  # type: ignore[arg-type, return-value]


def test_a_port_in_use_is_one_clear_error():
    with open_socket("127.0.0.1", 0) as taken, pytest.raises(InputError, match="Address already in use"):
        open_socket("127.0.0.1", taken.getsockname()[1])


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codegemma", "serve", *arguments],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_beyond_loopback_a_key_is_needed(tmp_path):
    result = run_cli(str(tmp_path), "--host", "0.0.0.0")  # noqa: S104
    assert result.returncode == 3
    assert "--api-key-file" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_model_is_one_clear_line(tmp_path):
    result = run_cli(str(tmp_path / "nothing"), "--port", "0")
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    assert "nothing" in result.stderr.splitlines()[-1]


def test_a_policy_with_an_unknown_key_is_one_clear_line_before_anything_is_loaded(tmp_path):
    (tmp_path / "policy.toml").write_text("higest_hint = 'code'")
    result = run_cli("no/model", "--policy", str(tmp_path / "policy.toml"), "--port", "0")
    assert result.returncode == 3
    assert "unknown key 'higest_hint'; known: level," in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("owner", "told"),
    [("other=.", "--adapter names mine"), ("mine=", "wanted NAME=FOLDER"), ("mine=./nowhere", "is no folder")],
)
def test_a_folder_of_no_adapter_is_refused(owner, told):
    result = CliRunner().invoke(cli, ["serve", "x", "--adapter", "mine=a", "--adapter-for", owner, "--port", "0"])
    assert result.exit_code == 2
    assert told in result.output


def test_a_new_key_is_printed_once(tmp_path):
    result = run_cli("--new-key", "laptop", "--api-key-file", str(tmp_path / "keys"))
    assert result.returncode == 0, result.stderr
    assert read_keys(tmp_path / "keys").find(result.stdout.strip()) == "laptop"


PROGRAM = """
import socket, sys
from tests.serve.conftest import SOURCE
from tests.serve.parrot import Parrot
from codegemma.serve.app import Gate, make_app
from codegemma.serve.choices import ServeChoices
from codegemma.serve.doors import DOORS
from codegemma.serve.keys import KeyRing
from codegemma.serve.server import Server, open_socket
from codegemma.serve.service import Service
from codegemma.text.tokenizer import train_tokenizer

allowed = ("127.0.0.1", "::1")
def audit(event, arguments):
    if event == "socket.connect" and arguments[1][0] not in allowed or event == "socket.getaddrinfo":
        print("OUTBOUND", event, arguments, flush=True)
sys.addaudithook(audit)
tokenizer = train_tokenizer([SOURCE] * 9, vocab_size=480)
gate = Gate(ServeChoices(), KeyRing())
listener = open_socket("127.0.0.1", 0)
server = Server(make_app(gate, DOORS), gate, listener)
parrot = Parrot(tokenizer, "start " + "abc " * 90_000, step_s=0.05)
server.run(lambda: Service(parrot), lambda said: print(said, listener.getsockname()[1], flush=True))
print("ended, cancelled", parrot.cancelled, "closed", parrot.closed, flush=True)
"""


def test_sigterm_cancels_what_is_under_way_and_nothing_was_ever_connected_to():
    """The answer under way would take an hour; no name was looked up and nothing but loopback connected to."""
    assert _GRACE_S < 5
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        word, port = process.stdout.readline().split()
        assert word == "ready"
        body = json.dumps({"prompt": "start ", "n_predict": 80_000, "temperature": 0, "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as client:
            head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            assert b"200 OK" in client.recv(4096)
            process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=600)[0]
    assert "OUTBOUND" not in output
    assert "ended, cancelled 1 closed 1" in output
    assert process.returncode == 0
