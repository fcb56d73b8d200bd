"""How the table of the vocabulary is used while each device holds some of its columns: never whole, on no device.

**In**: a device's columns of the table, as `sharding.py` divides them over `fsdp`; inside `jax.shard_map` only.
**Out**: rows looked up; a block of the vocabulary to score with; their gradients, back on the device of the columns.
**Not**: the loss (`train/objective.py`), and the other weights, which are gathered whole layer by layer.

A table gathered whole costs an all-gather of `[V, D]` and, because libtpu writes a scattering as an all-reduce, twice
that for its gradient: 2.7 GiB a step for 2B, whose tokens need far less. So tokens travel instead, among few devices:
to look up, each device reads its columns for the tokens of `lookers` devices; to score, `scorers` devices side by side
share out the vocabulary and score each other's tokens (Shoeybi et al. 2019, section 3, over the axis of the rows).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# Narrower columns would leave lanes of a TPU's memory tiles empty.
_MIN_COLUMNS = 128
AXIS = "fsdp"
Groups = list[list[int]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Over how many devices the table is divided, and how many of them look up and score together.

    `lookers` and `scorers` divide `devices`; 1 of each is the table gathered whole. With one device nothing travels.
    """

    devices: int = 1
    lookers: int = 1
    scorers: int = 1
    compute_dtype: Any = jnp.float32

    @property
    def _neighbors(self) -> Groups:
        """Devices side by side that score together."""
        return _list_neighbors(self.devices, self.scorers)

    @property
    def _namesakes(self) -> Groups:
        """Devices that have the same block of the vocabulary."""
        return _list_strangers(self.devices, self.scorers)

    def take_block(self, columns: Float[Array, "V columns"]) -> Float[Array, "block D"]:
        """Get the rows of the table that this device scores: its own block of the vocabulary."""
        if self.devices == 1:
            return columns
        block = columns.astype(self.compute_dtype)
        if self.scorers > 1:
            block = lax.all_to_all(block, AXIS, 0, 1, axis_index_groups=self._neighbors, tiled=True)
        if self.devices > self.scorers:
            block = lax.all_gather(block, AXIS, axis=1, tiled=True, axis_index_groups=self._namesakes)
        return block

    def return_block(self, slope: Float[Array, "block D"]) -> Float[Array, "V columns"]:
        """Send a block's gradient to the devices of its columns, added up over all tokens of the axis."""
        if self.devices > self.scorers:
            slope = add_scattered(slope, 1, self.compute_dtype, self._namesakes)
        if self.scorers > 1:
            narrow = slope.astype(self.compute_dtype)
            slope = lax.all_to_all(narrow, AXIS, 1, 0, axis_index_groups=self._neighbors, tiled=True)
        return slope.astype(jnp.float32)

    def number_first(self, block_rows: int) -> Int[Array, ""] | int:
        """Tell which token of the vocabulary is the first of this device's block."""
        return lax.axis_index(AXIS) % self.scorers * block_rows if self.scorers > 1 else 0

    def collect(self, value: Array) -> Array:
        """Put the tokens of the devices that score together side by side along the first axis."""
        return value if self.scorers == 1 else _collect(value, self._neighbors)

    def stack(self, value: Array) -> Array:
        """Stack what each of the devices that score together has, along a new first axis."""
        return value[None] if self.scorers == 1 else _stack(value, self._neighbors)

    def take_own(self, value: Float[Array, "*rows"]) -> Float[Array, "*own"]:
        """Take what is of this device's tokens."""
        if self.scorers == 1:
            return value
        parts = value.reshape(self.scorers, -1, *value.shape[1:])
        own: Array = lax.dynamic_index_in_dim(parts, lax.axis_index(AXIS) % self.scorers, keepdims=False)
        return own

    def add_returned(self, value: Float[Array, "*rows"]) -> Float[Array, "*own"]:
        """Add up what the devices that score together have for this device's tokens; the inverse of `collect`."""
        if self.scorers == 1:
            return value
        parts = lax.all_to_all(
            value.astype(self.compute_dtype), AXIS, 0, 0, axis_index_groups=self._neighbors, tiled=True
        )
        parts = parts.reshape(self.scorers, -1, *value.shape[1:])
        return jnp.sum(parts.astype(jnp.float32), axis=0)


ALONE = Vocabulary()


