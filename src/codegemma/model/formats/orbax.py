"""Our own orbax checkpoints: the stacks of `gemma.py` as they are, in one tree.

**In**: a folder that `convert --to orbax` wrote; a step of a run's checkpoints, or the run's folder.
**Out**: `Weights`; or such a folder, with `config.json` beside the arrays, which orbax restores as a dictionary.
**Not**: the optimizer's state, which is passed over.
"""

from pathlib import Path
from typing import Any

import numpy as np

from codegemma.errors import InputError
from codegemma.model.config import CONFIG_NAME, GemmaConfig
from codegemma.model.formats.folder import read_config, read_json, write_config
from codegemma.model.formats.parts import (
    Part,
    Weights,
    check_shape,
    list_parts,
    refuse_extra,
    shape_part,
    widen,
)
from codegemma.model.formats.stores import (
    Arrays,
    create_array,
    is_checkpoint,
    open_arrays,
    write_metadata,
    write_rows,
)

_RUN_NAME = "run.json"
_CHECKPOINTS_NAME = "checkpoints"
_STATE_NAME = "state"
_PREFIX = "params."


def recognize(place: Path) -> bool:
    """Tell whether orbax wrote a folder, or it is a run or one of its steps; what is in it is not looked at."""
    return place.is_dir() and (is_checkpoint(_find_arrays(place)) or bool(_list_steps(place)))


def open_weights(place: Path) -> Weights:
    """Open a checkpoint; every array's name, shape and type is checked, none is read.

    Raises:
        InputError: damaged; an array is missing or of another shape; no word of the model's shape.
    """
    steps = _list_steps(place)
    folder = _find_arrays(steps[-1] if steps else place)
    arrays = _choose_params(open_arrays(folder))
    config = _find_config(place, folder)
    for name, shape in config.shape_params().items():
        if name not in arrays:
            raise InputError(f"{folder} lacks the array {name}; wanted {list(shape)}; copy the checkpoint again")
        check_shape(arrays.shape(name), shape, f"{folder}: {name}")
    refuse_extra(set(arrays.names) - config.shape_params().keys(), str(folder))
    dtype = widen({arrays.dtype(name) for name in config.shape_params()})

    def read(part: Part, rows: slice) -> np.ndarray:
        return arrays.read(part.name, part.at, rows)

    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    return Weights(place, "orbax", config, dtype, read, files)


def write_weights(folder: Path, weights: Weights, dtype: np.dtype[Any]) -> None:
    """Write the arrays and `config.json` into an empty folder."""
    shapes = weights.config.shape_params()
    stores = {}
    for part in list_parts(weights.config):
        shape = shape_part(weights.config, part)
        if part.name not in stores:
            stack = shapes[part.name][: len(part.at)]
            stores[part.name] = create_array(folder, part.name, stack, shape, dtype)
        for start, block in weights.read_blocks(part):
            write_rows(stores[part.name], part.at, start, block, dtype)
    write_metadata(folder, [(name,) for name in shapes])
    write_config(folder, weights.config, str(dtype))


def _find_arrays(place: Path) -> Path:
    """A step of a run keeps its state in a folder of its own."""
    return place / _STATE_NAME if is_checkpoint(place / _STATE_NAME) else place


def _list_steps(place: Path) -> list[Path]:
    """List the whole checkpoints of a run, the newest last."""
    folder = place / _CHECKPOINTS_NAME if (place / _CHECKPOINTS_NAME).is_dir() else place
    steps = [entry for entry in folder.iterdir() if entry.name.isdigit() and is_checkpoint(entry / _STATE_NAME)]
    return sorted(steps, key=lambda step: int(step.name))


def _choose_params(arrays: Arrays) -> Arrays:
    """Leave out the rest of a train state, if it is one."""
    names = {name: name.removeprefix(_PREFIX) for name in arrays.names if name.startswith(_PREFIX)}
    return arrays.rename(names) if names else arrays


def _find_config(place: Path, folder: Path) -> GemmaConfig:
    """Read the shape beside the arrays, or from the `run.json` of the run that they are of."""
    for parent in (place, folder):
        if (config := read_config(parent)) is not None:
            return config
    for parent in (place, *folder.parents[:3]):
        if (parent / _RUN_NAME).is_file():
            model = read_json(parent / _RUN_NAME).get("identity", {}).get("model")
            try:
                return GemmaConfig(**model)
            except TypeError as error:
                raise InputError(
                    f"{parent / _RUN_NAME} does not tell the model's shape ({error}); copy the run again"
                ) from error
    raise InputError(f"{place} has no {CONFIG_NAME} and lies in no run; copy it from where the weights are")
