"""CodeGemma 2B's step at 8,192 tokens on one GPU: ours against transformers with torch.compile and flash attention.

Usage::

    python -m benchmarks.gpu_step [--layers 18] [--rows 1] [--rounds 3]     # a GPU, codegemma[cuda], torch

**In**: drawn weights of the published shape, random rows; state in float32, products in bfloat16, for both.
**Out**: tokens a second, MFU with causal attention halved, the ratio; peak memory; how much the chunked loss saves.
**Not**: data loading, and adapters (`benchmarks/lora_step.py --device gpu`). Each contender is a process of its own
that has the card alone: it starts, steps, tells, and ends before the next one begins, round after round of fresh order.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from codegemma.model.config import GemmaConfig
from codegemma.recipes import load_recipe
from codegemma.train.choices import TrainChoices

CONTENDERS = ("ours full", "ours qkvo", "torch", "torch checkpointed")
WARMUP_STEPS, STEPS, TOTAL_STEPS = 3, 10, 1000
WANTED_MFU, WANTED_RATIO = 0.55, 1.2
RECIPE = load_recipe("codegemma_2b")


def choose(args: argparse.Namespace, remat: str) -> tuple[GemmaConfig, TrainChoices]:
    """Choose the published shape, with fewer layers if the card is small."""
    choices = dataclasses.replace(RECIPE.train, batch_rows=args.rows, row_tokens=args.row_tokens, mesh=(1, 1, 1))
    return dataclasses.replace(RECIPE.model, num_layers=args.layers), dataclasses.replace(
        choices, remat=cast(Any, remat)
    )


def draw_ids(config: GemmaConfig, choices: TrainChoices) -> np.ndarray:
    """Draw one batch of ids, the same for both."""
    shape = (choices.batch_rows, choices.row_tokens)
    return np.random.default_rng(0).integers(200, config.vocab_size, shape).astype(np.int32)


def time_steps(step: Callable[[], float]) -> list[float]:
    """Step until compiled and warm, then time each step."""
    for _ in range(WARMUP_STEPS):
        step()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
        assert np.isfinite(loss)
    return times


def run_ours(args: argparse.Namespace, remat: str) -> dict[str, Any]:
    """Time our step, and read the compiler's memory for the loss whole and in chunks."""
    import jax

    from codegemma.model.gemma import init_params
    from codegemma.records import Batch
    from codegemma.train.step import choose_execution, init_state, make_train_step
    from codegemma.train.usage import measure_peak_bytes

    config, choices = choose(args, remat)
    ids = draw_ids(config, choices)
    weights, ones = np.ones(ids.shape, np.float32), np.ones_like(ids)
    positions = np.tile(np.arange(ids.shape[1], dtype=np.int32), (ids.shape[0], 1))
    batch = Batch(ids, weights, ones, positions)
    run = make_train_step(config, choices, TOTAL_STEPS)
    params = init_params(config, jax.random.key(0))
    state = init_state(params, choices, TOTAL_STEPS)
    del params

    def step() -> float:
        nonlocal state
        state, metrics = run(state, batch)
        return float(metrics["loss"])

    times = time_steps(step)
    device = jax.local_devices()[0]
    return {
        "times": times,
        "peak_bytes": measure_peak_bytes(),
        "device": device.device_kind,
        "attention": choose_execution(config, choices).attention,
        "loss_bytes": {str(chunk): measure_loss_bytes(config, choices, chunk) for chunk in (1024, ids.size)},
    }


def measure_loss_bytes(config: GemmaConfig, choices: TrainChoices, chunk: int) -> int:
    """Read off what the gradient of the loss needs besides its arguments, with the logits of `chunk` tokens at once."""
    import jax
    import jax.numpy as jnp

    from codegemma.train.objective import Rows, compute_loss
    from codegemma.train.step import choose_execution

    small = dataclasses.replace(config, num_layers=1)
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in small.shape_params().items()}
    ids: Any = jax.ShapeDtypeStruct((choices.batch_rows, choices.row_tokens), jnp.int32)
    weights: Any = jax.ShapeDtypeStruct(ids.shape, jnp.float32)
    rows = Rows(ids, weights, ids, ids)
    execution = choose_execution(small, choices)

    def compute(params: Any, rows: Rows) -> Any:
        return compute_loss(params, small, rows, execution, chunk_tokens=chunk)[0]

    analysis: Any = jax.jit(jax.grad(compute)).lower(params, rows).compile().memory_analysis()
    return int(analysis.temp_size_in_bytes)


