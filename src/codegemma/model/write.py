"""Writes a model folder of any format, whole or not at all, with its tokenizer and its lineage.

**In**: opened weights, or parameters in memory; the files that go with them; a lineage.
**Out**: the folder; an earlier model folder of that name is replaced.
**Not**: reading; and no model inside the folder that it replaces.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from codegemma.errors import InputError, OutputError
from codegemma.model.config import CONFIG_NAME
from codegemma.model.formats.folder import read_companions
from codegemma.model.formats.parts import Weights
from codegemma.model.formats.table import Writer, find_format, open_weights
from codegemma.model.lineage import LINEAGE_FILE, Lineage, read_lineage


def convert(source: Path, target: Path, to: str, dtype: str | None = None) -> Weights:
    """Write the model of `source` as another format, block by block; without `dtype` its values stay bit for bit.

    Args:
        source: a model of any format.
        target: the folder to write; replaced if it holds a model.
        to: a name of `FORMATS`.
        dtype: bf16 or f32; f16 is read, and stays as it is, but is not rounded to: numbers could pass its range.

    Returns:
        what was opened, for its format, shape and type.

    Raises:
        InputError: the source cannot be used, or an unknown format or type.
        OutputError: the target cannot be written, or the source lies in it.
    """
    chosen_format = find_format(to)
    if dtype is not None and dtype not in chosen_format.dtypes:
        known = ", ".join(chosen_format.dtypes)
        raise InputError(f"{dtype!r} is no type that weights are rounded to in {to}; known: {known}")
    if target.absolute().resolve() in (source.absolute().resolve(), *source.absolute().resolve().parents):
        raise OutputError(f"{target} is the source or holds it, and would be replaced; name another folder")
    weights = open_weights(source)
    chosen = weights.dtype if dtype is None else chosen_format.dtypes[dtype]
    # A tokenizer may lie beside the folder of the variant, a run's beside its checkpoints.
    folder = source if source.is_dir() else source.parent
    companions = {**weights.companions, **read_companions((folder, folder.parent, folder.parent.parent))}
    lineage = read_lineage(folder, weights.config, weights.companions.get(LINEAGE_FILE)).extend(
        "convert", source_format=weights.format, source_dtype=str(weights.dtype), format=to, dtype=str(chosen)
    )
    files = {**companions, **lineage.spell()}
    write_model(target, replace(weights, companions=files), chosen_format.write, chosen, lineage, companions)
    return weights


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


@contextlib.contextmanager
def _make_folder(folder: Path) -> Iterator[Path]:
    """Lend an empty folder, which takes the place of `folder` when the block ends without an error."""
    if folder.exists() and not (folder / CONFIG_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not a model folder; name another or empty it")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    replaced = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    try:
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
        shutil.rmtree(replaced, ignore_errors=True)
