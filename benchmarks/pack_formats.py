"""Packs in Parquet and in ArrayRecord: bytes on disk, and CPU time to write and to read them all.

    python benchmarks/pack_formats.py [PACKAGE_FOLDER ...]      default: four packages of the standard library

The peer of our ArrayRecord, one JSON object a record, is the same records as Arrow IPC streams in ArrayRecord. Medians
of five runs, in the same process.
"""

import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from codegemma import array_records
from codegemma.build import build_data
from codegemma.layout import from_row, lay_out, make_schema, to_row
from codegemma.recipes import load_recipe
from codegemma.records import Pack
from codegemma.shards import read_records, write_records

RUNS = 5
PACKAGES = ("asyncio", "email", "unittest", "http")


def main(packages: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_data(packages, folder / "data", load_recipe("tiny"))
        packs = list(read_records(folder / "data/packs-train.parquet", Pack))
        text_mb = sum(len(file.text.encode()) for pack in packs for file in pack.files) / 1e6
        print(f"{len(packs)} packs, {text_mb:.2f} MB of text\n")
        print(f"{'format':24}{'MB':>8}{'write, ms/MB':>16}{'read, ms/MB':>16}")
        for form in ("parquet", "arrayrecord"):
            file = folder / f"packs.{form}"
            write_ms = measure(lambda file=file: write_records(file, packs))  # type: ignore[misc]
            read_ms = measure(lambda file=file: list(read_records(file, Pack)))  # type: ignore[misc]
            show(form, file, write_ms / text_mb, read_ms / text_mb)
        file = folder / "ipc.arrayrecord"
        write_ms = measure(lambda: array_records.write_blobs(file, map(to_ipc, packs)))
        read_ms = measure(lambda: list(map(from_ipc, array_records.read_blobs(file))))
        show("arrayrecord, Arrow IPC", file, write_ms / text_mb, read_ms / text_mb)


def to_ipc(pack: Pack) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, make_schema(Pack)) as writer:
        writer.write_table(pa.Table.from_pylist([to_row(pack, lay_out(Pack))], schema=make_schema(Pack)))
    return bytes(sink.getvalue())


def from_ipc(blob: bytes) -> Pack:
    return from_row(pa.ipc.open_stream(blob).read_all().to_pylist()[0], Pack, lay_out(Pack))


def measure(act: Callable[[], Any]) -> float:
    times_ms = []
    for _ in range(RUNS):
        started_s = time.process_time()
        act()
        times_ms.append(1e3 * (time.process_time() - started_s))
    return statistics.median(times_ms)


def show(name: str, file: Path, write_ms: float, read_ms: float) -> None:
    print(f"{name:24}{file.stat().st_size / 1e6:8.2f}{write_ms:16.1f}{read_ms:16.1f}")


if __name__ == "__main__":
    standard = Path(sysconfig.get_path("stdlib"))
    main([Path(name) for name in sys.argv[1:]] or [standard / name for name in PACKAGES])
