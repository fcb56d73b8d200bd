"""How long a keystroke waits for its first token: our door beside llama.cpp's own /infill, 2B's shape, one run.

    python -m benchmarks.first_token [--out rows.jsonl] [--minutes 25] [--files 5] [--keystrokes 21] [--layers 18]

The first keystrokes of the trace of `typing_trace.py`, in `--files` of its 30 files, evenly spread over its languages;
random weights in the 2B's shape in Q8_0, Gemma's tokenizer where CODEGEMMA_TEST_DATA has it; both systems with the same
file, threads, 16-bit cache and flash attention as they come. Ours is the service as `codegemma serve` starts it,
deadline of cold prompts included; llama.cpp is started as its own presets for editors are (`--fim-qwen-*-default`:
batches of 1,024 tokens, which bound the prompt too, and reuse of shifted text), and gets the same text at the same time
as its plugin for Vim sends it. One token is asked for. Keystrokes in place are compared; cold ones (the file is
entered, a jump, an edit below the cursor) stand beside. What our memory answers without the engine is left out.

Both answer one file, then the next; every keystroke is printed as it is measured. Ours takes two minutes in all and
llama.cpp's part some twenty on two cores, so that the run ends after `--minutes` and a keystroke, the writing of the
model's file aside (half a minute). Counted are the keystrokes that both answered. With `--out` the same command goes on
where the last was cut off, whatever cut it off.
Exit code: 0 promise kept on the whole sample, 1 broken on what was measured, 2 kept so far and not whole.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import xllamacpp
from benchmarks import typing_trace
from benchmarks.decode_door import draw_model
from benchmarks.long_run import LongRun, Note, Row, TimeUpError
from benchmarks.traces import COLD, FILES_PER_LANGUAGE, Keystroke, describe, make_trace
from benchmarks.typing_trace import load_tokenizer, run_llama_cpp, run_ours
from tests.model.llama_cpp import run as run_peer

from codegemma.cli.progress import show_progress
from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.engine.llama_start import LlamaChoices
from codegemma.serve.choices import ServeChoices

_CONTEXT_TOKENS = 8192
_WANTED = {"median": 40.0, "p95": 8.0}
_OURS, _PEER = "ours", "llama.cpp /infill"
typing_trace._NEW_TOKENS = 1


def choose_keystrokes(files: int, keystrokes: int) -> list[list[Keystroke]]:
    """Take the first keystrokes in some files, one file of each language before a second of any."""
    by_file = [list(group) for _, group in groupby(make_trace(keystrokes), key=lambda k: k.path)]
    starts, start = [], 0
    for count in FILES_PER_LANGUAGE.values():
        starts.append(range(start, start + count))
        start += count
    order = [places[number] for number in range(max(FILES_PER_LANGUAGE.values())) for places in starts
             if number < len(places)]  # fmt: skip
    return [by_file[place] for place in order[:files]]


def describe_peer(file: Path, threads: int) -> xllamacpp.CommonParams:
    """Describe llama.cpp's own server as its presets for editors do, with one slot."""
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel = _CONTEXT_TOKENS, 1
    params.n_batch, params.n_ubatch, params.n_cache_reuse = 1024, 1024, 256
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return params


def find_times(rows: Sequence[Row]) -> dict[str, float]:
    """Find the median and p95 in seconds."""
    times = sorted(row["seconds"] for row in rows)
    return {"median": statistics.median(times), "p95": times[int(0.95 * (len(times) - 1))]}


def choose_pairs(run: LongRun, *, is_cold: bool) -> list[tuple[Row, Row]]:
    """Choose what both answered in one kind of place, and ours with its engine."""
    return [pair for pair in run.list_pairs(_OURS, _PEER) if pair[0]["is_engine"] and is_cold is _is_cold(pair[0])]


def _is_cold(row: Row) -> bool:
    return row["kind"] in COLD


