"""A server of OpenAI's completions that falls ill: real sockets, real statuses."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_server import listen


class IllServer:
    """Answers prompts by a rule until a number of answers, then with 500, or, where it `hangs_up`, not at all."""

    def __init__(self) -> None:
        self.address = ""
        self.answered = 0
        self.hangs_up = False
        self._well_until: int | None = None
        self._lock = threading.Lock()

    def is_well_until(self, answers: int | None) -> None:
        self._well_until = answers

    def take(self) -> bool:
        with self._lock:
            if self._well_until is not None and self.answered >= self._well_until:
                return False
            self.answered += 1
            return True


@contextmanager
def serve_ill(write: Callable[[str], str], refused: str | None = None) -> Iterator[IllServer]:
    """Serve; the prompt `refused` is refused with 400."""
    ill = IllServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(200, {"data": [{"id": "m", "max_model_len": 4096}]})

        def do_POST(self) -> None:
            prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            if prompt == refused:
                self.send(400, {"error": {"message": "this prompt is refused"}})
            elif ill.take():
                self.send(200, {"choices": [{"text": write(prompt), "finish_reason": "stop"}]})
            elif ill.hangs_up:
                self.close_connection = True
            else:
                self.send(500, {"error": {"message": "out of memory"}})

        def send(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with listen(Handler) as ill.address:
        yield ill
