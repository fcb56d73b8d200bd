"""The wire to servers that are ill: what they wish is done, what they stream is read or refused."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler

import pytest
from tests.http_server import listen

from codegemma.errors import InputError
from codegemma.pace import Pace
from codegemma.serve.remote_service import RemoteService
from codegemma.wire import Cut, ServerError, Wire

Reply = tuple[int, bytes, dict[str, str]]


@contextmanager
def serve(*replies: Reply) -> Iterator[str]:
    """Give each of the replies in turn, the last one for ever."""
    waiting = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body, headers = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with listen(Handler) as address:
        yield address


def test_a_date_to_try_again_is_kept_to_by_all() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=200), usegmt=True)
    waits: list[float] = []
    pace = Pace(wait=lambda _: None, clock=iter(range(0, 10**6, 100)).__next__)
    with serve((429, b"{}", {"Retry-After": then}), (200, b"[1]", {})) as address:
        wire = Wire(address, wait=waits.append, pace=pace)
        assert wire.ask("/v1/completions", {}) == [1]
    assert 100 < waits[0] <= 200
    assert pace.failures == {"429": 1}


def test_a_wish_that_is_none_is_passed_over() -> None:
    waits: list[float] = []
    with serve((503, b"", {"Retry-After": "soon"}), (200, b"{}", {})) as address:
        assert Wire(address, wait=waits.append).ask("/v1/completions", {}) == {}
    assert waits[0] < 1


def test_events_are_told_as_they_come() -> None:
    body = b': a remark\n\ndata: {"n": 1}\n\nevent: x\ndata: [2]\n\ndata: {"n": 3}\n\ndata: [DONE]\n\n'
    with serve((200, body, {})) as address:
        assert list(Wire(address).stream("/v1/chat/completions", {})) == [{"n": 1}, {}, {"n": 3}]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, b'{"error": {"message": "no such key"}}', {}), "refused: 401 no such key"),
        ((200, b"data: <html>\n", {}), "no JSON: '<html>'"),
        ((200, b'data: {"error": {"message": "out of memory"}}\n', {}), "broke off: out of memory"),
    ],
)
def test_a_stream_that_breaks_off_says_why(reply: Reply, message: str) -> None:
    with serve(reply) as address, pytest.raises(ServerError, match=message):
        list(Wire(address, timeout_s=30.0).stream("/v1/chat/completions", {}))


def test_no_redirection_takes_the_key_elsewhere() -> None:
    with serve((200, b"[1]", {})) as elsewhere, serve((302, b"", {"Location": elsewhere})) as address:
        wire = Wire(address, api_key="secret")
        with pytest.raises(ServerError, match="302"):
            wire.ask("/v1/completions", {})


def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serve((200, b"[1]", {})) as address:
        assert Wire(address, tries=1).ask("/v1/completions", {}) == [1]


@pytest.mark.parametrize(
    "address", ["http://[bad", "http://", "ftp://host", "localhost:80", "http://a:port", "http://a b"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="no address of a server"):
        Wire(address)
    with pytest.raises(InputError, match="no address of a server"):
        RemoteService(address)


def test_a_key_ends_with_its_line_and_one_that_breaks_it_is_not_shown() -> None:
    with serve((200, b"[1]", {})) as address:
        assert Wire(address, api_key="secret\n").ask("/v1/completions", {}) == [1]
    with pytest.raises(InputError, match="the key holds") as refused:
        Wire("http://host", api_key="sec\nret")
    assert "ret" not in str(refused.value).replace("characters", "")


def test_a_question_is_cut_off_from_another_thread_and_not_asked_again() -> None:
    has_asked, has_left = threading.Event(), threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            has_asked.set()
            if not self.rfile.read(1):  # until the other end is gone
                has_left.set()

    cut, errors = Cut(), []

    def ask(address: str) -> None:
        try:
            Wire(address).ask("/infill", {}, cut=cut)
        except ServerError as error:
            errors.append(str(error))

    with listen(Silent) as address:
        asking = threading.Thread(target=ask, args=(address,))
        asking.start()
        has_asked.wait()
        cut.make()
        asking.join()
        has_left.wait()
    assert errors == [f"{address}/infill was cut off"]


def test_what_is_cut_before_it_is_asked_reaches_nobody_for_long() -> None:
    cut = Cut()
    cut.make()
    with serve((200, b"{}", {})) as address, pytest.raises(ServerError, match="was cut off"):
        Wire(address).ask("/infill", {}, cut=cut)
