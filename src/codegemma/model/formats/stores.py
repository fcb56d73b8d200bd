"""Arrays of an orbax checkpoint, read and written slice by slice through TensorStore, without JAX.

**In**: a folder as orbax writes it: zarr arrays in one OCDBT store, or in folders of their own.
**Out**: the arrays by name; or a folder that orbax restores.
**Not**: which arrays a model has (`orbax.py`, `flax.py`), and no optimizer or other Python objects.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.errors import InputError, MissingExtraError
from codegemma.model.formats.parts import BLOCK_BYTES, DTYPES, check_dtype, count_rows

METADATA_NAME = "_METADATA"
_OCDBT_NAME = "manifest.ocdbt"
# zarr's own file of an array -> TensorStore's driver.
_DRIVERS = {".zarray": "zarr", "zarr.json": "zarr3"}
_SPELLINGS = {DTYPES["bf16"]: "bfloat16", DTYPES["f16"]: "<f2", DTYPES["f32"]: "<f4"}
_DICT_KEY = 2  # orbax's number for a key of a dictionary
# Whoever writes a folder syncs it once, at the end.
_UNSYNCED = {"file_io_sync": False}
# A slice is read alone where chunks are no larger than this: each is read once more for every slice that touches it.
_MAX_CHUNK_BYTES = 4 * BLOCK_BYTES
Store = Any  # tensorstore.TensorStore, which is imported late: only these formats need it


def is_checkpoint(folder: Path) -> bool:
    """Tell whether orbax wrote a folder."""
    return (folder / METADATA_NAME).is_file() or (folder / _OCDBT_NAME).is_file()


class Arrays:
    """The arrays of a checkpoint by name, whose parts are joined by dots."""

    def __init__(self, folder: Path, stores: dict[str, Store]) -> None:
        """Hold opened stores; nothing is read."""
        self.folder = folder
        self._stores = stores
        self._kept: tuple[str, np.ndarray] | None = None

    def __contains__(self, name: object) -> bool:
        """Tell whether there is an array of that name."""
        return name in self._stores

    @property
    def names(self) -> list[str]:
        """List the names."""
        return list(self._stores)

    def rename(self, names: Mapping[str, str]) -> "Arrays":
        """Choose some arrays by other names: theirs to ours."""
        return Arrays(self.folder, {ours: self._stores[theirs] for theirs, ours in names.items()})

    def shape(self, name: str) -> tuple[int, ...]:
        """Tell an array's shape."""
        return tuple(self._stores[name].shape)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Tell an array's type; raises what `check_dtype` raises."""
        return check_dtype(self._stores[name].dtype.numpy_dtype, f"{self.folder}: {name}")

    def read(self, name: str, index: tuple[int, ...] = (), rows: slice = slice(None)) -> np.ndarray:
        """Read some rows at an index.

        Where the chunks are larger than that, the whole array is read, and kept until another one is asked for.

        Raises:
            InputError: a chunk is missing or damaged.
        """
        if self._kept is not None and self._kept[0] == name:
            kept: np.ndarray = self._kept[1][index][rows]
            return kept
        self._kept = None
        store = self._stores[name]
        wanted = (store[index] if index else store)[rows]
        is_small = math.prod(store.chunk_layout.read_chunk.shape) * self.dtype(name).itemsize <= _MAX_CHUNK_BYTES
        try:
            array: np.ndarray = (wanted if is_small else store).read().result()
        except (ValueError, OSError) as error:
            raise InputError(
                f"{self.folder}: {name} cannot be read ({_shorten(error)}); copy the checkpoint again"
            ) from error
        if is_small:
            return array
        self._kept = name, array
        part: np.ndarray = array[index][rows]
        return part


def open_arrays(folder: Path) -> Arrays:
    """Open every array of a checkpoint.

    Raises:
        InputError: damaged, or cut off.
        MissingExtraError: TensorStore is not installed.
    """
    tensorstore = _import_tensorstore()
    try:
        keys = [key.decode() for key in tensorstore.KvStore.open(_spell_store(folder)).result().list().result()]
        opening = {}
        for key in keys:
            name, _, file = key.rpartition("/")
            if name and file in _DRIVERS:
                spec = {"driver": _DRIVERS[file], "kvstore": _spell_store(folder, f"{name}/")}
                opening[name] = tensorstore.open(spec, open=True, read=True)
        return Arrays(folder, {name: opened.result() for name, opened in opening.items()})
    except (ValueError, OSError, KeyError) as error:
        raise InputError(
            f"{folder} cannot be read as an orbax checkpoint ({_shorten(error)}); copy it again"
        ) from error


def create_array(
    folder: Path, name: str, stack: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Store:
    """Create an array of `stack` parts, each of a shape; a chunk is some rows of one part."""
    tensorstore = _import_tensorstore()
    rows = min(count_rows(shape, dtype), shape[0])
    metadata = {
        "shape": [*stack, *shape],
        "chunks": [*(1 for _ in stack), rows, *shape[1:]],
        "dtype": _SPELLINGS[dtype],
        "compressor": {"id": "zstd", "level": 1},
    }
    spec = {"driver": "zarr", "kvstore": _spell_store(folder, f"{name}/"), "metadata": metadata}
    try:
        return tensorstore.open(spec, create=True).result()
    except ValueError as error:
        raise OSError(_shorten(error)) from error


def write_rows(store: Store, index: tuple[int, ...], start: int, rows: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Write rows of one part, some chunks at a time.

    Raises:
        OSError: no permission, no space.
    """
    part = store[index] if index else store
    step = store.chunk_layout.write_chunk.shape[len(index)]
    first = 0
    while first < len(rows):
        # Up to the next chunk's border: half a chunk written twice would be stored twice.
        last = min(len(rows), first + step - (start + first) % step)
        block = np.ascontiguousarray(rows[first:last]).astype(dtype)
        try:
            part[start + first : start + last].write(block).result()
        except ValueError as error:  # TensorStore's word for a full disk, too
            raise OSError(_shorten(error)) from error
        first = last


def write_metadata(folder: Path, keys: Iterable[tuple[str, ...]]) -> None:
    """Write what orbax wants to know of a tree of dictionaries: where each array hangs."""
    tree = {
        str(key): {
            "key_metadata": [{"key": name, "key_type": _DICT_KEY} for name in key],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        for key in keys
    }
    about = {"tree_metadata": tree, "use_ocdbt": True, "use_zarr3": False, "store_array_data_equal_to_fill_value": True}
    handler = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"
    (folder / METADATA_NAME).write_text(json.dumps(about), encoding="utf-8")
    (folder / "_CHECKPOINT_METADATA").write_text(json.dumps({"item_handlers": handler}), encoding="utf-8")


def _spell_store(folder: Path, path: str = "") -> dict[str, Any]:
    base = f"{folder.absolute()}/"
    # A folder that is being made becomes OCDBT, as orbax's own.
    if (folder / _OCDBT_NAME).is_file() or not is_checkpoint(folder):
        return {"driver": "ocdbt", "base": {"driver": "file", "path": base} | _UNSYNCED, "path": path}
    return {"driver": "file", "path": base + path}


def _shorten(error: Exception) -> str:
    """Take the first line: TensorStore tells the whole story of a file."""
    return str(error).partition("\n")[0][:200]


def _import_tensorstore() -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise MissingExtraError("orbax and Flax checkpoints need TensorStore; install codegemma[jax]") from error
    return tensorstore
