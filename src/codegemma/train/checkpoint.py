"""Checkpoints of a run: the train state, the loader's position and the meters, together or not at all.

**In**: a `TrainState`, and plain data that JSON can hold; of several processes, each writes what its devices hold.
**Out**: the newest whole checkpoint, bit for bit what was saved, on whatever devices are here now.
**Not**: the finished model (`model/weights.py`). A checkpoint that a kill left half-written is not seen, and removed
when the folder is opened again (orbax writes under a temporary name and renames).

Each checkpoint holds a sum over the bits of its arrays, made on the devices and independent of how they are divided,
and a hash of its plain data. One that cannot be read, or reads otherwise than it was saved, is put aside under another
name, and the one before it is taken.
"""

import contextlib
import json
import logging
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import xxhash
from etils import epath
from jax import lax
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, UInt32

from codegemma.errors import InputError, OutputError
from codegemma.train.hosts import act_first, agree, is_leader, share_numbers
from codegemma.train.step import TrainState

# What a damaged checkpoint's folder is called from then on.
DAMAGED_SUFFIX = ".damaged"

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, the newest few kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Open the folder; what a killed run left half-written is removed."""
        self.folder = folder
        # Saved before the next step starts: the step reuses the state's memory.
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False, create=True)
        with _quiet_orbax(), _as_output_error(folder):
            act_first(self._clean, lambda: None)
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def _clean(self) -> None:
        # Orbax's own cleaning overlooks a folder that a kill left empty.
        for half_written in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(half_written)

    @property
    def latest_step(self) -> int | None:
        """Tell the step of the newest checkpoint."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, step: int, state: TrainState, plain: dict[str, Any]) -> None:
        """Save, and return when the checkpoint counts; a step that is saved already stays as it is.

        Raises:
            OutputError: no permission or no space; earlier checkpoints are still whole.
        """
        if step == self.latest_step:
            return
        sealed = {"content": plain, "hash": _hash_plain(plain), "arrays": sum_bits(state)}
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()), plain=ocp.args.JsonSave(sealed))
        with _quiet_orbax(), _as_output_error(self.folder):
            if is_leader():
                _check_room(self.folder, state)
            self._manager.save(step, args=arguments, force=True)
            self._manager.wait_until_finished()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Read the newest whole checkpoint into a state shaped and placed `like`; `None` if there is none.

        Raises:
            InputError: there are checkpoints, and none is whole.
        """
        damaged: dict[int, str] = {}
        for step in share_numbers(sorted(self._manager.all_steps(), reverse=True)):
            found = self._read(step, like)
            if not isinstance(found, str):
                self._put_aside(damaged, step)
                return found
            damaged[step] = found
        if damaged:
            told = "; ".join(f"{self.folder / str(step)} ({reason})" for step, reason in damaged.items())
            raise InputError(
                f"no checkpoint of the run is whole: {told}. Bring one back from a copy, or start anew in another --out"
            )
        return None

    def restore_newest(self, like: TrainState, count: int) -> list[TrainState]:
        """Read the newest `count` whole checkpoints, the newest last; fewer where there are fewer."""
        found: list[TrainState] = []
        for step in share_numbers(sorted(self._manager.all_steps(), reverse=True)):
            read = self._read(step, like) if len(found) < count else ""
            if not isinstance(read, str):
                found.append(read[0])
        return found[::-1]

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]] | str:
        """Read a checkpoint, or tell why it is not whole; all processes find the same."""
        try:
            state, sealed = self._read_unchecked(step, like)
            reason = "" if sealed["hash"] == _hash_plain(sealed["content"]) else "its plain data are changed"
        # Whatever a library says to bytes that nobody wrote.
        except Exception as error:
            reason = f"cannot be read: {str(error).partition(chr(10))[0][:200] or type(error).__name__}"
        if agree(bool(reason))[0]:
            return reason or "another process cannot read it"
        if sum_bits(state) != sealed["arrays"]:
            return "its arrays are not those that were saved"
        return state, sealed["content"]

    def _read_unchecked(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        # By the handlers: the manager would wait for all processes, also for one that has met an error.
        handler = ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(), plain=ocp.JsonCheckpointHandler()
        )
        here = SingleDeviceSharding(jax.local_devices()[0])

        def describe(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None) or here)

        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(jax.tree.map(describe, like._asdict())), plain=ocp.args.JsonRestore()
        )
        with _quiet_orbax():
            restored = handler.restore(epath.Path((self.folder / str(step)).absolute()), args=arguments)
        return TrainState(**restored.state), restored.plain

    def _put_aside(self, damaged: dict[int, str], whole: int) -> None:
        if not damaged:
            return

        def rename() -> None:
            for step, reason in damaged.items():
                folder = self.folder / str(step)
                aside = folder.with_name(folder.name + DAMAGED_SUFFIX)
                shutil.rmtree(aside, ignore_errors=True)
                with _as_output_error(self.folder):
                    folder.rename(aside)
                _log.warning(
                    "checkpoint %s is damaged (%s); put aside as %s, going on from step %s",
                    folder,
                    reason,
                    aside,
                    whole,
                )

        act_first(rename, lambda: None)
        self._manager.reload()

    def close(self) -> None:
        """Release orbax's threads."""
        self._manager.close()


