"""64 editors at two requests a second each on a small model, beside one editor alone; or many requests, for memory.

    python benchmarks/serve_load.py MODEL [--editors 64] [--seconds 20] [--settle 40] [--soak 0] [--minutes 30]

MODEL is whatever `codegemma serve` takes, best a small one. It gets `--settle` seconds to compile what it compiles
behind its start. Then every editor opens a real file of its own (`benchmarks/traces.py`) at some time of the first
five seconds, types in it over a connection of its own and reads a streamed `/infill`; time to first token is from the
whole request sent to the first event read. The generator is a process of its own, and its processor time is printed
apart. The promise: no error, p95 with all editors at most three times that of one, none over a second. `--soak 100000`
sends so many requests and prints the server's memory at each tenth.

It ends by itself: after two minutes on two cores, or with `--soak` (a quarter of an hour for 100,000) after `--minutes`
with what was sent by then. A request that gets no answer within a minute counts as failed.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serve_overhead import spell
from benchmarks.traces import Keystroke, describe, make_trace

_PER_EDITOR_S = 0.5
_OPENING_S = 5.0
_MOST_TIMES, _MOST_MS = 3.0, 1000.0
_LONGEST_S = 60.0


@contextmanager
def start_server(model: str) -> Iterator[tuple[int, int]]:
    """Serve the model; yield port and process."""
    command = [sys.executable, "-m", "codegemma", "serve", model, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = 0
        for line in process.stderr:
            if line.startswith("http://"):
                port = int(line.split()[0].rpartition(":")[2])
            if line.startswith("ready"):
                break
        else:
            raise SystemExit("the server ended before it was ready")
        try:
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:  # nobody is there to end it by hand
                process.kill()


async def ask(port: int, body: bytes) -> tuple[float, bool]:
    """Send one streamed request; return milliseconds to the first event, and whether all went well."""
    try:
        async with asyncio.timeout(_LONGEST_S):
            return await _ask(port, body)
    except (TimeoutError, OSError):
        return _LONGEST_S * 1000, False


async def _ask(port: int, body: bytes) -> tuple[float, bool]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /infill HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    started = time.perf_counter()
    writer.write(head.encode() + body)
    status = await reader.readline()
    first = 0.0
    while line := await reader.readline():
        if line.startswith(b"data: ") and not first:
            first = (time.perf_counter() - started) * 1000
    writer.close()
    return first, b" 200 " in status and first > 0


async def type_on(port: int, keystrokes: list[Keystroke], until: float, results: list[tuple[float, bool]]) -> None:
    await asyncio.sleep(random.random() * _OPENING_S)
    for keystroke in itertools.cycle(keystrokes):
        begun = time.perf_counter()
        if begun > until:
            return
        body = json.loads(spell(keystroke)) | {"stream": True, "temperature": 0}
        results.append(await ask(port, json.dumps(body).encode()))
        await asyncio.sleep(max(0.0, _PER_EDITOR_S - (time.perf_counter() - begun)))


async def load(port: int, traces: list[list[Keystroke]], seconds: float) -> list[tuple[float, bool]]:
    results: list[tuple[float, bool]] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(type_on(port, trace, until, results) for trace in traces))
    return results


def show(name: str, results: list[tuple[float, bool]]) -> tuple[float, float]:
    times = sorted(ms for ms, _ in results)
    p95 = times[int(0.95 * (len(times) - 1))]
    failed = sum(not is_well for _, is_well in results)
    print(f"{name:14} {len(results):6} requests, {failed} failed, first token p50 {times[len(times) // 2]:.1f} "
          f"p95 {p95:.1f} max {times[-1]:.1f} ms", flush=True)  # fmt: skip
    if failed:
        raise SystemExit("promise BROKEN: a request failed")
    return p95, times[-1]


async def soak(port: int, process: int, traces: list[list[Keystroke]], count: int, minutes: float) -> None:
    """Send requests from 16 connections at once and print the server's memory now and then."""
    until, sent, failed = time.monotonic() + minutes * 60, 0, 0
    bodies = itertools.cycle([spell(keystroke) for trace in traces for keystroke in trace])
    for part in range(10):
        while sent < (part + 1) * count // 10 and time.monotonic() < until:
            asked = [ask(port, next(bodies)[:-1] + b',"stream":true}') for _ in range(16)]
            failed += sum(not is_well for _, is_well in await asyncio.gather(*asked))
            sent += len(asked)
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        resident = f"{pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f} MB resident"
        print(f"{sent:8} requests, {failed} failed: {resident}", flush=True)
        if time.monotonic() >= until:
            print(f"{minutes:g} minutes are over")
            return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--editors", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--settle", type=float, default=40)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0, help="after which --soak ends")
    options = parser.parse_args()
    trace = list(make_trace())
    print(describe(trace), flush=True)
    by_file = [list(group) for _, group in itertools.groupby(trace, key=lambda keystroke: keystroke.path)]
    traces = [by_file[i % len(by_file)] for i in range(options.editors)]
    with start_server(options.model) as (port, process):
        if options.soak:
            asyncio.run(soak(port, process, traces, options.soak, options.minutes))
            return 0
        time.sleep(options.settle)
        one, _ = show("one editor", asyncio.run(load(port, traces[:1], options.seconds)))
        cpu = time.process_time()
        many, worst = show(f"{options.editors} editors", asyncio.run(load(port, traces, options.seconds)))
        print(f"the generator took {(time.process_time() - cpu) / options.seconds:.2f} of a core")
    is_met = many <= _MOST_TIMES * one and worst <= _MOST_MS
    print(f"ratio of p95 {many / one:.1f}; promise: at most {_MOST_TIMES:g}, none over a second:",
          "kept" if is_met else "BROKEN")  # fmt: skip
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
