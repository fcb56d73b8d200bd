"""How many prompt tokens a keystroke costs: our sessions beside llama.cpp's own /infill, on one trace, in one run.

    python benchmarks/typing_trace.py [--keystrokes 80] [--tokenizer tokenizer.json] [--json out.json]

A model of random weights suffices: counts do not depend on them. Ours runs through the service as an editor meets it,
SPM, PSM with its fast path, and PSM without it; llama.cpp's server gets the same text at the same time in `/infill`'s
own fields, with its prompt cache and a slot of its own. Keystrokes in place are typed, deleted or accepted text; cold
ones are jumps, file switches and edits below the cursor. Requests that our memory answers without the engine are left
out of the figures and counted beside. Cold prompts are whole, but in the row of the deadline: there they are what an
engine of `--speed` tokens a second reads in the two seconds that a server gives them.
"""

import argparse
import asyncio
import json
import lzma
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.traces import COLD, Keystroke, describe, make_trace
from tests.model.llama_cpp import serve as serve_llama_cpp

from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.engine.llama_start import LlamaChoices
from codegemma.model.config import GemmaConfig
from codegemma.model.gguf import list_tensors, write_gguf
from codegemma.records import InfillMode
from codegemma.serve.asks import Caller, InfillAsk, Wishes
from codegemma.serve.choices import ServeChoices
from codegemma.serve.service import Service
from codegemma.text.tokenizer import Tokenizer

_CONTEXT_TOKENS = 8192
_NEW_TOKENS = 4
_BASE = Path(__file__).parents[1] / "src/codegemma/bases/tiny"


@dataclass(frozen=True, slots=True)
class Row:
    """One request: what kind of keystroke it was, what was evaluated of how much, and whether the engine was asked."""

    kind: str
    evaluated: int
    prompt: int
    is_engine: bool
    seconds: float


def load_tokenizer(path: Path | None) -> Tokenizer:
    data = Path(os.environ.get("CODEGEMMA_TEST_DATA", "")) / "tokenizer/gemma_tokenizer.json.xz"
    if path is None and data.is_file():
        return Tokenizer.from_json(lzma.decompress(data.read_bytes()).decode(), str(data))
    return Tokenizer.load(path or _BASE)


def write_random_model(folder: Path, tokenizer: Tokenizer) -> Path:
    config = GemmaConfig(
        tokenizer.vocab_size, 32, 2, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=_CONTEXT_TOKENS
    )
    shapes = {name: shape for name, _, shape in list_tensors(config)}
    block = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32) / 8

    def read(name: str) -> list[np.ndarray]:
        return [np.resize(block, shapes.get(name, (config.embed_dim,)))]

    path = folder / "random.gguf"
    write_gguf(path, config, tokenizer, read, "f16")
    return path


async def run_ours(
    model: LlamaCpp,
    trace: Sequence[Keystroke],
    choices: ServeChoices,
    *,
    warms_up: bool = False,
    speed: float | None = None,
    note: Callable[[Row], None] = lambda _: None,
) -> list[Row]:
    service = Service(model, choices)
    if warms_up:
        await service.warm_up()
    rows = []
    for keystroke in trace:
        ask = InfillAsk(keystroke.prefix, keystroke.suffix, keystroke.path, wishes=Wishes(max_new_tokens=_NEW_TOKENS))
        if speed is not None:
            service._speed.tokens_per_s = speed  # a larger engine's, whatever this one's is
        started = time.perf_counter()
        async for piece in service.infill(ask, Caller()):
            if piece.report is not None:
                report = piece.report
        seconds = time.perf_counter() - started
        rows.append(
            Row(keystroke.kind, report.evaluated_tokens, report.prompt_tokens, report.source == "engine", seconds)
        )
        note(rows[-1])
    return rows


