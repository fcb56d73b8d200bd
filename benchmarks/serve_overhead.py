"""What our server adds to a request, beside a bare application of the same framework on the same bodies.

    python benchmarks/serve_overhead.py [--requests 600] [--rounds 3]

Somebody types in real files (`benchmarks/traces.py`); every request goes over a kept connection to a process of its
own. Ours does all it does: session, incremental tokenisation, layout, trimming, counting; its engine answers at once
with one token, so that nothing else is measured. The peer reads and parses the same body and answers with a constant.
Printed are percentiles of both and of their difference, request by request; the promise is under 2 ms at the median.
"""

import argparse
import http.client
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn
from benchmarks.traces import COLD, Keystroke, describe, make_trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from codegemma.records import CompletionDelta, Generation, InfillMode, StopReason, Usage
from codegemma.serve.app import Gate, make_app
from codegemma.serve.choices import ServeChoices
from codegemma.serve.doors import DOORS
from codegemma.serve.keys import KeyRing
from codegemma.serve.server import Server, open_socket
from codegemma.serve.service import Service
from codegemma.text.tokenizer import Tokenizer

_BASE = Path(__file__).parents[1] / "src/codegemma/bases/tiny"
_PROMISE_MS = 2.0


class Instant:
    """An engine without a model: one token, at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.max_context_tokens = tokenizer, 8192
        self.infill_modes: tuple[InfillMode, ...] = (InfillMode.SPM,)
        self.model_name = "instant"
        self.token = int(tokenizer.encode("x")[0])

    def generate(self, generation: Generation) -> Any:
        usage = Usage(len(generation.prompt_ids), evaluated_tokens=1, new_tokens=1)
        last = CompletionDelta("", (), StopReason.MAX_NEW_TOKENS, usage=usage)

        def run() -> Iterator[CompletionDelta]:
            yield CompletionDelta("x", (self.token,))
            yield last

        return run()

    def describe(self) -> dict[str, Any]:
        return {"engine": "instant", "slots": 1}

    def close(self) -> None:
        """Nothing to let go of."""


def run_ours(pipe: Connection) -> None:
    choices = ServeChoices(prepares_next=False)
    gate = Gate(choices, KeyRing())
    listener = open_socket("127.0.0.1", 0)
    server = Server(make_app(gate, DOORS), gate, listener)
    tokenizer = Tokenizer.load(_BASE)
    server.run(lambda: Service(Instant(tokenizer), choices), lambda _: pipe.send(listener.getsockname()[1]))


def run_bare(pipe: Connection) -> None:
    async def answer(request: Request) -> JSONResponse:
        json.loads(await request.body())
        return JSONResponse({"content": "x"})

    listener = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(
        Starlette(routes=[Route("/infill", answer, methods=["POST"])]),
        loop="asyncio",
        access_log=False,
        log_level="warning",
    )
    pipe.send(listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def start(target: Any) -> Iterator[http.client.HTTPConnection]:
    near, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(far,))
    process.start()
    connection = http.client.HTTPConnection("127.0.0.1", near.recv(), timeout=60)
    try:
        yield connection
    finally:
        connection.close()
        process.terminate()
        process.join()


def spell(keystroke: Keystroke) -> bytes:
    start_of_line = keystroke.prefix.rfind("\n") + 1
    body = {
        "input_prefix": keystroke.prefix[:start_of_line], "prompt": keystroke.prefix[start_of_line:],
        "input_suffix": keystroke.suffix, "n_predict": 8, "response_fields": ["content", "timings/prompt_n"],
    }  # fmt: skip
    return json.dumps(body).encode()


def ask(connection: http.client.HTTPConnection, body: bytes) -> float:
    started = time.perf_counter()
    connection.request("POST", "/infill", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    content = reply.read()
    assert reply.status == 200, content
    return (time.perf_counter() - started) * 1000


def show(name: str, values: list[float]) -> None:
    ordered = sorted(values)
    shown = [ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.95, 0.99)]
    print(f"{name:28} p50 {shown[0]:6.2f}  p95 {shown[1]:6.2f}  p99 {shown[2]:6.2f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    trace = list(make_trace())[: options.requests]
    bodies = [spell(keystroke) for keystroke in trace]
    print(describe(trace), f"bodies of {statistics.fmean(map(len, bodies)) / 1000:.0f} kB")
    ours: list[float] = []
    bare: list[float] = []
    with start(run_ours) as our_connection, start(run_bare) as bare_connection:
        for _ in range(options.rounds):
            for body in bodies:
                ours.append(ask(our_connection, body))
                bare.append(ask(bare_connection, body))
    kinds = [keystroke.kind in COLD for keystroke in trace] * options.rounds
    show("ours", ours)
    show("bare starlette", bare)
    added = [a - b for a, b in zip(ours, bare, strict=True)]
    show("added, in place", [ms for ms, cold in zip(added, kinds, strict=True) if not cold])
    show("added, cold", [ms for ms, cold in zip(added, kinds, strict=True) if cold])
    print(f"ratio of medians {statistics.median(ours) / statistics.median(bare):.2f}")
    is_met = statistics.median(added) < _PROMISE_MS
    print(f"promise: under {_PROMISE_MS:g} ms added at the median:", "kept" if is_met else "BROKEN")
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
