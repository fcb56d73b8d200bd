"""How long each phase of a keystroke's request takes, beside llama.cpp's own /infill on the same weights, in one run.

    python -m benchmarks.serve_latency [MODEL.gguf] [--out rows.jsonl] [--minutes 20] [--layers 18] [--files 10]

MODEL is a GGUF file [default: CodeGemma 2B's shape with so many layers, random weights in Q8_0, Gemma's tokenizer where
CODEGEMMA_TEST_DATA has it]. In so many real files somebody types so many keystrokes in a row (`benchmarks/traces.py`);
each is a request over HTTP to `codegemma serve`, and then to llama.cpp's server with the same text in /infill's own
fields. The phases: `server` is what is neither wait nor model (HTTP, session, layout, trimming), `queue` the wait for
the engine, `prompt` the reading of what is new, `first token` all three, `writing` the rest. Keystrokes in place are
typed, deleted or accepted text; cold ones are told apart. What memory answers without the engine is counted, and left
out. What is promised of the first token is held by `benchmarks/first_token.py`, which needs no server.

Both answer one file, then the next; every request is printed, and a 2B on two cores takes llama.cpp some ten
seconds. The run ends after `--minutes` and a request, the writing of the model's file aside; the tables hold what both
answered by then. With `--out` the same command goes on where the last was cut off.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.decode_door import draw_model
from benchmarks.long_run import LongRun, Note, Row, TimeUpError
from benchmarks.serve_load import start_server
from benchmarks.traces import COLD, Keystroke, describe, make_trace
from benchmarks.typing_trace import load_tokenizer

from codegemma.cli.progress import show_progress

_OURS, _PEER = "ours", "llama.cpp /infill"
_PHASES = ("server", "queue", "prompt", "first token", "writing", "whole")
_SHARES = (0.5, 0.95, 0.99)
_PEER_SERVER = """
import sys, time
from pathlib import Path
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.verbosity = sys.argv[1], 8192, 1, -1
params.n_batch, params.n_ubatch, params.n_cache_reuse = 1024, 1024, 256  # as its presets for editors
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[2])
params.warmup = params.fit_params = False
params.port = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(1e9)
"""


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


def divide(reply: Mapping[str, Any], whole_ms: float) -> dict[str, float]:
    """Divide a request's time; llama.cpp tells no wait."""
    timings, queue_ms = reply["timings"], float(reply.get("why", {}).get("queue_ms", 0.0))
    prompt_ms, writing_ms = float(timings["prompt_ms"]), float(timings["predicted_ms"])
    server_ms = max(whole_ms - queue_ms - prompt_ms - writing_ms, 0.0)
    times = (server_ms, queue_ms, prompt_ms, server_ms + queue_ms + prompt_ms, writing_ms, whole_ms)
    return dict(zip(_PHASES, times, strict=True))


@contextmanager
def start_peer(file: Path, threads: int) -> Iterator[http.client.HTTPConnection]:
    command = [sys.executable, "-c", _PEER_SERVER, str(file), str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip().rpartition("/")[2]
        host, _, port = address.rpartition(":")
        try:
            yield http.client.HTTPConnection(host, int(port), timeout=600)
        finally:
            process.terminate()


def answer(connection: http.client.HTTPConnection, keystrokes: Sequence[Keystroke], new: int, note: Note) -> None:
    """Send every keystroke and note its times; what memory answers is told apart."""
    connection.close()  # it has been idle for longer than a server keeps one; the first question opens it again
    for keystroke in keystrokes:
        reply, whole_ms = ask(connection, spell(keystroke, new))
        is_engine = reply.get("why", {}).get("source", "engine") == "engine"
        kind = ("cold" if keystroke.kind in COLD else "in place") if is_engine else "from memory"
        note({"kind": kind, **divide(reply, whole_ms)})
    ask(connection, spell(keystrokes[-1], 0))  # ends what ours would read ahead while the other answers


def find_shares(rows: Sequence[Row], phase: str) -> list[float]:
    ordered = sorted(row[phase] for row in rows)
    return [ordered[round(share * (len(ordered) - 1))] for share in _SHARES]


def show_tables(run: LongRun) -> None:
    """Print what both answered: by the kind of place, as ours saw it."""
    pairs = run.list_pairs(_OURS, _PEER)
    for kind in ("in place", "cold", "from memory"):
        chosen = [pair for pair in pairs if pair[0]["kind"] == kind]
        for name, rows in zip((_OURS, _PEER), zip(*chosen, strict=True), strict=False):
            print(f"\n{name}, {kind}: {len(rows)} requests\n| phase | p50 | p95 | p99 |\n|---|---|---|---|")
            for phase in _PHASES:
                print(f"| {phase} | " + " | ".join(f"{ms:,.1f} ms" for ms in find_shares(rows, phase)) + " |")
        if kind == "in place" and chosen:
            mine, theirs = (find_shares(rows, "first token") for rows in zip(*chosen, strict=True))
            told = ", ".join(f"p{share * 100:g} {theirs[i] / mine[i]:.1f}" for i, share in enumerate(_SHARES))
            print(f"\nin place, first token, llama.cpp / ours: {told}")


def measure(
    file: Path, by_file: Sequence[Sequence[Keystroke]], options: argparse.Namespace, run: LongRun,
    show: Callable[[str], None],
) -> None:  # fmt: skip
    """Have both answer file by file, until all is measured or the time is over."""
    with start_server(str(file)) as (port, _), start_peer(file, options.threads) as peer:
        mine = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        first = 0
        for keystrokes in by_file:
            for system, connection, replays in ((_OURS, mine, len(keystrokes)), (_PEER, peer, 1)):
                run.measure(
                    system, first, keystrokes,
                    lambda rest, note: answer(connection, rest, options.new, _telling(system, note, show)),  # noqa: B023
                    replays=replays,
                )  # fmt: skip
            first += len(keystrokes)


def _telling(system: str, note: Note, show: Callable[[str], None]) -> Note:
    def tell(row: Row) -> None:
        show(f"{system:18} {row['kind']:11} first token {row['first token']:8.0f} ms, whole {row['whole']:8.0f} ms")
        note(row)

    return tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--each", type=int, default=12)
    parser.add_argument("--new", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="where rows are kept, and gone on with")
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    groups = itertools.groupby(make_trace(), key=lambda keystroke: keystroke.path)
    by_file = [list(itertools.islice(group, options.each)) for _, group in itertools.islice(groups, options.files)]
    named = describe([keystroke for keystrokes in by_file for keystroke in keystrokes])
    print(named, flush=True)
    with tempfile.TemporaryDirectory() as folder, show_progress() as progress:
        file = options.model or draw_model(Path(folder), options.layers, load_tokenizer(None))
        known = {"trace": named, "new": options.new, "threads": options.threads, "layers": options.layers}
        run = LongRun(options.out, known | {"model": str(options.model)}, options.minutes)

        def show(line: str) -> None:
            progress("requests", len(run.rows), 2 * sum(map(len, by_file)))
            print(line, flush=True)

        try:
            measure(file, by_file, options, run, show)
        except TimeUpError:
            print(f"{options.minutes:g} minutes are over: {len(run.rows)} of {2 * sum(map(len, by_file))} measured")
    show_tables(run)


if __name__ == "__main__":
    main()
