"""One training step of ours against PyTorch: same model, same batches, same optimiser, same machine, in one run.

Usage::

    python benchmarks/train_step.py [--size tiny|batch|small|2b-width] [--rounds 15] [--threads 2] [--no-huge-pages]
    python benchmarks/train_step.py --losses 200      # do the first 200 losses overlap?

**In**: this repository's step, and transformers' `GemmaForCausalLM` (eager, `torch.compile`, bf16 autocast) on the CPU.
**Out**: medians over interleaved rounds, ratios, and the share of the machine's measured sgemm rate.
**Not**: data loading. Each contender is a process of its own that sleeps while another is measured; all start with the
same environment (`--no-huge-pages` leaves glibc's allocator as it is, for all).
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.model.config import GemmaConfig, codegemma_2b
from codegemma.recipes import load_recipe
from codegemma.text.control_tokens import RESERVED_IDS
from codegemma.train.choices import TrainChoices

TINY = load_recipe("tiny")
SIZES = {
    "tiny": (TINY.model, TINY.train),
    "batch": (TINY.model, dataclasses.replace(TINY.train, batch_rows=16, row_tokens=256)),
    "small": (GemmaConfig(4096, 256, 6, 4, 1, 64, 1024), TrainChoices(batch_rows=8, row_tokens=512)),
    # One layer of CodeGemma 2B and a part of its vocabulary; every contender holds 2 GB.
    "2b-width": (
        dataclasses.replace(codegemma_2b(), num_layers=1, vocab_size=4096),
        TrainChoices(batch_rows=1, row_tokens=512),
    ),
}
CONTENDERS = ("ours float32", "ours bfloat16", "torch eager float32", "torch compiled float32", "torch compiled bf16")
REFERENCE = "torch compiled float32"
TOTAL_STEPS = 400
HUGE_PAGES = "glibc.malloc.hugetlb=1"

Step = Callable[[int], float]  # number of the batch -> loss


def read_batches(config: GemmaConfig, choices: TrainChoices) -> Iterator[np.ndarray]:
    """Cut the standard library's sources, byte by byte, into rows: real text with something to learn."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    ids = np.frombuffer(text, np.uint8).astype(np.int32) + RESERVED_IDS
    shape = (choices.batch_rows, choices.row_tokens)
    rng = np.random.default_rng(0)
    while True:
        starts = rng.integers(0, len(ids) - shape[1], shape[0])
        yield np.stack([ids[start : start + shape[1]] for start in starts]) % config.vocab_size


def build_ours(size: str, dtype: str, folder: Path) -> Step:
    """Make our step on the weights of the folder."""
    from codegemma.model.weights import load_model
    from codegemma.records import Batch
    from codegemma.train.step import init_state, make_train_step

    config, choices = SIZES[size]
    choices = dataclasses.replace(choices, compute_dtype=dtype)  # type: ignore[arg-type]
    state = init_state(load_model(folder)[0], choices, TOTAL_STEPS)
    run = make_train_step(config, choices, TOTAL_STEPS)
    batches = read_batches(config, choices)
    shape = (choices.batch_rows, choices.row_tokens)
    weights = np.ones(shape, np.float32)
    weights[:, 0] = 0
    segments, positions = np.ones(shape, np.int32), np.tile(np.arange(shape[1], dtype=np.int32), (shape[0], 1))

    def step(_number: int) -> float:
        nonlocal state
        state, metrics = run(state, Batch(next(batches), weights, segments, positions))
        state.params["emb"].block_until_ready()
        return float(metrics["loss"])

    return step


