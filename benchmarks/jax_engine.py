"""Tokens a second of the JAX engine beside transformers' `generate`, same weights, one stream and many, in one run.

    python benchmarks/jax_engine.py                                      # the shipped base's shape, on this CPU
    python benchmarks/jax_engine.py --size 2b --dtype bfloat16 --batch 64    # where JAX and PyTorch both see a GPU

**In**: random weights of a shape, in which control tokens are told to end nothing.
**Out**: medians over interleaved rounds; the ratio to transformers; the share of the bound by memory, which is reading
every weight once a step as fast as this device sums an array of that size.
**Not**: long prompts (`prefill.py`), and drafts: they are switched off, since random weights repeat themselves.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.text.control_tokens import RESERVED_IDS

# PyTorch wants memory beside us; threads of one library must not wait for those of the other.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

Write = Callable[[Sequence[Sequence[int]], int], int]  # prompts, tokens to write each -> how many were written
PROMPT_TOKENS = 16


def build_ours(folder: Path, rows: int, dtype: str) -> tuple[Write, int]:
    """Load the engine; also tell the bytes of its weights."""
    import jax
    import jax.numpy as jnp

    from codegemma.engine import batcher
    from codegemma.engine.engine import Engine
    from codegemma.model.execution import Execution
    from codegemma.model.weights import load_model
    from codegemma.records import Generation, Priority, StopRules
    from codegemma.text.tokenizer import train_tokenizer

    vars(batcher)["MAX_DRAFTING_ROWS"] = 0
    params, config = load_model(folder, "f32" if dtype == "float32" else "bf16")
    number = jnp.dtype(dtype)
    is_cpu = jax.default_backend() == "cpu"
    execution = Execution(compute_dtype=number, activation_dtype=number, unroll=not is_cpu)
    tokenizer = train_tokenizer(["def f():\n    return 1\n"] * 9, 400)
    engine = Engine(params, config, tokenizer, rows=rows, execution=execution)

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> int:
        rules = StopRules(control_tokens_end=False)
        asked = [Generation(tuple(p), tokens, stop=rules, priority=Priority.BATCH) for p in prompts]
        return sum(len(d.token_ids) for stream in [engine.generate(a) for a in asked] for d in stream)

    return write, int(engine.describe()["weights_bytes"])


def build_theirs(folder: Path, dtype: str, threads: int) -> Write:
    """Load transformers' model."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.GemmaForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval().to(device)

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> int:
        ids = torch.tensor([list(prompt) for prompt in prompts], device=device)
        with torch.inference_mode():
            told = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        return int(told.shape[1] - ids.shape[1]) * len(prompts)

    return write


def measure_bandwidth(size_bytes: int) -> float:
    """Bytes a second at which the default device sums an array of that size, over and over."""
    import jax
    import jax.numpy as jnp

    array = jnp.ones(max(size_bytes // 4, 1), jnp.float32)
    add = jax.jit(jnp.sum)
    add(array).block_until_ready()
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        add(array).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return array.nbytes / min(seconds)


def save_random(size: str, folder: Path) -> int:
    """Write random weights; tell the size of the vocabulary."""
    import jax

    from codegemma.model.config import codegemma_2b
    from codegemma.model.gemma import init_params
    from codegemma.model.weights import save_model
    from codegemma.recipes import load_recipe

    config = codegemma_2b() if size == "2b" else load_recipe("tiny_base").model
    save_model(folder, init_params(config, jax.random.key(0)), config)
    return config.vocab_size


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Interleave both at each number of streams, and print the table."""
    vocab_size = save_random(args.size, folder)
    ours, weights_bytes = build_ours(folder, max(args.batch, 1), args.dtype)
    contenders: dict[str, Write] = {"ours": ours, "transformers": build_theirs(folder, args.dtype, args.threads)}
    bandwidth = measure_bandwidth(weights_bytes)
    drawing = np.random.default_rng(0)
    print(f"{args.size}, {args.dtype}: {weights_bytes / 1e6:.1f} MB of weights, summed at {bandwidth / 1e9:.1f} GB/s; "
          f"prompts of {PROMPT_TOKENS} tokens, {args.tokens} written; {args.rounds} rounds")  # fmt: skip
    print(f"{'streams':>7s} {'':14s} {'tokens/s':>9s} {'ratio':>6s} {'of the bound':>13s}")
    for streams in (1, args.batch):
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(args.rounds + 1):  # the first compiles
            prompts = drawing.integers(RESERVED_IDS, vocab_size, (streams, PROMPT_TOKENS)).tolist()
            for name, write in contenders.items():
                speed = measure_writing(write, prompts, args.tokens)
                if number:
                    speeds[name].append(speed)
        medians: dict[str, Any] = {name: statistics.median(found) for name, found in speeds.items()}
        for name, speed in medians.items():
            share = speed / streams * weights_bytes / bandwidth
            ratio = speed / medians["transformers"]
            print(f"{streams:7d} {name:14s} {speed:9.0f} {ratio:6.2f} {share:13.0%}", flush=True)


def measure_writing(write: Write, prompts: Sequence[Sequence[int]], tokens: int) -> float:
    """Tokens a second, reading the short prompts included; nobody has read them before."""
    started = time.perf_counter()
    written = write(prompts, tokens)
    seconds = time.perf_counter() - started
    assert written == tokens * len(prompts), f"{written} tokens: an answer ended early"
    return written / seconds


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=("tiny", "2b"), default="tiny")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, default=16, help="streams at once, beside one")
    parser.add_argument("--tokens", type=int, default=64, help="tokens written to each stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(args, Path(scratch) / "model")


if __name__ == "__main__":
    main()