def run_llama_cpp(server: Any, trace: Sequence[Keystroke], note: Callable[[Row], None] = lambda _: None) -> list[Row]:
    """As llama.vim asks: whole lines before, the current line up to the cursor, what follows."""
    rows = []
    for keystroke in trace:
        start = keystroke.prefix.rfind("\n") + 1
        started = time.perf_counter()
        reply = server.ask(
            "/infill", input_prefix=keystroke.prefix[:start], prompt=keystroke.prefix[start:], temperature=0,
            input_suffix=keystroke.suffix, input_extra=[], n_predict=_NEW_TOKENS, id_slot=0, cache_prompt=True,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        rows.append(Row(keystroke.kind, reply["timings"]["prompt_n"], reply["tokens_evaluated"], True, seconds))
        note(rows[-1])
    return rows


def summarise(name: str, rows: list[Row]) -> dict[str, Any]:
    asked = [row for row in rows if row.is_engine]
    figures: dict[str, Any] = {"system": name, "requests": len(rows), "reached the engine": len(asked)}
    for part, kept in (("in place", False), ("cold", True)):
        group = [row for row in asked if (row.kind in COLD) is kept]
        counts = sorted(row.evaluated for row in group) or [0]
        figures |= {
            f"{part} n": len(group),
            f"{part} median": statistics.median(counts),
            f"{part} p95": counts[int(0.95 * (len(counts) - 1))],
            f"{part} mean": round(statistics.fmean(counts), 1),
        }
    figures["all mean"] = round(sum(row.evaluated for row in rows) / len(rows), 1)
    figures["prompt mean"] = round(statistics.fmean(row.prompt for row in rows), 0)
    return figures


@contextmanager
def open_model(path: Path, tokenizer: Tokenizer) -> Iterator[LlamaCpp]:
    model = LlamaCpp(path, tokenizer, LlamaChoices(slots=2, draft_tokens=0, threads=1, batch_tokens=512))
    try:
        yield model
    finally:
        model.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keystrokes", type=int, default=80, help="in each of 30 files")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--speed", type=float, default=35.0, help="prompt tokens/s, of a 2B on two cores by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    trace = list(make_trace(options.keystrokes))
    print(describe(trace))
    base = ServeChoices(cold_s=math.inf, prepares_next=False)
    hasty = f"cold within {ServeChoices().cold_s:g} s at {options.speed:g}/s"
    systems = {
        "ours, SPM": replace(base, mode=InfillMode.SPM),
        "ours, PSM": replace(base, mode=InfillMode.PSM),
        "ours, PSM without fast path": replace(base, mode=InfillMode.PSM, folded_tokens=0),
        f"ours, SPM, {hasty}": replace(base, mode=InfillMode.SPM, cold_s=ServeChoices().cold_s),
    }
    table = []
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = load_tokenizer(options.tokenizer)
        path = write_random_model(Path(folder), tokenizer)
        for name, choices in systems.items():
            with open_model(path, tokenizer) as model:
                speed = options.speed if choices.cold_s != base.cold_s else None
                table.append(summarise(name, asyncio.run(run_ours(model, trace, choices, speed=speed))))
            print(table[-1], flush=True)
        with serve_llama_cpp(path, context_tokens=_CONTEXT_TOKENS) as server:
            table.append(summarise("llama.cpp /infill", run_llama_cpp(server, trace)))
        print(table[-1], flush=True)
    spm, psm, plain, hasty_spm, peer = table
    print(f"\nin place: llama.cpp / ours in SPM {peer['in place mean'] / spm['in place mean']:.1f}, "
          f"in PSM {peer['in place mean'] / psm['in place mean']:.1f}; "
          f"PSM without / with its fast path {plain['in place mean'] / psm['in place mean']:.1f}; "
          f"cold: whole / within the deadline {spm['cold mean'] / hasty_spm['cold mean']:.1f}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    is_met = (
        spm["in place median"] <= 2 and spm["in place p95"] <= 40 and 2 * psm["in place mean"] <= plain["in place mean"]
    )
    print("promise: median at most 2, p95 at most 40, PSM at least halved:", "kept" if is_met else "BROKEN")
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
