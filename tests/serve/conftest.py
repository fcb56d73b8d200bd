"""A server in this process on a free port, and what asks it."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx2
import pytest
from tests.serve.parrot import Parrot

from codegemma.serve.app import Gate, make_app
from codegemma.serve.choices import ServeChoices
from codegemma.serve.doors import DOORS
from codegemma.serve.keys import KeyRing
from codegemma.serve.server import Server, open_socket
from codegemma.serve.service import Service
from codegemma.text.tokenizer import Tokenizer, train_tokenizer

SOURCE = '''import os


def add(first, second):
    """Add – both."""
    return first + second


def subtract(first, second):
    total = first - second
    return total


print(add(1, 2), subtract(3, 1))
'''


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([SOURCE] * 9, vocab_size=480)


class Running:
    """A server that runs, its service, and a client."""

    def __init__(self, port: int, gate: Gate) -> None:
        self.port, self.gate = port, gate
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx2.Client(base_url=self.url, timeout=60)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    @property
    def service(self) -> Service:
        assert self.gate.service is not None
        return self.gate.service

    @property
    def parrot(self) -> Parrot:
        assert isinstance(self.service.generator, Parrot)
        return self.service.generator

    def send(self, path: str, body: bytes | None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Send bytes as they are; no client library has an opinion about them."""
        method = "GET" if body is None else "POST"
        self.connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        reply = self.connection.getresponse()
        return reply.status, reply.read()

    def post(self, path: str, **body: object) -> Any:
        reply = self.client.post(path, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def stream(self, path: str, **body: object) -> list[Any]:
        """Read the events of a streamed reply."""
        reply = self.client.post(path, json=body | {"stream": True})
        assert reply.status_code == 200, reply.text
        lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
        return [json.loads(line) for line in lines if line != "[DONE]"]


@contextmanager
def serve(
    generator: Any, choices: ServeChoices | None = None, keys: KeyRing | None = None, **more: Any
) -> Iterator[Running]:
    """Serve a generator until the block ends."""
    choices = choices or ServeChoices(prepares_next=False)
    gate = Gate(choices, keys or KeyRing())
    listener = open_socket("127.0.0.1", 0)
    server = Server(make_app(gate, DOORS), gate, listener, settle_s=0)
    thread = threading.Thread(target=server.run, args=(lambda: Service(generator, choices, **more), lambda _: None))
    thread.start()
    try:
        assert server.has_settled.wait(60)
        running = Running(listener.getsockname()[1], gate)
        with running.client, closing(running.connection):
            yield running
    finally:
        server.stop()
        thread.join(180)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture
def running(tokenizer: Tokenizer) -> Iterator[Running]:
    with serve(Parrot(tokenizer, SOURCE)) as server:
        yield server