def build_torch(size: str, mode: str, folder: Path, threads: int) -> Step:
    """Make PyTorch's step on the same weights, with the same schedule, clipping and decay."""
    import torch
    import transformers

    from codegemma.train.step import make_schedule

    config, choices = SIZES[size]
    torch.set_num_threads(threads)
    model = transformers.GemmaForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    norms = [p for name, p in model.named_parameters() if "norm" in name]
    others = [p for name, p in model.named_parameters() if "norm" not in name]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": choices.weight_decay}, {"params": norms, "weight_decay": 0.0}],
        betas=(choices.beta1, choices.beta2),
        eps=choices.adam_epsilon,
        fused=True,
    )
    schedule = make_schedule(choices, TOTAL_STEPS)
    rates = [float(schedule(np.int32(n))) for n in range(TOTAL_STEPS)]
    batches = read_batches(config, choices)

    def compute_loss(ids: Any) -> Any:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.reshape(-1, config.vocab_size).float(), ids[:, 1:].reshape(-1))

    run = compute_loss if "eager" in mode else torch.compile(compute_loss)

    def step(number: int) -> float:
        for group in optimizer.param_groups:
            group["lr"] = rates[min(number, TOTAL_STEPS - 1)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in mode):
            loss = run(torch.from_numpy(next(batches).astype(np.int64)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), choices.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)

    return step


def measure_sgemm(threads: int) -> dict[str, float]:
    """Measure the float32 rate (GFLOP/s) of a large matrix product in XLA and in PyTorch, the best of several."""
    import jax.numpy as jnp
    import torch

    torch.set_num_threads(threads)
    size, rates = 2048, {}
    ours, theirs = jnp.ones((size, size)), torch.ones(size, size)
    for name, multiply in (
        ("XLA", lambda: jnp.dot(ours, ours).block_until_ready()),
        ("PyTorch", lambda: torch.mm(theirs, theirs)),
    ):
        multiply()
        seconds = min(_time(multiply)[0] for _ in range(5))
        rates[name] = 2 * size**3 / seconds / 1e9
    return rates


