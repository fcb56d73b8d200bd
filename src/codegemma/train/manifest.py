"""`run.json`: what a run is, fixed when it starts, so that it can only go on as the same run.

**In**: the choices, and hashes of data, tokenizer and base.
**Out**: `RunManifest`, written whole or not at all; a refusal that names what changed.
**Not**: progress, which is in the checkpoints.
"""

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma import __version__
from codegemma.errors import InputError, OutputError, UserError
from codegemma.files import write_whole
from codegemma.recipe import fingerprint, to_plain
from codegemma.train.choices import TrainChoices

RUN_FILE = "run.json"
# Where, beside it, a run puts its model.
MODEL_FOLDER = "model"
# Where a job that follows a repository keeps its runs, in folders that are numbers.
ROUNDS_FOLDER = "rounds"
# Choices that change no parameter, or only how sums round, or what becomes of a step that went wrong: a run may go on
# with other values.
_FREE_CHOICES = frozenset(
    {"save_every_steps", "save_every_s", "log_every_steps", "sample_every_steps", "keep_checkpoints",
     "wandb_project", "allow_thread_change", "save_dtype", "mesh", "on_divergence", "max_loss_ratio", "max_norm_ratio",
     "max_bad_steps"}
)  # fmt: skip


# NFS keeps the attributes of a folder for up to a minute.
_SETTLE_S = 60.0


class ThreadChangeError(UserError):
    """The run was started with another number of threads, or other XLA flags: sums would round differently."""


@dataclass(frozen=True, slots=True)
class RunManifest:
    """`identity` is what decides the result, `threads`, `xla_flags` and `devices` how its sums round."""

    identity: dict[str, Any]
    total_steps: int
    seconds_per_step: float | None
    threads: int
    xla_flags: str
    device: str
    jax_version: str
    infill_modes: tuple[str, ...]
    recipe: dict[str, Any] = field(default_factory=dict)
    codegemma_version: str = __version__
    devices: int = 1

    @property
    def fingerprint(self) -> str:
        """Hash what decides the result: equal runs have equal fingerprints."""
        return fingerprint(self.identity)


def count_threads() -> int:
    """Count the threads that XLA computes with: the processors this process may use, or NPROC where it is set."""
    if os.environ.get("NPROC", "").isdigit():
        return int(os.environ["NPROC"])
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def describe_identity(train: TrainChoices, minutes: float | None, **parts: Any) -> dict[str, Any]:
    """Gather what decides the result as plain data.

    >>> identity = describe_identity(TrainChoices(steps=5), None, data="8d3f")
    >>> identity["data"], identity["train"]["steps"], "log_every_steps" in identity["train"]
    ('8d3f', 5, False)
    """
    left_out = _FREE_CHOICES | ({"lora"} if train.lora.rank is None else set())
    chosen = {name: value for name, value in to_plain(train).items() if name not in left_out}
    return {"train": chosen, "minutes": minutes, **to_plain(parts)}


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Write `run.json`, whole or not at all."""
    write_whole(folder / RUN_FILE, format_manifest(manifest).encode())


def format_manifest(manifest: RunManifest) -> str:
    """Spell a manifest as JSON text."""
    plain = to_plain(manifest) | {"fingerprint": manifest.fingerprint}
    return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def find_rounds(folder: Path) -> dict[int, Path]:
    """Find the runs that have begun in the rounds of a job's folder, by their numbers, in order."""
    rounds = folder / ROUNDS_FOLDER
    numbers = sorted(int(entry.name) for entry in rounds.iterdir() if entry.name.isdigit()) if rounds.is_dir() else []
    return {number: rounds / str(number) for number in numbers if (rounds / str(number) / RUN_FILE).is_file()}


def read_manifest(folder: Path) -> RunManifest | None:
    """Read the manifest of the run in a folder; `None` where no run has started."""
    path = folder / RUN_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        plain["infill_modes"] = tuple(plain["infill_modes"])
        names = (f.name for f in dataclasses.fields(RunManifest))
        return RunManifest(**{name: plain[name] for name in names if name in plain})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no run of this version ({error!r}); read it with its own version, or choose another folder"
        ) from error


def await_manifest(folder: Path) -> RunManifest:
    """Read the manifest that the leader of several processes wrote; file systems over a network show it late.

    Raises:
        InputError: it does not come, for this process sees another folder.
    """
    import jax

    deadline = time.monotonic() + _SETTLE_S
    while (manifest := read_manifest(folder)) is None:
        if time.monotonic() > deadline:
            raise InputError(
                f"process {jax.process_index()} does not see {folder / RUN_FILE}, which process 0 wrote: --out of "
                "several processes must lie on a file system that they share"
            )
        time.sleep(0.1)
    return manifest


def check_same_choices(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a folder by other choices than its own.

    Raises:
        OutputError: something differs; the message lists it.
    """
    changes = _list_changes(before, now)
    if changes:
        raise OutputError(
            f"{folder} holds a run with other choices: {'; '.join(changes)}. "
            "Go on with its own, or choose another --out"
        )


def check_same_run(
    folder: Path, manifest: RunManifest, identity: Mapping[str, Any], train: TrainChoices, devices: int = 1
) -> None:
    """Refuse to go on with a run as if it were another.

    On one device, the promise is the result of an uninterrupted run bit for bit, and what would break it is refused.
    Over several devices it is the same batches and the same curve: a run may go on on others.

    Raises:
        OutputError: choices, data, tokenizer or base differ; the message lists them.
        ThreadChangeError: another number of threads, or other XLA flags, unless the choices allow it.
    """
    check_same_choices(folder, manifest.identity, identity)
    here = (count_threads(), os.environ.get("XLA_FLAGS", ""))
    is_single = max(devices, manifest.devices) == 1
    if is_single and here != (manifest.threads, manifest.xla_flags) and not train.allow_thread_change:
        raise ThreadChangeError(
            f"the run in {folder} was started with {_describe_threads(manifest.threads, manifest.xla_flags)}, "
            f"here are {_describe_threads(*here)}: sums would round differently and the result would not be that of "
            "an uninterrupted run. Give the process as many processors as before, or accept the difference with "
            "--set train.allow_thread_change=true"
        )


def _describe_threads(threads: int, xla_flags: str) -> str:
    return f"{threads} thread{'s' * (threads != 1)}" + (f" and XLA_FLAGS={xla_flags!r}" if xla_flags else "")


def _list_changes(before: Any, now: Any, name: str = "") -> list[str]:
    """List what differs, by dotted name.

    >>> _list_changes({"train": {"seed": 0}, "data": "a"}, {"train": {"seed": 1}, "data": "a"})
    ['train.seed was 0, now 1']
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = sorted(before.keys() | now.keys())
        return [line for key in keys for line in _list_changes(before.get(key), now.get(key), f"{name}.{key}")]
    return [] if before == now else [f"{name.lstrip('.')} was {before}, now {now}"]
