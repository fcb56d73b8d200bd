"""Gemma 1 as plain functions on a dictionary of stacked arrays.

**In**: token ids with their segments and positions, or with a cache of what was read before.
**Out**: the hidden states after the last norm; `compute_logits` turns them into scores over the vocabulary.
**Not**: a loss, sampling or files. Conventions are those of the published weights, checked against transformers:
norm weights are stored minus one, the embedding is scaled on the way in only, rotary pairs are half a head apart.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from codegemma.model.attention import Turns, attend_cached, compute_turns, rotate
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution, Gather
from codegemma.model.feed_forward import feed_forward
from codegemma.model.kernels import attend
from codegemma.model.layers import UNEMBEDDING, run_layers
from codegemma.model.lora import LORA, add_low_rank
from codegemma.model.products import Joined, multiply, multiply_each
from codegemma.model.quantize import score_rows, take_rows, widen
from codegemma.model.vocabulary import ALONE, Vocabulary, look_up

# Stacked over layers, layer axis first. Hugging Face names of the same tensors are in `weights.py`:
#   emb [V D]   attn_norm [N D]   q [N D H A]   kv [N 2 D K A]   o [N H A D]
#   ffw_norm [N D]   gate_up [N 2 D F]   down [N F D]   final_norm [D]
# Each is an array, or integers with their scales (`quantize.py`). Adapters may hang on them, under `LORA` (`lora.py`).
# A CPU that only reads takes the layers apart (`layers.py`).
Params = dict[str, Any]


class Cache(NamedTuple):
    """Keys and values of what was read, in `P` pages of `G` tokens; tables say which are whose, in order."""

    keys: Float[Array, "N P G K A"]
    values: Float[Array, "N P G K A"]


class Held(NamedTuple):
    """Keys and values of rows that are read on for a while, `S` slots each in one piece: `[B S K A]` of each layer."""

    keys: tuple[Array, ...] | Float[Array, "N B S K A"]
    values: tuple[Array, ...] | Float[Array, "N B S K A"]


# Stores a layer's new keys and values, and finds all that the rows have: (memory, layer, keys, values) -> the same.
_Remember = Callable[[Any, Any, Array, Array], tuple[Any, Array, Array]]


def init_params(config: GemmaConfig, key: Array) -> Params:
    """Draw float32 parameters: each product keeps its variance, and the residual branches shrink with depth.

    The embedding is half as large as that: its rows are also the output weights, and a fresh model would else expect
    every token again.
    """
    branch = (2 * config.num_layers) ** -0.5
    scales = {
        "emb": 0.5 * config.embed_dim**-0.5,
        "q": config.embed_dim**-0.5,
        "kv": config.embed_dim**-0.5,
        "o": branch * (config.num_heads * config.head_dim) ** -0.5,
        "gate_up": config.embed_dim**-0.5,
        "down": branch * config.mlp_dim**-0.5,
    }
    shapes = config.shape_params()
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    return {
        name: scales[name] * jax.random.normal(keys[name], shape) if name in scales else jnp.zeros(shape)
        for name, shape in shapes.items()
    }


def forward(
    params: Params,
    config: GemmaConfig,
    ids: Int[Array, "B L"],
    segments: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    execution: Execution = Execution(),  # noqa: B008 (frozen)
) -> Float[Array, "B L D"]:
    """Read whole rows at once; attention is causal and stays within a segment (0 is padding)."""
    x = embed(params, config, ids, execution.vocabulary).astype(execution.activation_dtype)
    turns = compute_turns(positions, config.head_dim, config.rope_theta)

    def run_layer(x: Float[Array, "B L D"], numbered: tuple[Any, Params]) -> Float[Array, "B L D"]:
        layer = _open_layer(numbered[1], execution.gather)
        q, k, v = project(x, layer, turns, config, execution)
        q, k, v = checkpoint_name(q, "q"), checkpoint_name(k, "k"), checkpoint_name(v, "v")
        mixed = checkpoint_name(attend(q, k, v, segments, execution), "attention")
        return finish_layer(x, mixed, layer, config, execution)

    x = run_layers(execution.checkpoint(run_layer), x, params, execution.unroll)
    return normalize(x, params["final_norm"], config.norm_epsilon).astype(execution.activation_dtype)


def _open_layer(parts: Params, gather: Gather) -> Params:
    """Make one layer's weights whole, as floats; adapters are small and whole everywhere."""
    return {n: part if n == LORA or isinstance(part, Joined) else widen(gather(n, part)) for n, part in parts.items()}


