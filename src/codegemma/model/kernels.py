"""Attention over whole rows by the kernel that suits the device.

**In**: queries that are already turned and scaled, keys that are already turned, values; `Execution.attention`.
**Out**: the values mixed for each query head; each token sees itself and what stands before it in its segment.
**Not**: the choice by hand: `choose_attention` probes the device. Reading through a cache is in `attention.py`.
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from codegemma.model.attention import attend_in_blocks
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import AttentionKernel, Execution
from codegemma.model.formats.integers import find_divisor

# Splash works on whole blocks of tokens; its lanes are 128 wide. Sizes of the study's compiled steps (training, A).
_SPLASH_LANES = 128
_SPLASH_BLOCK_TOKENS = 1024
_SPLASH_COMPUTE_TOKENS = 512
# cuDNN takes heads of 256 from this compute capability on (jax/_src/cudnn/fused_attention_stablehlo.py).
_CUDNN_WIDE_HEADS = (9, 0)
_CUDNN_MAX_HEAD_DIM = 128


def attend(
    q: Float[Array, "B L H A"],
    k: Float[Array, "B L K A"],
    v: Float[Array, "B L K A"],
    segments: Int[Array, "B L"],
    execution: Execution,
) -> Float[Array, "B L H A"]:
    """Let each token see itself and what stands before it in its own segment."""
    match execution.attention:
        case "xla":
            mixed = attend_in_blocks(q, k, v, segments, execution.compute_dtype)
        case "splash":
            mixed = _attend_by_heads(partial(_attend_splash, execution=execution), q, k, v, segments, execution)
        case "cudnn":
            mixed = _attend_by_heads(partial(_attend_cudnn, execution=execution), q, k, v, segments, execution)
    return mixed.astype(execution.activation_dtype)


def choose_attention(config: GemmaConfig, device: jax.Device, row_tokens: int) -> AttentionKernel:
    """Choose the kernel for a device: splash on a TPU, cuDNN on a GPU that has it for heads this wide, else XLA's."""
    if device.platform == "tpu" and row_tokens % _SPLASH_LANES == 0 and config.head_dim % _SPLASH_LANES == 0:
        return "splash"
    if device.platform == "gpu":
        capability = tuple(int(part) for part in str(getattr(device, "compute_capability", "0.0")).split("."))
        if capability >= (_CUDNN_WIDE_HEADS if config.head_dim > _CUDNN_MAX_HEAD_DIM else (8, 0)) and has_cudnn():
            return "cudnn"
    return "xla"


def has_cudnn() -> bool:
    """Tell whether this process can compile cuDNN's attention: the probe is a compilation of the smallest case."""
    shape = jax.ShapeDtypeStruct((1, 64, 1, 64), jnp.bfloat16)
    probe = partial(jax.nn.dot_product_attention, implementation="cudnn", is_causal=True)
    try:
        jax.jit(probe).lower(shape, shape, shape).compile()
    except Exception:
        return False
    return True


def _attend_by_heads(kernel: Any, q: Array, k: Array, v: Array, segments: Array, execution: Execution) -> Array:
    """Run a kernel that XLA cannot divide: each device of the tensor axis takes its own heads."""
    if execution.tensor_axis is None:
        mixed: Array = kernel(q, k, v, segments)
        return mixed
    heads = PartitionSpec(None, None, execution.tensor_axis)
    shared = heads if k.shape[2] > 1 else PartitionSpec()
    divided = jax.shard_map(
        kernel,
        in_specs=(heads, shared, shared, PartitionSpec()),
        out_specs=heads,
        axis_names={execution.tensor_axis},
        check_vma=False,
    )
    return cast(Array, divided(q, k, v, segments))


def _choose_block(tokens: int, most: int) -> int:
    """Take the longest block of at most so many tokens, a multiple of the lanes, that divides a row or a block.

    >>> _choose_block(8192, 1024), _choose_block(1536, 1024), _choose_block(768, 512)
    (1024, 768, 384)
    """
    return _SPLASH_LANES * find_divisor(max(tokens // _SPLASH_LANES, 1), most // _SPLASH_LANES)


def _attend_splash(q: Array, k: Array, v: Array, segments: Array, execution: Execution) -> Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    tokens, heads, groups = q.shape[1], q.shape[2], q.shape[2] // k.shape[2]
    if k.shape[2] > 1 and groups > 1:
        k, v = jnp.repeat(k, groups, axis=2), jnp.repeat(v, groups, axis=2)
    is_shared = k.shape[2] == 1
    block = _choose_block(tokens, _SPLASH_BLOCK_TOKENS)
    compute = _choose_block(block, _SPLASH_COMPUTE_TOKENS)
    sizes = splash.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=compute,
        block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=compute, use_fused_bwd_kernel=True,
    )  # fmt: skip
    mask = masks.MultiHeadMask([masks.CausalMask((tokens, tokens))] * heads)
    make = splash.make_splash_mqa_single_device if is_shared else splash.make_splash_mha_single_device
    kernel = make(mask, block_sizes=sizes, residual_checkpoint_name="attention", interpret=execution.interpret)
    q, k, v = (x.astype(execution.compute_dtype).swapaxes(1, 2) for x in (q, k, v))
    if is_shared:
        k, v = k[:, 0], v[:, 0]

    def mix(q: Array, k: Array, v: Array, segments: Array) -> Array:
        mixed: Array = kernel(q, k, v, segment_ids=splash.SegmentIds(segments, segments))
        return mixed

    return jax.vmap(mix)(q, k, v, segments).swapaxes(1, 2)


def _attend_cudnn(q: Array, k: Array, v: Array, segments: Array, execution: Execution) -> Array:
    q, k, v = (x.astype(execution.compute_dtype) for x in (q, k, v))
    same = segments[:, None, :, None] == segments[:, None, None, :]
    mixed: Array = jax.nn.dot_product_attention(q, k, v, mask=same, scale=1.0, is_causal=True, implementation="cudnn")
    return mixed
