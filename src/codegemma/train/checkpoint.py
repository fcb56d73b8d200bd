"""Checkpoints of a run: the train state, the loader's position and the meters, together or not at all.

**In**: a `TrainState`, and plain data that JSON can hold.
**Out**: the newest whole checkpoint, bit for bit what was saved.
**Not**: the finished model (`model/weights.py`). A checkpoint that a kill left half-written is not seen, and removed
when the folder is opened again (orbax writes under a temporary name and renames).
"""

import contextlib
import logging
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from codegemma.errors import InputError, OutputError
from codegemma.train.step import TrainState


class Checkpoints:
    """The checkpoints of one run, the newest few kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Open the folder; what a killed run left half-written is removed."""
        self.folder = folder
        # Saved before the next step starts: the step reuses the state's memory.
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False, create=True)
        with _quiet_orbax(), _as_output_error(folder):
            # Orbax's own cleaning overlooks a folder that a kill left empty.
            for half_written in folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(half_written)
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def latest_step(self) -> int | None:
        """Tell the step of the newest whole checkpoint."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, step: int, state: TrainState, plain: dict[str, Any]) -> None:
        """Save, and return when the checkpoint counts; a step that is saved already stays as it is.

        Raises:
            OutputError: no permission or no space; earlier checkpoints are still whole.
        """
        if step == self.latest_step:
            return
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()), plain=ocp.args.JsonSave(plain))
        with _quiet_orbax(), _as_output_error(self.folder):
            _check_room(self.folder, state)
            self._manager.save(step, args=arguments, force=True)
            self._manager.wait_until_finished()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Read the newest whole checkpoint into a state shaped `like`; `None` if there is none.

        Raises:
            InputError: it was whole once and cannot be read now.
        """
        step = self.latest_step
        if step is None:
            return None
        abstract = jax.tree.map(ocp.tree.to_shape_dtype_struct, like._asdict())
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), plain=ocp.args.JsonRestore())
        try:
            with _quiet_orbax():
                restored = self._manager.restore(step, args=arguments)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise InputError(
                f"checkpoint {self.folder / str(step)} cannot be read ({reason}); "
                "remove that folder to go on from the one before it, or start anew in another --out"
            ) from error
        return TrainState(**restored.state), restored.plain

    def close(self) -> None:
        """Release orbax's threads."""
        self._manager.close()


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
