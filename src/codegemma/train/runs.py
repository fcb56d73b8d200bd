"""Runs as they lie in folders: found, told in a line each, and compared by what was chosen differently.

**In**: folders; every folder below them that holds a run's `run.json`.
**Out**: `Run`s, with their state and course; the choices in which they differ.
**Not**: parameters, and anything that a run did not write: nothing here loads JAX, and nothing is changed.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from codegemma.errors import InputError
from codegemma.folders import LOCK_FILE
from codegemma.train.manifest import MODEL_FOLDER, RUN_FILE, RunManifest, read_manifest
from codegemma.train.meters import read_metrics

METRICS_FILE = "metrics.jsonl"
# Folders in which no run lies, and which can be large.
_SKIPPED = frozenset({"checkpoints", "tensorboard", "data", "other", "wandb", MODEL_FOLDER})
_ABSENT = "–"


class RunState(StrEnum):
    """What a run is doing: its model is whole, a process works on it, it was cut off, or it has no step yet."""

    FINISHED = "finished"
    RUNNING = "running"
    STOPPED = "stopped"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder, read. `result` is what its model's manifest says of the ending; `None` before it."""

    name: str
    folder: Path
    state: RunState
    manifest: RunManifest
    lines: tuple[dict[str, Any], ...]
    result: dict[str, Any] | None

    @property
    def step(self) -> int:
        """The last step that was told of."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    @property
    def choices(self) -> dict[str, Any]:
        """What decides the run's result, by dotted name."""
        return dict(_flatten(self.manifest.identity))

    def find_last(self, name: str) -> float | None:
        """Give the last value of a figure, `None` where no line has it."""
        return next((float(line[name]) for line in reversed(self.lines) if line.get(name) is not None), None)

    def describe(self) -> dict[str, Any]:
        """Spell what matters most as plain data."""
        figures = {name: self.find_last(name) for name in ("loss", "tokens_per_s", "mfu", "tokens", "seconds")}
        return {
            "name": self.name, "folder": str(self.folder), "state": self.state.value, "step": self.step,
            "total_steps": self.manifest.total_steps, "recipe": self.manifest.recipe.get("name"),
            "device": self.manifest.device, "fingerprint": self.manifest.fingerprint, **figures,
        }  # fmt: skip


def find_runs(folders: Sequence[Path], on_unread: Callable[[str], None]) -> list[Run]:
    """Find the runs in and below folders, in the order of their names.

    A run that cannot be read, one of another version for instance, is told to `on_unread` and left out.

    Raises:
        InputError: a folder is not there, or none holds a run that can be read.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; wanted one that holds runs of `codegemma train` or `adapt`")
        found |= {place.resolve(): place for place in _walk(folder) if place.resolve() not in found}
    if not found:
        raise InputError(f"no run in {', '.join(map(str, folders))}: no folder there holds a {RUN_FILE}")
    runs, unread = [], []
    places = list(found.values())
    for place, name in zip(places, _name(places), strict=True):
        try:
            runs.append(_read_run(place, name))
        except InputError as error:
            unread.append(str(error))
    if not runs:
        raise InputError(unread[0])
    for reason in unread:
        on_unread(reason)
    return runs


def list_differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """List the choices in which runs differ, by dotted name; a choice that a run does not have is a dash.

    What follows from other choices, hashes of files among them, is listed as well: it decides the result.
    """
    choices = [run.choices for run in runs]
    names = sorted({name for chosen in choices for name in chosen})
    told = {name: [chosen.get(name, _ABSENT) for chosen in choices] for name in names}
    return {name: values for name, values in told.items() if any(value != values[0] for value in values)}


def _walk(folder: Path) -> Iterator[Path]:
    """Walk to the folders of runs; a model's folder has a copy of the manifest and is none."""
    for parent, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if name not in _SKIPPED and not name.startswith("."))
        if RUN_FILE in files and Path(parent).name != MODEL_FOLDER:
            yield Path(parent)


def _read_run(folder: Path, name: str) -> Run:
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder / RUN_FILE} went away while it was read; list the runs again")
    lines = tuple(read_metrics(folder / METRICS_FILE))
    result = _read_result(folder, manifest)
    return Run(name, folder, _tell_state(folder, lines, result), manifest, lines, result)


def _read_result(folder: Path, manifest: RunManifest) -> dict[str, Any] | None:
    try:
        about = json.loads((folder / MODEL_FOLDER / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    result = about.get("result") if isinstance(about, dict) else None
    return result if isinstance(result, dict) and about.get("fingerprint") == manifest.fingerprint else None


def _tell_state(folder: Path, lines: Sequence[Any], result: Mapping[str, Any] | None) -> RunState:
    if result is not None:
        return RunState.FINISHED
    if _is_held(folder):
        return RunState.RUNNING
    return RunState.STOPPED if lines or (folder / "checkpoints").is_dir() else RunState.PLANNED


def _is_held(folder: Path) -> bool:
    """Tell whether a process of this machine works in a folder, or in a job's folder around it."""
    for place in (folder, *folder.resolve().parents[:2]):
        try:
            with (place / LOCK_FILE).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
    return False


def _name(folders: Sequence[Path]) -> list[str]:
    """Name runs by what tells their folders apart.

    >>> _name([Path("runs/a/rounds/0"), Path("runs/b/rounds/0")])
    ['a/rounds/0', 'b/rounds/0']
    >>> _name([Path("runs/a")])
    ['a']
    """
    whole = [folder.resolve() for folder in folders]
    if len(whole) == 1:
        return [whole[0].name]
    common = Path(os.path.commonpath(whole))
    return [place.relative_to(common).as_posix() if place != common else place.name for place in whole]


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
