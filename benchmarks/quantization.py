"""What integer weights cost in quality: bits per byte of held-out source, beside floats and beside GGUF's rounding.

    python benchmarks/quantization.py [--model FOLDER] [--source FOLDER] [--rows 128]

The model is the shipped base by default, the source JAX's own, which the base has never seen: every ninth file, cut
into windows as long as the model's. Each way of rounding is applied to the same float32 weights and read by the same
code; Q8_0 and Q4_0 are those of the `gguf` package, which llama.cpp uses, the embedding in eight bits as in our files.
Printed are bits per byte, the difference from floats, and the bits that a weight takes, scales included.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import jax
import jax.numpy as jnp
import numpy as np
from gguf.quants import dequantize, quantize

from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Params
from codegemma.model.quantize import quantize_params
from codegemma.model.score import score_tokens
from codegemma.model.weights import load_model
from codegemma.text.control_tokens import BOS_ID
from codegemma.text.tokenizer import Tokenizer

_BASE = Path(__file__).parents[1] / "src" / "codegemma" / "bases" / "tiny"
# How many axes of a stack come before a matrix, and how many of the matrix's first axes are inputs.
_MATRICES = {"emb": (0, 0), "q": (1, 1), "kv": (2, 1), "o": (1, 2), "gate_up": (2, 1), "down": (1, 1)}
_BATCH = 16


def round_as_gguf(params: Params, kind: gguf.GGMLQuantizationType) -> tuple[Params, float]:
    """Return the parameters as that format keeps them, and how many bits they take in all."""
    rounded, bits = dict(params), 0.0
    for name, (stacked, inputs) in _MATRICES.items():
        used = gguf.GGMLQuantizationType.Q8_0 if name == "emb" else kind
        stack = np.asarray(params[name])
        # Theirs are [outputs, inputs]; the embedding is already.
        order = [*range(stacked), *range(stacked + inputs, stack.ndim), *range(stacked, stacked + inputs)]
        theirs = stack.transpose(order)
        width = math.prod(theirs.shape[-inputs:]) if inputs else theirs.shape[-1]
        came = dequantize(quantize(np.ascontiguousarray(theirs).reshape(-1, width), used), used)
        rounded[name] = jnp.asarray(came.reshape(theirs.shape).transpose(np.argsort(order)))
        block, size_bytes = gguf.GGML_QUANT_SIZES[used]
        bits += stack.size * 8 * size_bytes / block
    return rounded, bits


def count_bits(params: Params) -> float:
    """Count the bits of all matrices, scales included."""
    leaves = jax.tree.leaves({name: params[name] for name in _MATRICES})
    return float(sum(leaf.size * (4 if leaf.dtype == jnp.int4 else 8 * leaf.dtype.itemsize) for leaf in leaves))


def list_variants(params: Params) -> Iterator[tuple[str, Params, float]]:
    yield "float32", params, count_bits(params)
    for bits in (8, 4):
        integers = quantize_params(params, 8 if bits == 8 else 4)
        yield f"int{bits}", integers, count_bits(integers)
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):
        yield f"GGUF {kind.name}", *round_as_gguf(params, kind)


def read_windows(source: Path, tokenizer: Tokenizer, config: GemmaConfig, rows: int) -> np.ndarray:
    texts = [file.read_text(encoding="utf-8") for file in sorted(source.rglob("*.py"))[::9]]
    ids = np.concatenate([tokenizer.encode(text) for text in texts])
    length = config.max_positions - 1
    windows = ids[: len(ids) // length * length].reshape(-1, length)[:rows]
    return np.pad(windows, ((0, -len(windows) % _BATCH), (1, 0)), constant_values=BOS_ID)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=_BASE)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--rows", type=int, default=128)
    options = parser.parse_args()
    spec: Any = find_spec("jax")
    params, config = load_model(options.model)
    tokenizer = Tokenizer.load(options.model)
    windows = read_windows(options.source or Path(spec.origin).parent, tokenizer, config, options.rows)
    size_bytes = sum(len(tokenizer.decode_bytes(row)) for row in windows.tolist())
    segments = jnp.ones((_BATCH, windows.shape[1]), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(windows.shape[1]), segments.shape)
    rate = jax.jit(
        lambda params, ids: score_tokens(params, config, ids, segments, positions, Execution(unroll=False))[0].sum()
    )
    weights = sum(np.prod(config.shape_params()[name]) for name in _MATRICES)
    print(f"{options.model}: {weights:,} weights in matrices; {len(windows)} windows, {size_bytes:,} bytes of source")
    floor = None
    for name, variant, bits in list_variants(params):
        nats = -sum(float(rate(variant, jnp.asarray(batch))) for batch in windows.reshape(-1, _BATCH, windows.shape[1]))
        bits_per_byte = nats / math.log(2) / size_bytes
        floor = bits_per_byte if floor is None else floor
        print(
            f"{name:10} {bits_per_byte:.4f} bits per byte, {bits_per_byte - floor:+.4f} "
            f"({bits_per_byte / floor - 1:+.2%}), {bits / weights:5.2f} bits a weight"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