def init_cache(config: GemmaConfig, pages: int, page_tokens: int, dtype: Any = jnp.float32) -> Cache:
    """Make an empty cache of so many pages."""
    shape = (config.num_layers, pages, page_tokens, config.num_kv_heads, config.head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def forward_cached(
    params: Params,
    config: GemmaConfig,
    ids: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    tables: Int[Array, "B W"],
    cache: Cache,
    *,
    execution: Execution = Execution(unroll=False),  # noqa: B008 (frozen)
) -> tuple[Float[Array, "B T D"], Cache]:
    """Read the next tokens of each row, parts of prompts (`T` many) or one token a row (`T` = 1).

    Page `tables[b, w]` holds the tokens of row `b` from position `w * G` on. A token is stored at its position and sees
    all positions up to its own. Rows of different length need no mask: fill the short ones up with any id at the
    positions that follow. What such a filler stores is never seen, because the row's real token of that position
    overwrites it first. A token whose page does not exist (`P` or higher, or beyond the table) stores nothing.
    """
    page_tokens = cache.keys.shape[2]
    places = positions // page_tokens
    in_table = jnp.take_along_axis(tables, jnp.minimum(places, tables.shape[1] - 1), axis=1)
    pages = jnp.where(places < tables.shape[1], in_table, cache.keys.shape[1])
    offsets = positions % page_tokens

    def look_up_pages(pool: Array, n: Any) -> Array:
        found = pool.at[n, tables].get(mode="clip")
        return found.reshape(ids.shape[0], -1, *pool.shape[3:])

    def remember(cache: Cache, n: Any, k: Array, v: Array) -> tuple[Cache, Array, Array]:
        cache = Cache(
            cache.keys.at[n, pages, offsets].set(k.astype(cache.keys.dtype), mode="drop"),
            cache.values.at[n, pages, offsets].set(v.astype(cache.values.dtype), mode="drop"),
        )
        return cache, look_up_pages(cache.keys, n), look_up_pages(cache.values, n)

    return _read_on(params, config, ids, positions, cache, remember, execution=execution)


def forward_held(
    params: Params, config: GemmaConfig, ids: Int[Array, "B T"], positions: Int[Array, "B T"], held: Held, *,
    execution: Execution,
) -> tuple[Float[Array, "B T D"], Held]:  # fmt: skip
    """Do what `forward_cached` does, for rows whose keys and values are held: nothing is looked up."""
    rows = jnp.arange(ids.shape[0])[:, None]

    def store(pool: Any, n: Any, new: Array) -> tuple[Any, Array]:
        if isinstance(pool, tuple):
            part = pool[n].at[rows, positions].set(new.astype(pool[n].dtype), mode="drop")
            return (*pool[:n], part, *pool[n + 1 :]), part
        pool = pool.at[n, rows, positions].set(new.astype(pool.dtype), mode="drop")
        return pool, pool[n]

    def remember(held: Held, n: Any, k: Array, v: Array) -> tuple[Held, Array, Array]:
        (all_keys, keys), (all_values, values) = store(held.keys, n, k), store(held.values, n, v)
        return Held(all_keys, all_values), keys, values

    return _read_on(params, config, ids, positions, held, remember, execution=execution)


def _read_on(
    params: Params, config: GemmaConfig, ids: Array, positions: Array, memory: Any, remember: _Remember, *,
    execution: Execution,
) -> tuple[Array, Any]:  # fmt: skip
    x = embed(params, config, ids).astype(execution.activation_dtype)
    turns = compute_turns(positions, config.head_dim, config.rope_theta)

    def run_layer(carry: tuple[Float[Array, "B T D"], Any], numbered: tuple[Any, Params]) -> tuple[Array, Any]:
        (x, memory), (n, layer) = carry, numbered
        layer = _open_layer(layer, execution.gather)
        q, k, v = project(x, layer, turns, config, execution)
        memory, keys, values = remember(memory, n, k, v)
        mixed = attend_cached(q, keys, values, positions, execution.compute_dtype)
        return finish_layer(x, mixed, layer, config, execution), memory

    x, memory = run_layers(run_layer, (x, memory), params, execution.unroll)
    return normalize(x, params["final_norm"], config.norm_epsilon), memory


def compute_logits(
    params: Params, hidden: Float[Array, "*rows D"], compute_dtype: Any = jnp.float32
) -> Float[Array, "*rows V"]:
    """Score every token of the vocabulary as the next one; the output table is the embedding."""
    rows = hidden.reshape(-1, hidden.shape[-1])
    if UNEMBEDDING in params and len(rows) > 1:
        flat = multiply(rows, params[UNEMBEDDING], compute_dtype)
    else:
        flat = score_rows(rows, params["emb"], compute_dtype)
    return flat.reshape(*hidden.shape[:-1], -1)


def embed(
    params: Params,
    config: GemmaConfig,
    ids: Int[Array, "B L"],
    vocabulary: Vocabulary = ALONE,
) -> Float[Array, "B L D"]:
    """Look the tokens up and scale them by the square root of the width."""
    table = params["emb"]
    rows = look_up(table, ids, vocabulary) if isinstance(table, jax.Array) else take_rows(table, ids)
    scaled: Array = rows.astype(jnp.float32) * jnp.float32(config.embed_dim**0.5)
    return scaled


def normalize(x: Float[Array, "*rows D"], weight: Float[Array, " D"], epsilon: float) -> Float[Array, "*rows D"]:
    """RMSNorm with the weight stored minus one.

    >>> print(normalize(jnp.array([[2.0, -2.0]]), jnp.array([0.0, 0.5]), 0.0))
    [[ 1.  -1.5]]
    """
    x = x.astype(jnp.float32)
    scale = lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
    return x * scale * (1.0 + weight.astype(jnp.float32))


def project(
    x: Float[Array, "B L D"], layer: Params, turns: Turns, config: GemmaConfig, execution: Execution
) -> tuple[Float[Array, "B L H A"], Float[Array, "B L K A"], Float[Array, "B L K A"]]:
    """Make the layer's queries (turned and scaled), keys (turned) and values, in one product."""
    y = normalize(x, layer["attn_norm"], config.norm_epsilon)
    flat = multiply_each(y, _take_projections(layer, config), execution.compute_dtype)
    flat = add_low_rank(flat, y, layer, ("q", "k", "v"), execution.compute_dtype)
    q, k, v = (part.reshape(*x.shape[:2], -1, config.head_dim) for part in flat)
    q, k = rotate(q, turns) * config.head_dim**-0.5, rotate(k, turns)
    return q.astype(x.dtype), k.astype(x.dtype), v.astype(x.dtype)


def _take_projections(layer: Params, config: GemmaConfig) -> tuple[Array, ...] | Joined:
    if "qkv" in layer:
        joined: Joined = layer["qkv"]
        return joined
    return tuple(m.reshape(config.embed_dim, -1) for m in (layer["q"], *layer["kv"]))


def finish_layer(
    x: Float[Array, "B L D"], mixed: Float[Array, "B L H A"], layer: Params, config: GemmaConfig, execution: Execution
) -> Float[Array, "B L D"]:
    """Add what attention mixed, then what the gated feed-forward makes of the sum."""
    flat, dtype = mixed.reshape(*x.shape[:2], -1), execution.compute_dtype
    product = multiply(flat, layer["o"].reshape(-1, config.embed_dim), dtype)
    x = x + add_low_rank((product,), flat, layer, ("o",), dtype)[0].astype(x.dtype)
    y = normalize(x, layer["ffw_norm"], config.norm_epsilon)
    return x + feed_forward(y, layer, execution).astype(x.dtype)
