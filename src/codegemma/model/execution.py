"""How the network is computed, apart from what it computes: number formats, recomputation, kernels, devices.

**In**: choices.
**Out**: `Execution`, which `gemma.forward` follows; the same result up to rounding, whatever is chosen.
**Not**: the choice itself, and the meshes behind `gather`: `sharding.py` makes those.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from codegemma.model.vocabulary import ALONE, Vocabulary

# What a layer keeps for the gradient: all (`none`), its input alone (`full`), or its input and what attention took and
# gave (`qkvo`), on the device or in the host's memory (`offload`).
Remat = Literal["none", "full", "qkvo", "offload"]
# `xla` runs everywhere, `splash` is Pallas' kernel for TPUs, `cudnn` that of Nvidia's library (Hopper for these heads).
AttentionKernel = Literal["xla", "splash", "cudnn"]
# Names that the layers give to what `qkvo` and `offload` keep.
KEPT_NAMES = ("q", "k", "v", "attention")

# A weight is an array, or integers with their scales (`quantize.py`).
Gather = Callable[[str, Any], Any]


def take_as_it_is(name: str, weight: Any) -> Any:  # noqa: ARG001
    """Gather nothing: the whole weight is here."""
    return weight


@dataclass(frozen=True, slots=True)
class Execution:
    """How whole rows are read.

    `compute_dtype` is that of the operands of matrix products, which add up in float32. `activation_dtype` is that of
    what stands between products; norms, rotations and softmax compute in float32. `unroll` lays the layers out one
    after the other, which XLA's CPU backend runs faster than a loop; a deep model compiles quicker with `False`.
    `gather` makes a weight of one layer whole, by its name, from the part that lies on this device. Where heads are
    divided over an axis of the mesh, `tensor_axis` names it. `vocabulary` says how devices share the embedding.
    `interpret` runs Pallas' kernels without an accelerator.
    """

    compute_dtype: Any = jnp.float32
    activation_dtype: Any = jnp.float32
    remat: Remat = "none"
    unroll: bool | int = True
    attention: AttentionKernel = "xla"
    gather: Gather = take_as_it_is
    tensor_axis: str | None = None
    vocabulary: Vocabulary = ALONE
    interpret: bool = False

    def checkpoint(self, layer: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a layer so that its gradient computes anew what is not kept."""
        policies = jax.checkpoint_policies
        match self.remat:
            case "none":
                return layer
            case "full":
                return jax.checkpoint(layer)
            case "qkvo":
                return jax.checkpoint(layer, policy=policies.save_only_these_names(*KEPT_NAMES))
            case "offload":
                policy = policies.save_and_offload_only_these_names(
                    names_which_can_be_saved=[],
                    names_which_can_be_offloaded=list(KEPT_NAMES),
                    offload_src="device",
                    offload_dst="pinned_host",
                )
                return jax.checkpoint(layer, policy=policy)
