"""Listens: one process, one event loop, HTTP/1.1 by uvicorn, with limits that uvicorn itself does not have.

**In**: an application, an address, what opens the model.
**Out**: a server that answers at once (503 while the model is loaded), and ends within seconds of SIGTERM, also then.
**Not**: TLS: whoever leaves loopback puts a proxy in front.
"""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from codegemma.errors import InputError, UserError
from codegemma.serve.app import Gate
from codegemma.serve.aside import run_aside
from codegemma.serve.service import Service

_HEADER_TIMEOUT_S = 10.0
_MAX_HEADER_BYTES = 65_536
_KEEP_ALIVE_S = 75
# Streams under way are cancelled after this; SIGTERM ends the process within five seconds.
_GRACE_S = 2
_SETTLE_S = 1.0


class PatientProtocol(HttpToolsProtocol):
    """HTTP whose headers must come in time and be short; a client that dribbles them is cut off."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = self.loop.call_later(_HEADER_TIMEOUT_S, transport.close)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the headers are complete."""
        cycle: Any = self.cycle  # none before the first request, whatever its annotation says
        if self._header_timer is None and (cycle is None or cycle.response_complete):
            self._header_bytes = 0
            self._header_timer = self.loop.call_later(_HEADER_TIMEOUT_S, self.transport.close)
        if self._header_timer is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_timer is not None and self._header_bytes > _MAX_HEADER_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def open_socket(host: str, port: int) -> socket.socket:
    """Take the address before anything else is done.

    Raises:
        InputError: it is taken, not ours, or nobody's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio looks at the protocol before it switches Nagle's algorithm off, which costs 40 ms a reply.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{host}:{port} cannot be listened on ({reason}); choose another --port or --host") from error
    listener.setblocking(False)
    return listener


class _Listening(uvicorn.Server):
    """Ends at a signal without raising it again afterwards: the engine is still to be closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM while serving; in a thread that is not the main one nothing can be taken."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


class Server:
    """One served model."""

    def __init__(self, app: Any, gate: Gate, listener: socket.socket, settle_s: float = _SETTLE_S) -> None:
        """Bind an application to an address; its speed is learned so long after the start, unless by a request."""
        self._gate, self._listener, self._settle_s = gate, listener, settle_s
        self.has_settled = threading.Event()  # nothing of the start is left to do
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            server_header=False,
            date_header=False,
        )
        self._server = _Listening(config)
        self.failure: UserError | None = None

    def run(self, open_service: Callable[[], Service], tell: Callable[[str], None]) -> None:
        """Serve until a signal; the model is opened beside, so that clients see that it is being loaded.

        Raises:
            UserError: the model cannot be opened.
        """
        asyncio.run(self._serve(open_service, tell))
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Ask the server to end."""
        self._server.should_exit = True

    async def _serve(self, open_service: Callable[[], Service], tell: Callable[[str], None]) -> None:
        loading = asyncio.create_task(self._load(open_service, tell))
        await self._server.serve(sockets=[self._listener])
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
        if self._gate.service is not None:
            self._gate.service.close()

    async def _load(self, open_service: Callable[[], Service], tell: Callable[[str], None]) -> None:
        """Open the model; whatever goes wrong ends the server, which would else answer 503 for ever."""
        try:
            self._gate.service = await run_aside(open_service)
            tell("ready")
            # Who waited for the start comes first: what is read to learn the speed would hold them up.
            await asyncio.sleep(self._settle_s)
            await self._gate.service.warm_up()
        except UserError as error:
            self.failure = error
        except MemoryError as error:
            self.failure = InputError(
                f"not enough memory to load the model ({error}); take a smaller one or fewer bits"
            )
        except OSError as error:
            self.failure = InputError(f"the model cannot be read ({error}); is it still there?")
        finally:
            if self.failure is not None or self._gate.service is None:
                self.stop()
            self.has_settled.set()
