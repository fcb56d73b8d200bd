"""How long a keystroke waits for its first token: our door beside llama.cpp's own /infill, 2B's shape, one run.

    python benchmarks/first_token.py [--files 5] [--keystrokes 21] [--layers 18] [--threads 2]

The first keystrokes of the trace of `typing_trace.py`, in `--files` of its 30 files, evenly spread over its languages;
random weights in the 2B's shape in Q8_0, both systems with the same file, threads, 16-bit cache and flash attention as
they come. Ours is the service as `codegemma serve` starts it, deadline of cold prompts included; llama.cpp gets the
same text at the same time as its plugin for Vim sends it. One token is asked for. Keystrokes in place are compared;
cold ones (the file is entered, a jump, an edit below the cursor) stand beside. What our memory answers without the
engine is left out.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import xllamacpp
from benchmarks import typing_trace
from benchmarks.decode_door import draw_model
from benchmarks.traces import COLD, FILES_PER_LANGUAGE, Keystroke, describe, make_trace
from benchmarks.typing_trace import Row, run_llama_cpp, run_ours
from tests.model.llama_cpp import run as run_peer

from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.engine.llama_start import LlamaChoices
from codegemma.serve.choices import ServeChoices

_CONTEXT_TOKENS = 8192
_WANTED = {"median": 40.0, "p95": 8.0}
typing_trace._NEW_TOKENS = 1


def choose_keystrokes(files: int, keystrokes: int) -> list[Keystroke]:
    """Take the first keystrokes in some files, one file of each language before a second of any."""
    by_file = [list(group) for _, group in groupby(make_trace(keystrokes), key=lambda k: k.path)]
    starts, start = [], 0
    for count in FILES_PER_LANGUAGE.values():
        starts.append(range(start, start + count))
        start += count
    order = [places[number] for number in range(max(FILES_PER_LANGUAGE.values())) for places in starts
             if number < len(places)]  # fmt: skip
    return [keystroke for place in order[:files] for keystroke in by_file[place]]


def describe_peer(file: Path, threads: int) -> xllamacpp.CommonParams:
    """Describe llama.cpp's own server as it comes, with one slot."""
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel = _CONTEXT_TOKENS, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return params


def summarise(name: str, rows: Sequence[Row]) -> dict[str, float]:
    """Print a line of both kinds; return seconds in place."""
    found = {}
    for kind, is_cold in (("in place", False), ("cold", True)):
        group = sorted(row.seconds for row in rows if row.is_engine and (row.kind in COLD) is is_cold)
        evaluated = statistics.fmean(row.evaluated for row in rows if row.is_engine and (row.kind in COLD) is is_cold)
        found[kind] = {"median": statistics.median(group), "p95": group[int(0.95 * (len(group) - 1))]}
        print(
            f"{name:18} {kind:9} {len(group):4} keystrokes  median {found[kind]['median'] * 1e3:8.0f} ms  "
            f"p95 {found[kind]['p95'] * 1e3:8.0f} ms  {evaluated:7.1f} tokens evaluated",
            flush=True,
        )
    return found["in place"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--keystrokes", type=int, default=21, help="in each file")
    parser.add_argument("--layers", type=int, default=18, help="fewer to try it out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    trace = choose_keystrokes(options.files, options.keystrokes)
    print(describe(trace))
    with tempfile.TemporaryDirectory() as folder:
        file = draw_model(Path(folder), options.layers)
        engine = LlamaCpp.load(file, LlamaChoices(threads=options.threads))
        try:
            ours = summarise(
                "ours", asyncio.run(run_ours(engine, trace, ServeChoices(prepares_next=False), warms_up=True))
            )
        finally:
            engine.close()
        with run_peer(describe_peer(file, options.threads)) as peer:
            theirs = summarise("llama.cpp /infill", run_llama_cpp(peer, trace))
    ratios = {name: theirs[name] / ours[name] for name in _WANTED}
    print(
        "shorter in place: " + ", ".join(f"{ratios[n]:.1f} times at the {n} (wanted {_WANTED[n]:.0f})" for n in ratios)
    )
    return 0 if all(ratios[name] >= _WANTED[name] for name in _WANTED) else 1


if __name__ == "__main__":
    raise SystemExit(main())
