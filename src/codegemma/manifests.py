"""A build's manifest: its report as JSON, which stands for the files of records beside it being whole.

**In**: a report that tells the size of every such file.
**Out**: `corpus.json`, `packs.json`: written last, whole or not at all; read back only where the files are those.
**Not**: what a report tells besides; each reach has its own `report.py`.
"""

import json
from pathlib import Path
from typing import Protocol, TypeVar

from codegemma.errors import InputError
from codegemma.files import write_whole
from codegemma.places import get_bytes, size_bytes
from codegemma.recipe import from_plain, to_plain


class Manifest(Protocol):
    """A dataclass that tells a build, and the size of every Parquet file that the build wrote beside it."""

    @property
    def parquet_bytes(self) -> dict[str, int]:
        """File names and sizes."""
        ...


M = TypeVar("M", bound=Manifest)


def write_build_manifest(file: Path, report: Manifest) -> None:
    """Write a build's report as JSON, whole or not at all; written last, it says that the files beside it are whole.

    Raises:
        OutputError: no permission or no space.
    """
    write_whole(file, json.dumps(to_plain(report), indent=2).encode())


def read_build_manifest(file: Path, kind: type[M]) -> M | None:
    """Read the report of an earlier build, or `None` where there is none or a file of records is not the one it tells.

    Raises:
        InputError: a store that does not answer: nobody knows what is there.
    """
    try:
        report = parse_build_manifest(get_bytes(file), kind)
        is_whole = report is not None and all(
            size_bytes(file.parent / name) == size for name, size in report.parquet_bytes.items()
        )
    except OSError:
        return None
    return report if is_whole else None


def parse_build_manifest(data: bytes, kind: type[M]) -> M | None:
    """Read a report from a manifest's bytes, `is_reused` set; `None` where they are not of this version."""
    try:
        report: M = from_plain(kind, json.loads(data.decode()) | {"is_reused": True})
        return report
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def narrow_build_manifest(file: Path) -> None:
    """Let a manifest, whose folder is a copy of some files of a build, vouch for those that are there alone.

    Raises:
        InputError: the manifest cannot be read.
        OutputError: it cannot be written.
    """
    try:
        plain = json.loads(file.read_bytes())
        sizes = plain.get("parquet_bytes", {})
        there = {name: size for name, size in sizes.items() if (file.parent / name).exists()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); build again") from error
    if there != sizes:
        write_whole(file, json.dumps({**plain, "parquet_bytes": there}, indent=2).encode())