def show_pairs(run: LongRun) -> dict[str, float]:
    """Print both systems' times in both kinds of places; return how many times shorter ours are in place."""
    ratios: dict[str, float] = {}
    for kind, is_cold in (("in place", False), ("cold", True)):
        pairs = choose_pairs(run, is_cold=is_cold)
        if not pairs:
            continue
        ours, theirs = (find_times(rows) for rows in zip(*pairs, strict=True))
        for name, times, place in ((_OURS, ours, 0), (_PEER, theirs, 1)):
            evaluated = statistics.fmean(pair[place]["evaluated"] for pair in pairs)
            print(
                f"{name:18} {kind:9} {len(pairs):4} keystrokes  median {times['median'] * 1e3:8.0f} ms  "
                f"p95 {times['p95'] * 1e3:8.0f} ms  {evaluated:7.1f} tokens evaluated",
                flush=True,
            )
        if not is_cold:
            ratios = {name: theirs[name] / ours[name] for name in _WANTED}
    return ratios


def measure(
    file: Path, by_file: list[list[Keystroke]], run: LongRun, threads: int, show: Callable[[str], None]
) -> None:
    """Have both answer file by file, until all is measured or the time is over."""
    engine = LlamaCpp.load(file, LlamaChoices(threads=threads))

    def ask_ours(keystrokes: Sequence[Keystroke], note: Note) -> None:
        tell = _telling(_OURS, note, show)
        asyncio.run(run_ours(engine, keystrokes, ServeChoices(prepares_next=False), warms_up=True, note=tell))

    try:
        with run_peer(describe_peer(file, threads)) as peer:
            first = 0
            for keystrokes in by_file:
                run.measure(_OURS, first, keystrokes, ask_ours, replays=len(keystrokes))
                run.measure(
                    _PEER, first, keystrokes,
                    lambda rest, note: run_llama_cpp(peer, rest, note=_telling(_PEER, note, show)), replays=1,
                )  # fmt: skip
                first += len(keystrokes)
    finally:
        engine.close()


def _telling(system: str, note: Note, show: Callable[[str], None]) -> Callable[[typing_trace.Row], None]:
    def tell(row: typing_trace.Row) -> None:
        show(f"{system:18} {row.kind:11} {row.seconds * 1e3:8.0f} ms, {row.evaluated:5} tokens evaluated")
        note(asdict(row))

    return tell


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where rows are kept, and gone on with")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--keystrokes", type=int, default=21, help="in each file")
    parser.add_argument("--layers", type=int, default=18, help="fewer to try it out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    by_file = choose_keystrokes(options.files, options.keystrokes)
    named = describe([keystroke for keystrokes in by_file for keystroke in keystrokes])
    print(named, flush=True)
    total = 2 * sum(map(len, by_file))
    with tempfile.TemporaryDirectory() as folder, show_progress() as progress:
        file = draw_model(Path(folder), options.layers, load_tokenizer(None))
        known = {"trace": named, "layers": options.layers, "threads": options.threads}
        run = LongRun(options.out, known, options.minutes)

        def show(line: str) -> None:
            progress("keystrokes", len(run.rows), total)
            print(line, flush=True)

        try:
            measure(file, by_file, run, options.threads, show)
        except TimeUpError:
            print(f"{options.minutes:g} minutes are over", flush=True)
    return judge(run, total)


def judge(run: LongRun, total: int) -> int:
    """Print the ratios of what was measured, and whether the promise holds on it."""
    ratios = show_pairs(run)
    if not ratios:
        print("nothing in place was answered by both yet; the same command with --out goes on")
        return 2
    told = ", ".join(f"{ratios[n]:.1f} times at the {n} (wanted {_WANTED[n]:.0f})" for n in ratios)
    is_whole, is_kept = len(run.rows) == total, all(ratios[name] >= _WANTED[name] for name in _WANTED)
    print(f"shorter in place: {told}; measured {len(run.rows)} of {total}" + ("" if is_whole else ", NOT WHOLE"))
    return (0 if is_whole else 2) if is_kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
