"""Reading a prompt and writing tokens: our JAX engine against PyTorch, same weights, same machine, in one run.

    python benchmarks/prefill.py [--size tiny|2b-width] [--prompt 512] [--tokens 32] [--rounds 7] [--threads 2]

**In**: our engine, and transformers' `GemmaForCausalLM` with its cache and fused attention, on the CPU. Both start from
the same checkpoint of random weights, in which no control token ever wins.
**Out**: medians over interleaved rounds of reading a prompt (with the first new token) and of each token after it, and
ratios of the reference's time to each contender's: above 1 is quicker.
**Not**: a server with many streams. Each contender is a process of its own, which waits while another is measured;
every round has a prompt of its own, so that nobody finds it read.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.model.config import GemmaConfig, codegemma_2b
from codegemma.recipes import load_recipe
from codegemma.text.control_tokens import RESERVED_IDS, STOP_IDS

# The layers of 2B repeat: two of them and a part of the vocabulary tell what eighteen take.
SIZES = {
    "tiny": load_recipe("tiny").model,
    "2b-width": dataclasses.replace(codegemma_2b(), num_layers=2, vocab_size=16_384),
}
CONTENDERS = ("ours float32", "ours bfloat16", "torch float32", "torch bfloat16")
REFERENCE = "torch float32"

Generate = Callable[[Sequence[int], int], int]  # prompt, tokens to write -> how many were written


def build_ours(folder: Path, dtype: str) -> Generate:
    """Make our engine; bfloat16 are weights in 16 bits that are widened layer by layer, as a large model's."""
    from codegemma.engine.engine import Engine
    from codegemma.model.weights import load_model
    from codegemma.records import Generation
    from codegemma.text.tokenizer import train_tokenizer

    params, config = load_model(folder, "f32" if dtype == "float32" else "bf16")
    engine = Engine(params, config, train_tokenizer(["def f():\n    return 1\n"] * 9, 400))

    def generate(prompt: Sequence[int], tokens: int) -> int:
        return sum(len(delta.token_ids) for delta in engine.generate(Generation(tuple(prompt), tokens)))

    return generate


def build_torch(folder: Path, dtype: str, threads: int) -> Generate:
    """Make PyTorch's loop: the prompt at once, then a token at a time from its cache."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    model = transformers.GemmaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def generate(prompt: Sequence[int], tokens: int) -> int:
        ids, cache = torch.tensor([list(prompt)]), None
        with torch.inference_mode():
            for _ in range(tokens):
                answer = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                ids, cache = answer.logits[:, -1:].argmax(-1), answer.past_key_values
                ids.item()  # who streams must see each token before the next
        return tokens

    return generate


def serve_contender(name: str, folder: Path, threads: int) -> None:
    """Answer each line `[prompt, tokens]` on stdin with the seconds that reading and writing took."""
    kind, _, dtype = name.partition(" ")
    generate = build_ours(folder, dtype) if kind == "ours" else build_torch(folder, dtype, threads)
    for line in sys.stdin:
        prompt, tokens = json.loads(line)
        seconds = []
        for number, count in enumerate((1, tokens + 1)):
            started = time.perf_counter()
            # Another first token each time: what an engine kept of the last prompt is of no use.
            written = generate([prompt[0] + number, *prompt[1:]], count)
            seconds.append(time.perf_counter() - started)
            assert written == count, f"{written} tokens of {count}: a control token won"
        print(json.dumps(seconds), flush=True)


class Contender:
    """A process that generates when asked."""

    def __init__(self, name: str, args: argparse.Namespace, folder: Path) -> None:
        self.name = name
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[: args.threads]))
        command = ["taskset", "-c", cpus, sys.executable, __file__, "--contender", name, "--folder", str(folder)]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(args.threads),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [*command, "--threads", str(args.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def run(self, prompt: Sequence[int], tokens: int) -> list[float]:
        """Read a prompt and write one token; then read it again and write so many more."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([list(prompt), tokens]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a contender ended early: {self.name}")
        seconds: list[float] = json.loads(line)
        return seconds

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def write_start(size: str, folder: Path) -> None:
    """Draw the common checkpoint; in this process JAX is never imported, so that it holds no threads."""
    from codegemma.model.formats import huggingface
    from codegemma.model.formats.parts import DTYPES, Part, Weights, shape_part

    config = SIZES[size]
    drawing = np.random.default_rng(0)

    def read(part: Part, rows: slice) -> np.ndarray:
        shape = shape_part(config, part)
        block = drawing.standard_normal((len(range(*rows.indices(shape[0]))), *shape[1:]), np.float32) * 0.02
        if part.name == "emb" and not rows.start:
            block[[0, *sorted(STOP_IDS)]] = 0  # a score of 0 is never the best
        drawn: np.ndarray = block.astype(DTYPES["bf16"])
        return drawn

    folder.mkdir()
    huggingface.write_weights(folder, Weights(folder, "drawn", config, DTYPES["bf16"], read), DTYPES["bf16"])


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Interleave the contenders and print the table."""
    config: GemmaConfig = SIZES[args.size]
    drawing = np.random.default_rng(1)
    contenders = [Contender(name, args, folder) for name in CONTENDERS]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for number in range(args.rounds + 1):  # the first compiles
        prompt = drawing.integers(RESERVED_IDS, config.vocab_size - 1, args.prompt).tolist()
        for contender in contenders:
            read_s, all_s = contender.run(prompt, args.tokens)
            if number:
                times[contender.name].append((read_s, max(all_s - read_s, 0.0) / args.tokens))
    for contender in contenders:
        contender.close()
    medians: dict[str, Any] = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()
    }
    print(f"{args.size}: {config.count_parameters():,} parameters, {config.num_layers} layers; a prompt of "
          f"{args.prompt} tokens, then {args.tokens} more; {args.threads} threads, {args.rounds} rounds")  # fmt: skip
    print(f"{'':16s} {'prompt, ms':>10s} {'tokens/s':>9s} {'ratio':>6s} {'a token, ms':>12s} {'ratio':>6s}")
    for name, (read_s, token_s) in medians.items():
        theirs = medians[REFERENCE]
        print(f"{name:16s} {read_s * 1e3:10.1f} {args.prompt / read_s:9.0f} {theirs[0] / read_s:6.2f} "
              f"{token_s * 1e3:12.2f} {theirs[1] / max(token_s, 1e-9):6.2f}")  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens written after the first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        serve_contender(args.contender, args.folder, args.threads)
        return
    limit = SIZES[args.size].max_positions
    if args.prompt + args.tokens + 1 > limit:
        parser.error(f"{args.size} has a window of {limit} tokens: shorten --prompt or --tokens")
    with tempfile.TemporaryDirectory() as scratch:
        write_start(args.size, Path(scratch) / "start")
        compare(args, Path(scratch) / "start")


if __name__ == "__main__":
    main()
