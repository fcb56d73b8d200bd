"""Task functions for the tests of runners; a module of its own, because every engine imports them by name."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from codegemma.errors import InputError
from codegemma.recipe import fingerprint
from codegemma.records import SourceFile
from codegemma.shards import read_records, write_records
from codegemma.steps import is_whole


@dataclass(frozen=True, slots=True)
class Shout:
    """Write a shard's texts in capitals. `fault` is what goes wrong."""

    source: str
    out: str
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Shouted:
    file: str
    records: int
    chars_by_language: dict[str, int]


def shout(task: Shout) -> Shouted:
    if task.fault == "input":
        raise InputError(f"{task.source}: damaged; build it again")
    if task.fault == "bug":
        raise ZeroDivisionError("a bug")
    if task.fault == "death":
        os._exit(9)
    if task.fault == "slow":
        time.sleep(0.2)
    name = fingerprint("shout 1", Path(task.source).name)
    output = Path(task.out) / f"{name}.parquet"
    if not is_whole(output):
        _shout(Path(task.source), output)
    loud = list(read_records(output, SourceFile))
    return Shouted(output.name, len(loud), {"python": sum(len(file.text) for file in loud)})


def _shout(source: Path, output: Path) -> None:
    with (output.parent / "ran.log").open("a") as log:
        log.write(f"{source.name}\n")
    files = list(read_records(source, SourceFile))
    loud = [SourceFile(f.repo, f.path, f.language, f.text.upper(), f.blob) for f in files]
    write_records(output, loud, SourceFile)


def sleepless(task: Shout):
    """Not annotated: no engine can know what to make of the answer."""


def write_sources(folder: Path, shards: int = 6) -> list[Path]:
    paths = [folder / f"source-{number}.parquet" for number in range(shards)]
    for number, path in enumerate(paths):
        files = [SourceFile("r", f"{i}.py", "python", f"ß = {i}\r\n" * (i + number), "0" * 40) for i in range(5)]
        write_records(path, files, SourceFile)
    return paths


def read_outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "ran.log"}
