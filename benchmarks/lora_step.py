"""One step on adapters of ours against transformers and peft in PyTorch: same base and shapes, in one run.

Usage::

    python -m benchmarks.lora_step [--size tiny|wide] [--rounds 7] [--threads 2]     # on the CPU
    python -m benchmarks.lora_step --size 2b --device gpu                            # where a card and torch for it are

**In**: a drawn base in a folder, which both load; rank 16 on all seven matrices.
**Out**: medians over interleaved rounds, ratios, the share of the measured product rate, peak memory of each process.
**Not**: data loading. Each contender is a process of its own that sleeps while another is measured. `wide` is one layer
of 2B with 8,192 tokens of vocabulary; `2b` is CodeGemma 2B whole, in bfloat16, rows of 8,192 tokens.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.train_step import measure_sgemm, read_batches

from codegemma.model.config import GemmaConfig, codegemma_2b
from codegemma.model.formats.peft import TARGETS, shape_target
from codegemma.recipes import load_recipe
from codegemma.train.choices import LoraChoices, TrainChoices

LORA = LoraChoices(rank=16, alpha=32.0)


def steady(choices: TrainChoices) -> TrainChoices:
    """Train adapters at one rate without decay, as the peer does."""
    return dataclasses.replace(choices, peak_learning_rate=2e-4, warmup_steps=0, weight_decay=0.0, lora=LORA)


SIZES: dict[str, tuple[GemmaConfig, TrainChoices]] = {
    "tiny": (load_recipe("tiny").model, steady(load_recipe("tiny").train)),
    "wide": (
        dataclasses.replace(codegemma_2b(), num_layers=1, vocab_size=8192),
        steady(TrainChoices(batch_rows=1, row_tokens=512)),
    ),
    "2b": (
        codegemma_2b(),
        steady(
            TrainChoices(
                batch_rows=1, row_tokens=8192, activation_dtype="bfloat16", remat="full", loss_chunk_tokens=1024
            )
        ),
    ),
}
CPU_CONTENDERS = ("ours float32", "ours bfloat16", "peft eager float32", "peft compiled float32", "peft compiled bf16")
GPU_CONTENDERS = ("ours bfloat16", "peft eager bf16", "peft compiled bf16")
TOTAL_STEPS = 400

Step = Callable[[], float]


def build_ours(size: str, dtype: str, folder: Path) -> Step:
    """Make our step on the base of the folder."""
    from codegemma.records import Batch
    from codegemma.train.start import load_start
    from codegemma.train.step import init_state, make_train_step

    config, choices = SIZES[size]
    choices = dataclasses.replace(choices, compute_dtype=dtype)  # type: ignore[arg-type]
    start = load_start(folder, config, choices)
    state = init_state(start.trained, choices, TOTAL_STEPS)
    run = make_train_step(config, choices, TOTAL_STEPS, frozen=start.frozen)
    batches = read_batches(config, choices)
    shape = (choices.batch_rows, choices.row_tokens)
    weights = np.ones(shape, np.float32)
    weights[:, 0] = 0
    segments, positions = np.ones(shape, np.int32), np.tile(np.arange(shape[1], dtype=np.int32), (shape[0], 1))

    def step() -> float:
        nonlocal state
        state, metrics = run(state, Batch(next(batches), weights, segments, positions))
        state.params["q"]["a"].block_until_ready()
        return float(metrics["loss"])

    return step


def build_peft(size: str, mode: str, folder: Path, args: argparse.Namespace) -> Step:
    """Make PyTorch's step on the same base, with peft's adapters, clipping and AdamW."""
    import peft
    import torch
    import transformers

    config, choices = SIZES[size]
    device, is_bf16 = ("cuda" if args.device == "gpu" else "cpu"), "bf16" in mode
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    plain = transformers.GemmaForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").to(device)
    if choices.remat == "full":
        plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        plain.enable_input_require_grads()
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    chosen = peft.LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=modules, task_type="CAUSAL_LM")
    model = peft.get_peft_model(plain, chosen).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=choices.peak_learning_rate,
        betas=(choices.beta1, choices.beta2),
        eps=choices.adam_epsilon,
        weight_decay=0.0,
        fused=True,
    )
    batches = read_batches(config, choices)

    def compute_loss(ids: Any) -> Any:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.reshape(-1, config.vocab_size).float(), ids[:, 1:].reshape(-1))

    run = torch.compile(compute_loss) if "compiled" in mode else compute_loss

    def step() -> float:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=is_bf16):
            loss = run(torch.from_numpy(next(batches).astype(np.int64)).to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, choices.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def count_flops(config: GemmaConfig, choices: TrainChoices) -> float:
    """Count a step's arithmetic: 4 per frozen weight and token, 6 per adapter's, and causal attention, half of it."""
    tokens = choices.batch_rows * choices.row_tokens
    adapters = config.num_layers * 16 * sum(sum(shape_target(config, target)) for target in TARGETS)
    attention = 6 * config.num_layers * config.num_heads * config.head_dim * tokens * choices.row_tokens
    return (4 * config.count_parameters() + 6 * adapters) * tokens + attention


def read_peak_bytes(device: str, is_ours: bool) -> int:
    """Tell the most memory that this process has held: the card's, or its own."""
    if device == "gpu" and is_ours:
        import jax

        return int((jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))
    if device == "gpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve_contender(args: argparse.Namespace) -> None:
    """Answer each line `n` on stdin with the times and losses of `n` steps."""
    kind, _, mode = args.contender.partition(" ")
    is_ours = kind == "ours"
    step = build_ours(args.size, mode, args.folder) if is_ours else build_peft(args.size, mode, args.folder, args)
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds, "loss": losses, "peak_bytes": read_peak_bytes(args.device, is_ours)}
        print(json.dumps(answer), flush=True)


