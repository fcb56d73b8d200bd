"""How long each phase of a keystroke's request takes, beside llama.cpp's own /infill on the same weights, in one run.

    python -m benchmarks.serve_latency [MODEL.gguf] [--layers 18] [--files 10] [--each 12] [--new 8] [--threads N]

MODEL is a GGUF file [default: CodeGemma 2B's shape with so many layers, random weights in Q8_0, Gemma's tokenizer where
CODEGEMMA_TEST_DATA has it]. In so many real files somebody types so many keystrokes in a row (`benchmarks/traces.py`);
each is a request over HTTP to `codegemma serve`, and then to llama.cpp's server with the same text in /infill's own
fields. The phases: `server` is what is neither wait nor model (HTTP, session, layout, trimming), `queue` the wait for
the engine, `prompt` the reading of what is new, `first token` all three, `writing` the rest. Keystrokes in place are
typed, deleted or accepted text; cold ones are told apart. What memory answers without the engine is counted, and left
out. What is promised of the first token is held by `benchmarks/first_token.py`, which needs no server.
"""

import argparse
import http.client
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.decode_door import draw_model
from benchmarks.serve_load import start_server
from benchmarks.traces import COLD, Keystroke, describe, make_trace
from benchmarks.typing_trace import load_tokenizer

_PHASES = ("server", "queue", "prompt", "first token", "writing", "whole")
_SHARES = (0.5, 0.95, 0.99)
_PEER = """
import sys, time
from pathlib import Path
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.verbosity = sys.argv[1], 8192, 1, -1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[2])
params.warmup = params.fit_params = False
params.port = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(1e9)
"""

Phases = Mapping[str, float]


def spell(keystroke: Keystroke, new_tokens: int) -> bytes:
    """Spell a keystroke as llama.vim does: whole lines before, the current line up to the cursor, what follows."""
    start = keystroke.prefix.rfind("\n") + 1
    body = {
        "input_prefix": keystroke.prefix[:start], "prompt": keystroke.prefix[start:], "input_extra": [],
        "input_suffix": keystroke.suffix, "n_predict": new_tokens, "temperature": 0, "cache_prompt": True, "id_slot": 0,
    }  # fmt: skip
    return json.dumps(body).encode()


def ask(connection: http.client.HTTPConnection, body: bytes) -> tuple[dict[str, Any], float]:
    """Ask, and tell the reply with the milliseconds to its end."""
    started = time.perf_counter()
    connection.request("POST", "/infill", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    content = reply.read()
    elapsed_ms = (time.perf_counter() - started) * 1000
    if reply.status != http.client.OK:
        raise SystemExit(f"a request was answered {reply.status}: {content[:200]!r}")
    return json.loads(content), elapsed_ms


def divide(reply: Mapping[str, Any], whole_ms: float) -> Phases:
    """Divide a request's time; llama.cpp tells no wait."""
    timings, queue_ms = reply["timings"], float(reply.get("why", {}).get("queue_ms", 0.0))
    prompt_ms, writing_ms = float(timings["prompt_ms"]), float(timings["predicted_ms"])
    server_ms = max(whole_ms - queue_ms - prompt_ms - writing_ms, 0.0)
    times = (server_ms, queue_ms, prompt_ms, server_ms + queue_ms + prompt_ms, writing_ms, whole_ms)
    return dict(zip(_PHASES, times, strict=True))


@contextmanager
def start_peer(file: Path, threads: int) -> Iterator[http.client.HTTPConnection]:
    command = [sys.executable, "-c", _PEER, str(file), str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip().rpartition("/")[2]
        host, _, port = address.rpartition(":")
        try:
            yield http.client.HTTPConnection(host, int(port), timeout=600)
        finally:
            process.terminate()


def replay(connection: http.client.HTTPConnection, trace: list[Keystroke], new: int) -> dict[str, list[Phases]]:
    """Send every keystroke; what memory answers is told apart."""
    found: dict[str, list[Phases]] = {"in place": [], "cold": [], "from memory": []}
    for keystroke in trace:
        reply, whole_ms = ask(connection, spell(keystroke, new))
        is_engine = reply.get("why", {}).get("source", "engine") == "engine"
        kind = ("cold" if keystroke.kind in COLD else "in place") if is_engine else "from memory"
        found[kind].append(divide(reply, whole_ms))
    return found


def find_shares(rows: list[Phases], phase: str) -> list[float]:
    ordered = sorted(row[phase] for row in rows)
    return [ordered[round(share * (len(ordered) - 1))] for share in _SHARES]


def show(name: str, found: Mapping[str, list[Phases]]) -> None:
    for kind, rows in found.items():
        print(f"\n{name}, {kind}: {len(rows)} requests" + ("" if rows else "\n"), end="")
        if not rows:
            continue
        print("\n| phase | p50 | p95 | p99 |\n|---|---|---|---|")
        for phase in _PHASES:
            print(f"| {phase} | " + " | ".join(f"{ms:,.1f} ms" for ms in find_shares(rows, phase)) + " |")


def measure(file: Path, trace: list[Keystroke], options: argparse.Namespace) -> None:
    """Replay on both and print the tables."""
    with start_server(str(file)) as (port, _):
        ours = replay(http.client.HTTPConnection("127.0.0.1", port, timeout=600), trace, options.new)
    show("ours", ours)
    with start_peer(file, options.threads) as connection:
        peer = replay(connection, trace, options.new)
    show("llama.cpp /infill", peer)
    mine, theirs = (find_shares(found["in place"], "first token") for found in (ours, peer))
    told = ", ".join(f"p{share * 100:g} {theirs[i] / mine[i]:.1f}" for i, share in enumerate(_SHARES))
    print(f"\nin place, first token, llama.cpp / ours: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--each", type=int, default=12)
    parser.add_argument("--new", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    by_file = itertools.groupby(make_trace(), key=lambda keystroke: keystroke.path)
    trace = [k for _, group in itertools.islice(by_file, options.files) for k in itertools.islice(group, options.each)]
    print(describe(trace))
    with tempfile.TemporaryDirectory() as folder:
        file = options.model or draw_model(Path(folder), options.layers, load_tokenizer(None))
        measure(file, trace, options)


if __name__ == "__main__":
    main()
