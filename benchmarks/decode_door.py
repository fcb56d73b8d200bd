"""What our door costs llama.cpp while it writes, and what looking drafts up brings, in one process on one machine.

    python benchmarks/decode_door.py [--model FILE.gguf] [--layers 18] [--tokens 96] [--rounds 5] [--threads N]

Without `--model` the door is measured on a file of CodeGemma 2B's shape with so many layers and random weights in
Q8_0, and drafts on the shipped base in float16, whose answers repeat themselves as a trained model's do. The peer of
the first table is llama.cpp itself: the same prompt as ids, streamed by its own call in this process. Ours are the
engine's stream and the `/completion` door over HTTP, in turn with the peer, round by round. The second table compares
our engine with drafts and without: on code that repeats itself, and on the standard library's, where little can be
guessed. Printed are tokens per second from the first token on (each round's, then the median), the ratios, and how
many drafted tokens were accepted. It ends by itself: after six minutes on two cores with all defaults, of which the
2B's shape takes five.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from tests.serve.conftest import serve

from codegemma.adapt import BASES
from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.engine.llama_start import LlamaChoices
from codegemma.model.config import codegemma_2b
from codegemma.model.gguf import list_tensors, write_gguf
from codegemma.model.write import convert
from codegemma.records import Generation, Sampling
from codegemma.text.control_tokens import BOS_ID, STOP_IDS
from codegemma.text.tokenizer import Tokenizer

# Answers of equal length: no control token may end one.
GOES_ON = Sampling(logit_bias=tuple((token_id, -1000.0) for token_id in sorted(STOP_IDS)))
REPETITIVE = "".join(
    f"    def get_{name}(self):\n        return self._{name}\n\n"
    for name in ("name", "path", "size", "kind", "owner", "text")
)
ORDINARY = Path(json.__file__).with_name("decoder.py").read_text(encoding="utf-8")
_DRAWN = np.random.default_rng(0).standard_normal(1 << 20).astype(ml_dtypes.bfloat16) * ml_dtypes.bfloat16(0.02)


def draw_model(folder: Path, layers: int, tokenizer: Tokenizer | None = None) -> Path:
    """Write a file of the 2B's shape with random weights in Q8_0, and the shipped base's tokenizer or another."""
    config = replace(codegemma_2b(), num_layers=layers)
    shapes = {name: shape for name, _, shape in list_tensors(config)}

    def read(name: str) -> Iterator[np.ndarray]:
        rows = max(1, _DRAWN.size // int(np.prod(shapes[name][1:])))
        for start in range(0, shapes[name][0], rows):
            yield np.resize(_DRAWN, (min(rows, shapes[name][0] - start), *shapes[name][1:]))

    write_gguf(folder / "model.gguf", config, tokenizer or Tokenizer.load(BASES / "tiny"), read, "q8_0")
    return folder / "model.gguf"


def time_engine(engine: LlamaCpp, generation: Generation) -> float:
    """Return tokens per second from the first on."""
    times = [time.perf_counter() for delta in engine.generate(generation) for _ in delta.token_ids]
    return (len(times) - 1) / (times[-1] - times[0])


def time_call(engine: LlamaCpp, body: dict[str, Any]) -> float:
    """Time llama.cpp's own call in this process."""
    times: list[float] = []

    engine._server.handle_completions(body | {"stream": True}, lambda _: times.append(time.perf_counter()))
    return (len(times) - 2) / (times[-2] - times[0])  # the last event has no token


def time_http(address: str, body: dict[str, Any]) -> float:
    """Time a server's stream over HTTP."""
    content = json.dumps(body | {"stream": True}).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})  # noqa: S310
    times: list[float] = []
    with urllib.request.urlopen(request) as reply:  # noqa: S310
        times += [time.perf_counter() for line in reply if line.startswith(b"data: {")]
    return (len(times) - 2) / (times[-2] - times[0])