def _hash_plain(plain: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(plain, sort_keys=True).encode())


def sum_bits(tree: Any) -> str:
    """Sum over the bits of all arrays, each mixed with its place: equal sums, equal arrays, however they are divided.

    >>> sum_bits([jnp.array([1.0, 2.0])]) == sum_bits([jnp.array([2.0, 1.0])])
    False
    """
    leaves = jax.tree.leaves(tree)
    on_host = all(leaf.is_fully_addressable and next(iter(leaf.devices())).platform == "cpu" for leaf in leaves)
    total = np.zeros(2, np.uint32)
    for number, leaf in enumerate(leaves):
        salt = np.uint32(number * 0x9E3779B1 & 0xFFFFFFFF)
        # Where the bytes are at hand, nothing need be compiled.
        total += _sum_host_bits(np.asarray(leaf), salt) if on_host else jax.device_get(_sum_device_bits(leaf, salt))
    return "".join(f"{part:08x}" for part in total.tolist())


def _sum_host_bits(array: np.ndarray, salt: np.uint32) -> np.ndarray:
    bits = np.ascontiguousarray(array).reshape(-1).view(_BITS[array.dtype.itemsize])
    total = np.zeros(2, np.uint32)
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK].astype(np.uint32)
        total += _mix(block, np.arange(start, start + block.size, dtype=np.uint32) + salt, np)
    return total


@jax.jit
def _sum_device_bits(leaf: Array, salt: Array) -> UInt32[Array, " 2"]:
    bits = lax.bitcast_convert_type(leaf, _BITS[leaf.dtype.itemsize]).astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
        place = place * jnp.uint32(size) + lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    mixed: Array = _mix(bits, place + salt, jnp)
    return mixed


_BITS: dict[int, Any] = {4: np.uint32, 2: np.uint16, 1: np.uint8}
_BLOCK = 1 << 20


def _mix(bits: Any, place: Any, numpy: Any) -> Any:
    """Spread every bit, and its place, over the 32 of a word (the last steps of MurmurHash3), and add the words up."""
    word = numpy.uint32
    bits = bits ^ (place * word(0x9E3779B1))
    bits = (bits ^ (bits >> word(16))) * word(0x85EBCA6B)
    bits = (bits ^ (bits >> word(13))) * word(0xC2B2AE35)
    bits = bits ^ (bits >> word(16))
    other = bits * (place | word(1))
    return numpy.stack([numpy.sum(bits, dtype=word), numpy.sum(other ^ (other >> word(15)), dtype=word)])


class _OrbaxTaskFilter(logging.Filter):
    """Drops asyncio's tracebacks of orbax's tasks: the error of the first that fails is raised, which is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what does not come out of orbax."""
        trace = record.exc_info[2] if record.exc_info else None
        return not any("orbax" in frame.filename for frame in traceback.extract_tb(trace))


_TASK_FILTER = _OrbaxTaskFilter()


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Keep orbax's reports (absl's log) off the terminal; its errors are raised as well."""
    # Stays: asyncio tells of a lost task when that is collected, much later. Adding it again changes nothing.
    logging.getLogger("asyncio").addFilter(_TASK_FILTER)
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _check_room(folder: Path, state: TrainState) -> None:
    """Refuse a checkpoint that will not fit before orbax's threads meet the full disk, each with its own traceback."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"it takes {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free")


@contextlib.contextmanager
def _as_output_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        # tensorstore reports a full disk as a ValueError, with the whole story of the file.
        signs = {"No space": "no space left on the device", "Permission": "permission denied"}
        reason = next((plain for sign, plain in signs.items() if sign in str(error)), None)
        if reason is None and isinstance(error, ValueError):
            raise
        raise OutputError(
            f"{folder}: a checkpoint could not be written ({reason or error}); make room and start the same command "
            "again: the run goes on from the checkpoint before"
        ) from error