def divide_vocabulary(devices: int, vocab_size: int, embed_dim: int, tokens: int, compute_dtype: Any) -> Vocabulary:
    """Choose the groups that send the least, for `tokens` of each device.

    >>> divide_vocabulary(256, 256_000, 2048, 8192, jnp.bfloat16).scorers
    8
    """
    divisors = [size for size in range(1, devices + 1) if devices % size == 0]
    lookers = max((size for size in divisors if embed_dim // size >= _MIN_COLUMNS), default=1)

    def count_sent(scorers: int) -> float:
        """Count the rows of width D that a device sends: tokens and their slopes; a block, and twice its gradient."""
        return 2 * tokens * (scorers - 1) + 3 * vocab_size / scorers * (1 - scorers / devices)

    scorers = min((size for size in divisors if vocab_size % size == 0), key=count_sent)
    return Vocabulary(devices, lookers, scorers, jnp.dtype(compute_dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def look_up(
    columns: Float[Array, "V columns"], ids: Int[Array, "B L"], vocabulary: Vocabulary
) -> Float[Array, "B L D"]:
    """Take rows of the table; the gradient adds up in float32 whatever the table's format.

    A frequent token adds thousands of small slopes, which bfloat16 would lose.
    """
    return _look_up_forward(columns, ids, vocabulary)[0]


def _look_up_forward(columns: Array, ids: Array, vocabulary: Vocabulary) -> tuple[Array, tuple[Array, Array]]:
    devices, lookers = vocabulary.devices, vocabulary.lookers
    # Of the table, only its shape and format are needed again.
    saved = (jnp.zeros((columns.shape[0], 0), columns.dtype), ids)
    if devices == 1:
        return columns[ids], saved
    slab = columns.astype(vocabulary.compute_dtype)
    if devices > lookers:
        slab = lax.all_gather(
            slab, AXIS, axis=1, tiled=True, axis_index_groups=_list_neighbors(devices, devices // lookers)
        )
    if lookers == 1:
        return slab[ids], saved
    strangers = _list_strangers(devices, devices // lookers)
    rows = slab[_stack(ids, strangers)]
    # From [lookers B L columns] of all their tokens to all columns of this device's own.
    return lax.all_to_all(rows, AXIS, 0, 3, axis_index_groups=strangers, tiled=True)[0], saved


def _look_up_backward(vocabulary: Vocabulary, saved: tuple[Array, Array], slope: Array) -> tuple[Array, None]:
    like, ids = saved
    devices, lookers = vocabulary.devices, vocabulary.lookers
    if lookers > 1:
        strangers = _list_strangers(devices, devices // lookers)
        ids = _stack(ids, strangers)
        slope = lax.all_to_all(slope[None], AXIS, 3, 0, axis_index_groups=strangers, tiled=True)
    total = jnp.zeros((like.shape[0], slope.shape[-1]), jnp.float32).at[ids].add(slope.astype(jnp.float32))
    if devices > lookers:
        total = add_scattered(total, 1, vocabulary.compute_dtype, _list_neighbors(devices, devices // lookers))
    return total.astype(like.dtype), None


look_up.defvjp(_look_up_forward, _look_up_backward)


def add_scattered(slope: Array, axis: int, dtype: Any, groups: Groups | None = None) -> Array:
    """Add an array up over devices, each of which keeps its part along `axis`, in float32; it travels in `dtype`."""

    def scatter(slope: Array) -> Array:
        part: Array = lax.psum_scatter(slope, AXIS, scatter_dimension=axis, tiled=True, axis_index_groups=groups)
        return part.astype(jnp.float32)

    # XLA's CPU backend aborts on a sum of bfloat16 over a part of the mesh's axes (jax 0.10.2).
    on_cpu, elsewhere = slope.astype(jnp.float32), slope.astype(dtype)
    summed: Array = lax.platform_dependent(
        on_cpu, elsewhere, cpu=lambda wide, _: scatter(wide), default=lambda _, narrow: scatter(narrow)
    )
    return summed


def _collect(value: Array, groups: Groups) -> Array:
    collected: Array = lax.all_gather(value, AXIS, axis=0, tiled=True, axis_index_groups=groups)
    return collected


def _stack(value: Array, groups: Groups) -> Array:
    stacked: Array = lax.all_gather(value, AXIS, axis=0, axis_index_groups=groups)
    return stacked


def _list_neighbors(devices: int, size: int) -> Groups:
    """Divide the devices of the axis into groups of `size` side by side.

    >>> _list_neighbors(6, 2)
    [[0, 1], [2, 3], [4, 5]]
    """
    return [list(range(first, first + size)) for first in range(0, devices, size)]


def _list_strangers(devices: int, step: int) -> Groups:
    """Divide the devices of the axis into `step` groups that stand `step` apart.

    >>> _list_strangers(6, 2)
    [[0, 2, 4], [1, 3, 5]]
    """
    return [list(range(first, devices, step)) for first in range(step)]