def measure(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measure all ways in turn, and return each one's median."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # the prompt is read, the pages are warm
    for number in range(rounds):
        for name in list(ways) if number % 2 else reversed(list(ways)):
            found[name].append(ways[name]())
        told = ", ".join(f"{name} {values[-1]:.1f}" for name, values in found.items())
        print(f"  round {number + 1} of {rounds}, tokens/s: {told}", flush=True)
    return {name: statistics.median(values) for name, values in found.items()}


@contextmanager
def load(file: Path, choices: LlamaChoices) -> Iterator[LlamaCpp]:
    engine = LlamaCpp.load(file, choices)
    try:
        yield engine
    finally:
        engine.close()


def spell(engine: LlamaCpp, text: str, room: int) -> tuple[int, ...]:
    return (BOS_ID, *engine.tokenizer.encode(text).tolist()[-(engine.max_context_tokens - room - 2) :][-512:])


def print_door(file: Path, choices: LlamaChoices, tokens: int, rounds: int) -> None:
    with load(file, replace(choices, draft_tokens=0)) as engine:
        ids = spell(engine, ORDINARY[:3000], tokens)
        bias = [list(pair) for pair in GOES_ON.logit_bias]
        body = {
            "prompt": list(ids), "n_predict": tokens, "temperature": 0, "samplers": ["top_k"], "top_k": 1,
            "logit_bias": bias, "cache_prompt": True, "id_slot": 0,
        }  # fmt: skip
        with serve(engine) as running:
            generation = Generation(ids, tokens, GOES_ON)
            found = measure(
                {
                    "llama.cpp, in process": lambda: time_call(engine, body),
                    "ours, in process": lambda: time_engine(engine, generation),
                    "ours, /completion over HTTP": lambda: time_http(running.url + "/completion", body),
                },
                rounds,
            )
    peer = found["llama.cpp, in process"]
    for name, speed in found.items():
        print(f"{name:32} {speed:8.1f} tokens/s  ratio {speed / peer:.3f}", flush=True)


def print_drafts(file: Path, choices: LlamaChoices, tokens: int, rounds: int) -> None:
    with load(file, replace(choices, draft_tokens=0)) as plain, load(file, choices) as drafting:
        for name, text in (("repetitive", REPETITIVE), ("ordinary", ORDINARY[:3000])):
            generation = Generation(spell(plain, text, tokens), tokens, GOES_ON)
            found = measure(
                {"plain": lambda: time_engine(plain, generation), "drafts": lambda: time_engine(drafting, generation)},  # noqa: B023
                rounds,
            )
            usage = list(drafting.generate(generation))[-1].usage
            assert usage is not None
            share = usage.accepted_tokens / usage.drafted_tokens if usage.drafted_tokens else 0.0
            print(
                f"{name:12} {found['plain']:8.1f} tokens/s plain, {found['drafts']:8.1f} with drafts, "
                f"ratio {found['drafts'] / found['plain']:.2f}, {usage.accepted_tokens} of {usage.drafted_tokens} "
                f"drafted tokens accepted ({share:.0%})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--draft-tokens", type=int, default=LlamaChoices().draft_tokens)
    parser.add_argument("--draft-match-tokens", type=int, default=LlamaChoices().draft_match_tokens)
    options = parser.parse_args()
    choices = LlamaChoices(
        slots=2, threads=options.threads, draft_tokens=options.draft_tokens,
        draft_match_tokens=options.draft_match_tokens, context_tokens=2048,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.model is None:
            print(f"the door, 2B's shape with {options.layers} layers, Q8_0, {options.threads} threads:")
            print_door(draw_model(folder, options.layers), choices, options.tokens, options.rounds)
            convert(BASES / "tiny", folder / "base", "gguf", "f16")
            options.model = folder / "base" / "model.gguf"
        print(f"the door, {options.model.parent.name}:")
        print_door(options.model, choices, options.tokens, options.rounds)
        print("drafts:")
        print_drafts(options.model, choices, options.tokens, options.rounds)


if __name__ == "__main__":
    main()