def run_torch(args: argparse.Namespace, *, is_checkpointed: bool) -> dict[str, Any]:
    """Time the same step of transformers, compiled, with PyTorch's flash attention and fused AdamW."""
    import torch
    import transformers

    config, choices = choose(args, "full")
    shape = transformers.GemmaConfig(
        vocab_size=config.vocab_size, hidden_size=config.embed_dim, num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads, num_key_value_heads=config.num_kv_heads, head_dim=config.head_dim,
        intermediate_size=config.mlp_dim, hidden_activation="gelu_pytorch_tanh", attn_implementation="sdpa",
    )  # fmt: skip
    torch.set_float32_matmul_precision("high")
    with torch.device("cuda"):
        model = transformers.GemmaForCausalLM(shape).train()
    if is_checkpointed:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=choices.peak_learning_rate, fused=True)
    ids = torch.from_numpy(draw_ids(config, choices).astype(np.int64)).cuda()

    def compute_loss(ids: Any) -> Any:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.reshape(-1, config.vocab_size).float(), ids[:, 1:].reshape(-1))

    compiled = torch.compile(compute_loss)

    def step() -> float:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = compiled(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), choices.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)

    times = time_steps(step)
    return {
        "times": times, "peak_bytes": torch.cuda.max_memory_allocated(), "device": torch.cuda.get_device_name(),
        "attention": "sdpa",
    }  # fmt: skip


def serve(args: argparse.Namespace) -> None:
    """Run one contender and print what it measured; running out of memory is an answer too."""
    kind, _, how = args.contender.partition(" ")
    try:
        answer = run_ours(args, how) if kind == "ours" else run_torch(args, is_checkpointed=bool(how))
    except Exception as error:
        if not any(word in str(error) for word in ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory")):
            raise
        answer = {"failed": "does not fit on this card"}
    print(json.dumps(answer))


def run_contender(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run a contender in a process of its own."""
    sizes = ["--layers", str(args.layers), "--rows", str(args.rows), "--row-tokens", str(args.row_tokens)]
    command = [sys.executable, "-m", "benchmarks.gpu_step", "--contender", name, *sizes]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed; what it said is above")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def refuse_without_gpu() -> None:
    """Say what is missing before anything is built."""
    import importlib.util

    probe = "import jax; print(jax.default_backend())"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    if (seen := done.stdout.strip()) != "gpu":
        raise SystemExit(
            f"no GPU that JAX can use here (it sees {seen or 'nothing'}); on a machine with one: "
            'pip install "codegemma[cuda]", and PyTorch for CUDA, then the same command'
        )
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("the peer is not installed: pip install torch transformers (PyTorch's build for CUDA)")


def print_table(answers: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> None:
    """Print medians over all rounds, MFU and ratio, and what was wanted."""
    from codegemma.train.chips import find_chip
    from codegemma.train.flops import count_model

    config, _ = choose(args, "full")
    first = answers[CONTENDERS[0]][0]
    chip, tokens = find_chip(first["device"]), args.rows * args.row_tokens
    print(
        f"{first['device']}; {config.count_parameters():,} parameters, {args.rows} x {args.row_tokens:,} tokens a step"
    )
    rates: dict[str, float] = {}
    for name, rounds in answers.items():
        if "failed" in rounds[0]:
            print(f"{name:20s} {rounds[0]['failed']}")
            continue
        median = statistics.median(time for told in rounds for time in told["times"])
        rates[name] = tokens / median
        mfu = None if chip is None else rates[name] * count_model(config, args.row_tokens) / chip.bf16_flops
        share = "peak not known" if mfu is None else f"MFU {mfu:6.1%}"
        print(f"{name:20s} {median * 1e3:7.0f} ms {rates[name]:9,.0f} tokens/s  {share}  "
              f"peak {rounds[0]['peak_bytes'] / 2**30:5.1f} GiB  attention {rounds[0]['attention']}")  # fmt: skip
    ours, peers = ([rate for name, rate in rates.items() if name.startswith(kind)] for kind in ("ours", "torch"))
    if ours and peers:
        print(f"the best of ours / the best of torch: {max(ours) / max(peers):.2f} (wanted {WANTED_RATIO})")
    if ours and chip is not None:
        best = max(ours) * count_model(config, args.row_tokens) / chip.bf16_flops
        print(f"MFU, causal attention halved: {best:.1%} (wanted {WANTED_MFU:.0%})")
    if "loss_bytes" in first:
        chunked, whole = first["loss_bytes"].values()
        print(f"gradient of the loss: {chunked / 2**30:.2f} GiB in chunks of 1,024 tokens, {whole / 2**30:.2f} whole, "
              f"{whole / chunked:.1f} times as much")  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=RECIPE.model.num_layers)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--row-tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        serve(args)
        return
    refuse_without_gpu()
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for number in range(args.rounds):
        for name in CONTENDERS if number % 2 == 0 else CONTENDERS[::-1]:
            if not answers[name] or "failed" not in answers[name][0]:
                answers[name].append(run_contender(name, args))
    print_table(answers, args)


if __name__ == "__main__":
    main()