def start_contender(name: str, args: argparse.Namespace, folder: Path) -> subprocess.Popen[str]:
    """Start a process that steps when asked."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(args.threads)}
    command = [sys.executable, "-m", "benchmarks.lora_step", "--contender", name, "--folder", str(folder)]
    command += ["--size", args.size, "--device", args.device, "--threads", str(args.threads)]
    if args.device == "cpu":
        cpus = sorted(os.sched_getaffinity(0))[: args.threads]
        environment |= {"JAX_PLATFORMS": "cpu"}
        command = ["taskset", "-c", ",".join(map(str, cpus)), *command]
    else:
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    errors = None if args.verbose else subprocess.DEVNULL
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=environment)


def ask(contender: subprocess.Popen[str], name: str, steps: int) -> dict[str, Any]:
    """Let a contender take so many steps."""
    assert contender.stdin and contender.stdout
    contender.stdin.write(f"{steps}\n")
    contender.stdin.flush()
    line = contender.stdout.readline()
    if not line:
        raise SystemExit(f"a contender ended early: {name}; see why with --verbose")
    answer: dict[str, Any] = json.loads(line)
    return answer


def write_base(size: str, folder: Path) -> None:
    """Draw the base in a process of its own: this one must not hold threads of JAX."""
    code = (
        "import sys, jax; from pathlib import Path; from codegemma.model.gemma import init_params;"
        "from codegemma.model.weights import save_model; from benchmarks.lora_step import SIZES;"
        "config = SIZES[sys.argv[1]][0]; dtype = 'bfloat16' if sys.argv[1] == '2b' else 'float32';"
        "save_model(Path(sys.argv[2]), init_params(config, jax.random.key(0)), config, dtype=dtype)"
    )
    subprocess.run(
        [sys.executable, "-c", code, size, str(folder)], check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Interleave the contenders and print the table."""
    config, choices = SIZES[args.size]
    names = GPU_CONTENDERS if args.device == "gpu" else CPU_CONTENDERS
    contenders = {name: start_contender(name, args, folder) for name in names}
    first = {name: ask(contender, name, 3)["loss"][0] for name, contender in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, int] = {}
    rate = 0.0
    for _ in range(args.rounds):
        if args.device == "cpu":
            rate = max(rate, *measure_sgemm(args.threads).values())
        for name, contender in contenders.items():
            answer = ask(contender, name, args.steps)
            times[name] += answer["seconds"]
            peaks[name] = answer["peak_bytes"]
    for contender in contenders.values():
        contender.communicate()
    tokens = choices.batch_rows * choices.row_tokens
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    reference = min(median for name, median in medians.items() if name.startswith("peft"))
    print(f"{args.size} on {args.device}: {config.count_parameters():,} frozen parameters, {tokens} tokens a step")
    print(f"{'':22s} {'median ms':>9s} {'tokens/s':>9s} {'of sgemm':>8s} {'peak MB':>8s} {'first loss':>10s}  ratio")
    for name, median in medians.items():
        share = f"{count_flops(config, choices) / median / 1e9 / rate:8.0%}" if rate else f"{'':8s}"
        print(
            f"{name:22s} {median * 1e3:9.0f} {tokens / median:9.0f} {share} {peaks[name] / 1e6:8.0f} "
            f"{first[name]:10.4f} {reference / median:6.2f}"
        )
    print("ratio: the fastest of peft's over this one; first loss: that of the untouched base, the same for all")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="measured steps of a contender in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="show what the contenders write to standard error")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        serve_contender(args)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "base"
        write_base(args.size, folder)
        compare(args, folder)


if __name__ == "__main__":
    main()
