"""Puts a newer model in the place of an older one, so that at no moment there is none.

**In**: a whole model folder, whose weights are one file.
**Out**: its files under another folder's name, each replaced whole.
**Not**: a model of another shape or tokenizer than the one in that place: between two files the folder would be a mix.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from codegemma.errors import OutputError


def publish_model(source: Path, target: Path, last: str) -> None:
    """Make `target` the model of `source`, file by file, the file `last` last; do nothing where that is there already.

    Files are linked where the disk can.

    Raises:
        OutputError: no permission or no space.
    """
    if _is_same(source / last, target / last):
        return
    names = sorted((file.name for file in source.iterdir() if file.is_file()), key=lambda name: (name == last, name))
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        if target.is_dir():
            _replace_files(source, target, names)
        else:
            partial.mkdir(parents=True)
            _replace_files(source, partial, names)
            partial.rename(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{target}: cannot be written ({reason}); the model lies in {source}, the same command goes on"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_same(left: Path, right: Path) -> bool:
    try:
        return left.read_bytes() == right.read_bytes()
    except FileNotFoundError:
        return False


def _replace_files(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        temporary = target / f".{name}.{os.getpid()}.tmp"
        try:
            try:
                temporary.hardlink_to(source / name)
            except OSError:
                shutil.copyfile(source / name, temporary)
            temporary.replace(target / name)
        finally:
            # A link onto itself is not renamed away.
            with contextlib.suppress(OSError):
                temporary.unlink()
