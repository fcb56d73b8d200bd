"""What a step needs of a device by formula, where no compiler can be asked: memory by kind, and what travels.

**In**: the shape of a model, choices, the sizes of a mesh.
**Out**: bytes a device by kind; collectives.
**Not**: a verdict: a compiler reuses memory that is added up here, and needs some that is not.
"""

from collections.abc import Iterator, Mapping

import jax.numpy as jnp

from codegemma.model.config import GemmaConfig
from codegemma.model.vocabulary import divide_vocabulary
from codegemma.train.choices import TrainChoices
from codegemma.train.collectives import Collective


def estimate_memory(config: GemmaConfig, choices: TrainChoices, mesh: Mapping[str, int]) -> dict[str, int]:
    """Estimate the bytes of each kind on one device.

    >>> from codegemma.model.config import codegemma_2b
    >>> memory = estimate_memory(codegemma_2b(), TrainChoices(), {"data": 1, "fsdp": 4, "tensor": 1})
    >>> memory["parameters"] == codegemma_2b().count_parameters()
    True
    """
    parts, tokens = mesh["fsdp"] * mesh["tensor"], count_tokens(choices, mesh)
    own = 4 * config.count_parameters() // parts
    operand, kept = jnp.dtype(choices.compute_dtype).itemsize, jnp.dtype(choices.activation_dtype).itemsize
    # A layer's weights whole, and their gradient before it is scattered; the feed-forward's three, forward and back.
    weights = 2 * operand * _count_layer_parameters(config) // mesh["tensor"]
    at_work = tokens * (6 * config.mlp_dim + 4 * config.num_heads * config.head_dim) * kept // mesh["tensor"]
    chunk = min(tokens, choices.loss_chunk_tokens)
    return {
        "parameters": own,
        "optimizer": 2 * own,
        "gradients": own,
        "batch": 5 * 4 * tokens,
        "kept for the gradient": 0 if choices.remat == "offload" else _count_kept(config, choices, tokens, kept),
        "a layer at work": weights + at_work + 2 * kept * tokens * config.embed_dim,
        "loss": chunk * config.vocab_size * (4 + operand) // mesh["tensor"],
    }


def estimate_host_bytes(config: GemmaConfig, choices: TrainChoices, mesh: Mapping[str, int]) -> int:
    """Estimate what a device keeps in the host's memory."""
    if choices.remat != "offload":
        return 0
    return _count_kept(config, choices, count_tokens(choices, mesh), jnp.dtype(choices.activation_dtype).itemsize)


def count_tokens(choices: TrainChoices, mesh: Mapping[str, int]) -> int:
    """Count the tokens of a step on one device."""
    return choices.batch_rows * choices.row_tokens // (mesh["data"] * mesh["fsdp"])


def estimate_collectives(config: GemmaConfig, choices: TrainChoices, mesh: Mapping[str, int]) -> Iterator[Collective]:
    """List what travels over fsdp and data in a step; what XLA adds for the tensor axis is not in it."""
    devices, operand = mesh["fsdp"], jnp.dtype(choices.compute_dtype).itemsize
    layer = operand * _count_layer_parameters(config) // mesh["tensor"]
    if devices > 1:
        tokens = count_tokens(choices, mesh)
        scorers = divide_vocabulary(devices, config.vocab_size, config.embed_dim, tokens, jnp.bfloat16).scorers
        width, block = operand * config.embed_dim, config.vocab_size // scorers
        passes = 1 if choices.remat == "none" else 2
        yield Collective("all-gather", "a layer", layer, devices, passes * config.num_layers)
        yield Collective("reduce-scatter", "a layer's gradient", layer, devices, config.num_layers)
        yield Collective("all-gather", "tokens to score", scorers * tokens * width, scorers, 2)
        yield Collective("all-gather", "a block of the vocabulary", block * width, devices // scorers, 2)
    if mesh["data"] > 1:
        own = 4 * config.count_parameters() // (devices * mesh["tensor"])
        yield Collective("all-reduce", "gradients", own, mesh["data"], 1)


def _count_kept(config: GemmaConfig, choices: TrainChoices, tokens: int, itemsize: int) -> int:
    """Count what the layers keep: their inputs, what attention takes and gives, or everything between products."""
    attention = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    width = {
        "full": config.embed_dim,
        "qkvo": config.embed_dim + attention,
        "offload": config.embed_dim + attention,
        "none": 4 * config.embed_dim + attention + 3 * config.mlp_dim,
    }[choices.remat]
    return config.num_layers * tokens * width * itemsize


def _count_layer_parameters(config: GemmaConfig) -> int:
    return (config.count_parameters() - config.vocab_size * config.embed_dim) // config.num_layers
