"""A wire to a store that can be cut."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path


class Wire(socketserver.ThreadingTCPServer):
    """Passes bytes on to a server, and cuts the next `cuts` connections after `cut_bytes` bytes of their answers."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: tuple[str, int]) -> None:
        self.target, self.cuts, self.cut_bytes, self.connections_cut = target, 0, 0, 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Passage)

    def take_cut(self) -> bool:
        with self.lock:
            is_cut = self.cuts > 0
            self.cuts -= is_cut
            self.connections_cut += is_cut
            return is_cut


class _Passage(socketserver.BaseRequestHandler):
    server: Wire

    def handle(self) -> None:
        is_cut = self.server.take_cut()
        if is_cut and self.server.cut_bytes == 0:
            return
        with contextlib.suppress(OSError), socket.create_connection(self.server.target, timeout=20) as there:
            threading.Thread(target=_pass_on, args=(self.request, there), daemon=True).start()
            left = self.server.cut_bytes if is_cut else None
            while left is None or left > 0:
                data = there.recv(65536 if left is None else min(left, 65536))
                if not data:
                    return
                self.request.sendall(data)
                left = None if left is None else left - len(data)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def wire_to(target: tuple[str, int]) -> Iterator[Wire]:
    with Wire(target) as wire:
        threading.Thread(target=wire.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield wire
        wire.shutdown()


def close_connections(place: Path) -> None:
    """Forget the connections that are open, so that the next act makes its own."""
    type(place.fs).clear_instance_cache()  # type: ignore[attr-defined]