def _time(act: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def serve_contender(name: str, size: str, folder: Path, threads: int) -> None:
    """Answer each line `n` on stdin with the times and losses of `n` steps."""
    kind, _, mode = name.partition(" ")
    step = build_ours(size, mode, folder) if kind == "ours" else build_torch(size, mode, folder, threads)
    number = 0
    for line in sys.stdin:
        answer: dict[str, list[float]] = {"wall_s": [], "cpu_s": [], "loss": []}
        for _ in range(int(line)):
            losses: list[float] = []
            wall, cpu = _time(lambda: losses.append(step(number)))  # noqa: B023
            number += 1
            for key, value in (("wall_s", wall), ("cpu_s", cpu), ("loss", losses[0])):
                answer[key].append(value)
        print(json.dumps(answer), flush=True)


class Contender:
    """A process that steps when asked."""

    def __init__(self, name: str, args: argparse.Namespace, folder: Path) -> None:
        self.name = name
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
        environment |= {"OMP_NUM_THREADS": str(args.threads), "TOKENIZERS_PARALLELISM": "false"}
        if args.huge_pages:
            environment["GLIBC_TUNABLES"] = HUGE_PAGES
        cpus = sorted(os.sched_getaffinity(0))[: args.threads]
        command = ["taskset", "-c", ",".join(map(str, cpus)), sys.executable, __file__, "--contender", name]
        command += ["--size", args.size, "--folder", str(folder), "--threads", str(args.threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def run(self, steps: int) -> dict[str, list[float]]:
        """Take so many steps."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a contender ended early: {self.name}")
        answer: dict[str, list[float]] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def count_flops(config: GemmaConfig, choices: TrainChoices) -> float:
    """Count the step's arithmetic: 6 per weight and token, and causal attention, of which half is needed."""
    tokens = choices.batch_rows * choices.row_tokens
    pairs = tokens * choices.row_tokens / 2
    attention = 12 * config.num_layers * config.num_heads * config.head_dim * pairs
    return 6 * config.count_parameters() * tokens + attention


def write_start(size: str, folder: Path) -> None:
    """Draw the common start in a process of its own: this one must not hold threads of JAX."""
    code = (
        "import sys, jax; from pathlib import Path; from codegemma.model.gemma import init_params;"
        "from codegemma.model.weights import save_model; sys.path.insert(0, sys.argv[3]); import train_step as t;"
        "config = t.SIZES[sys.argv[1]][0];"
        "save_model(Path(sys.argv[2]), init_params(config, jax.random.key(0)), config, dtype='float32')"
    )
    subprocess.run([sys.executable, "-c", code, size, str(folder), str(Path(__file__).parent)], check=True)


def compare_speed(args: argparse.Namespace, folder: Path) -> None:
    """Interleave the contenders and print the table."""
    config, choices = SIZES[args.size]
    contenders = {}
    for name in args.contenders:
        contenders[name] = Contender(name, args, folder)
        contenders[name].run(3)
        print(f"ready: {name}", file=sys.stderr)
    rates: dict[str, float] = {}
    times: dict[str, dict[str, list[float]]] = {name: {"wall_s": [], "cpu_s": []} for name in args.contenders}
    for _ in range(args.rounds):
        # The best of all rounds: on a shared machine a single measurement may be far too low.
        rates = {name: max(rate, rates.get(name, 0.0)) for name, rate in measure_sgemm(args.threads).items()}
        for name, contender in contenders.items():
            contender.run(1)  # wakes the process: caches and clock are its own again
            answer = contender.run(args.steps)
            for key in ("wall_s", "cpu_s"):
                times[name][key] += answer[key]
    for contender in contenders.values():
        contender.close()
    tokens, best_rate = choices.batch_rows * choices.row_tokens, max(rates.values())
    print(
        f"{args.size}: {config.count_parameters():,} parameters, {tokens} tokens a step, {args.threads} threads, ",
        end="",
    )
    print(f"huge pages {'on' if args.huge_pages else 'off'}; {args.rounds} rounds of {args.steps} steps")
    print(f"sgemm: {', '.join(f'{name} {rate:.0f} GFLOP/s' for name, rate in rates.items())}")
    print(f"{'':24s} {'median ms':>9s} {'best ms':>8s} {'CPU ms':>7s} {'tokens/s':>8s} {'of sgemm':>8s} {'ratio':>6s}")
    medians = {name: statistics.median(t["wall_s"]) for name, t in times.items()}
    reference = REFERENCE if REFERENCE in medians else args.contenders[-1]
    for name, t in times.items():
        median = medians[name]
        share = count_flops(config, choices) / median / 1e9 / best_rate
        print(
            f"{name:24s} {median * 1e3:9.0f} {min(t['wall_s']) * 1e3:8.0f} "
            f"{statistics.median(t['cpu_s']) * 1e3:7.0f} {tokens / median:8.0f} {share:8.0%} "
            f"{medians[reference] / median:6.2f}"
        )


def compare_losses(args: argparse.Namespace, folder: Path) -> None:
    """Train each contender on the same batches and print how far the loss curves lie apart."""
    curves = {}
    for name in ("torch eager float32", "ours float32", "ours bfloat16"):
        contender = Contender(name, args, folder)
        curves[name] = np.array(contender.run(args.losses)["loss"])
        contender.close()
    reference = curves["torch eager float32"]
    print(f"{args.size}: {args.losses} losses from {reference[0]:.4f} to {reference[-1]:.4f} (torch eager float32)")
    for name, curve in curves.items():
        apart = np.abs(curve - reference)
        print(f"{name:24s} largest difference {apart.max():.5f}, mean {apart.mean():.5f}, last loss {curve[-1]:.4f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="measured steps of a contender in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--huge-pages", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--losses", type=int, metavar="STEPS", help="compare the first losses instead of the speed")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="which ones take part")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        serve_contender(args.contender, args.size, args.folder, args.threads)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "start"
        write_start(args.size, folder)
        (compare_losses if args.losses else compare_speed)(args, folder)


if __name__ == "__main__":
    main()
