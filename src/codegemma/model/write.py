"""Writes a model folder of any format, whole or not at all, with its tokenizer and its lineage.

**In**: opened weights, or parameters in memory; the files that go with them; a lineage.
**Out**: the folder; an earlier model folder of that name is replaced.
**Not**: reading; and no model inside the folder that it replaces.
"""

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from codegemma.errors import InputError, OutputError
from codegemma.model.config import CONFIG_NAME, MODEL_TYPE, GemmaConfig
from codegemma.model.formats import peft
from codegemma.model.formats.folder import read_companions, read_json
from codegemma.model.formats.parts import Weights
from codegemma.model.formats.table import FORMATS, Writer, find_format, open_weights
from codegemma.model.lineage import LINEAGE_FILE, Lineage, read_lineage

# Folders in a model folder that orbax makes.
_ORBAX_FOLDERS = re.compile(r"d|ocdbt\..*|array_metadatas")
# Bits a weight, and of these the percentage that is sure to be needed: orbax and Flax compress.
_BITS = {"bf16": 16, "f16": 16, "f32": 32, "int8": 8, "int4": 4}
_LEAST_SHARE = {"orbax": 60, "flax": 60}


def convert(source: Path, target: Path, to: str, dtype: str | None = None, adapter: Path | None = None) -> Weights:
    """Write the model of `source` as another format, block by block; without `dtype` its values stay bit for bit.

    An adapter, `source` itself or `adapter` on the base `source`, is merged: without `dtype` into the base's type.

    Args:
        source: a model of any format.
        target: the folder to write; replaced if it holds a model.
        to: a name of `FORMATS`.
        dtype: bf16 or f32; f16 is read, and stays as it is, but is not rounded to: numbers could pass its range.
        adapter: a folder that `peft` or a training here wrote.

    Returns:
        what was opened, for its format, shape and type.

    Raises:
        InputError: the source cannot be used, or an unknown format or type.
        OutputError: the target cannot be written, or the source lies in it.
    """
    chosen_format = find_format(to)
    if dtype is not None and dtype not in chosen_format.dtypes:
        known = ", ".join(chosen_format.dtypes)
        others = " and ".join(name for name, other in FORMATS.items() if dtype in other.dtypes)
        elsewhere = f"; {others} can" if others else ""
        raise InputError(f"{dtype!r} is no type that weights are rounded to in {to}; known: {known}{elsewhere}")
    for read in (source, *([] if adapter is None else [adapter])):
        if target.absolute().resolve() in (read.absolute().resolve(), *read.absolute().resolve().parents):
            raise OutputError(f"{target} is the source or holds it, and would be replaced; name another folder")
    check_target(target)
    weights = open_weights(source) if adapter is None else peft.open_weights(adapter, open_weights, source)
    chosen = weights.dtype if dtype is None else chosen_format.dtypes[dtype]
    _check_space(target, weights, to, dtype)
    folders = _list_folders(source, adapter)
    companions = {**weights.companions, **read_companions(folders)}
    lineage = _trace(weights, folders).extend(
        "convert" if weights.format != "peft" else "merge",
        source_format=weights.format,
        source_dtype=str(weights.dtype),
        format=to,
        dtype=str(chosen),
    )
    files = {**companions, **lineage.spell()}
    write_model(target, replace(weights, companions=files), chosen_format.write, chosen, lineage, companions)
    return weights


def _list_folders(source: Path, adapter: Path | None) -> tuple[Path, ...]:
    """List where a model's companions are looked for: an adapter's folder, then that of its base."""
    if adapter is None and peft.recognize(source):
        source, adapter = peft.locate_base(source), source
    folder = source if source.is_dir() else source.parent
    # A tokenizer may lie beside the folder of the variant, a run's beside its checkpoints.
    return (*([] if adapter is None else [adapter]), folder, folder.parent, folder.parent.parent)


def _trace(weights: Weights, folders: tuple[Path, ...]) -> Lineage:
    """Read the lineage of an adapter, which begins with its base's; where it has none, the base's and its name."""
    inside = weights.companions.get(LINEAGE_FILE)
    if weights.format == "peft" and not (folders[0] / LINEAGE_FILE).is_file():
        return read_lineage(folders[1], weights.config, inside).extend("adapt", adapter=folders[0].absolute().name)
    return read_lineage(folders[0], weights.config, inside)


def write_model(
    folder: Path, weights: Weights, write: Writer, dtype: Any, lineage: Lineage, files: Mapping[str, bytes]
) -> None:
    """Write weights in a format, beside them the lineage and `files`: name to content.

    Raises:
        OutputError: no permission, no space, or the folder holds something that is not a model.
    """
    with _make_folder(folder) as partial:
        write(partial, weights, dtype)
        for name, content in {**files, **lineage.spell()}.items():
            (partial / name).write_bytes(content)


def write_adapter_model(
    folder: Path, config: GemmaConfig, adapter: peft.AdapterFile, lineage: Lineage, files: Mapping[str, bytes]
) -> None:
    """Write an adapter's folder, with what goes beside it; raises what `write_model` raises."""
    with _make_folder(folder) as partial:
        peft.write_adapter(partial, config, adapter)
        for name, content in {**files, **lineage.spell()}.items():
            (partial / name).write_bytes(content)


def check_target(folder: Path) -> None:
    """Make sure that a folder may become a model's: it is not there, is empty, or is one of this model's kind.

    Raises:
        OutputError: it holds something else, which would be lost.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    advice = "name another folder, or empty this one"
    if not folder.is_dir() or not (peft.recognize(folder) or _is_gemma(folder / CONFIG_NAME)):
        raise OutputError(f"{folder} exists and is not a model folder; {advice}")
    foreign = next((e.name for e in folder.iterdir() if e.is_dir() and not _ORBAX_FOLDERS.fullmatch(e.name)), None)
    if foreign is not None:
        raise OutputError(f"{folder} is a model folder that holds {foreign}/ too, which would be lost; {advice}")


def _is_gemma(config: Path) -> bool:
    try:
        return read_json(config).get("model_type") == MODEL_TYPE
    except InputError:
        return False


def _check_space(target: Path, weights: Weights, to: str, dtype: str | None) -> None:
    """Refuse what cannot fit on the disk, before anything is written."""
    bits = _BITS.get(dtype or "", 8 * weights.dtype.itemsize)
    needed = weights.config.count_parameters() * bits // 8 * _LEAST_SHARE.get(to, 100) // 100
    place = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OutputError(
            f"{target}: the model takes {needed / 1e9:,.1f} GB, and {place} has {free / 1e9:,.1f} GB free; "
            "free space or name a folder on another disk"
        )


@contextlib.contextmanager
def _make_folder(folder: Path) -> Iterator[Path]:
    """Lend an empty folder, which takes the place of `folder` when the block ends without an error."""
    check_target(folder)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    replaced = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    try:
        _clear_leftovers(folder)
        partial.mkdir(parents=True)
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{folder}: the model could not be written ({error}); free space or name another") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.exists():
            with contextlib.suppress(OSError):  # there was none, or the next writer brings it back
                replaced.rename(folder)
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left beside the folder; an earlier model that it had moved away comes back."""
    for path in folder.parent.glob(f".{glob.escape(folder.name)}.*-*"):
        kind, _, process = path.name.removeprefix(f".{folder.name}.").partition("-")
        if kind not in ("partial", "replaced") or not process.isdigit() or _is_running(int(process)):
            continue
        if kind == "replaced" and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
