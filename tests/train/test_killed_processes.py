"""The command as a user types it: two processes, either of which is killed; the run ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.test_train_complete import RECIPE

from codegemma.cli.main import cli
from codegemma.train.meters import read_metrics

from .test_hosts import assert_same_run

CHOICES = (
    "steps=60", "batch_rows=2", "compute_dtype=float32", "save_dtype=float32", "save_every_steps=5",
    "log_every_steps=1", "sample_every_steps=1000",
)  # fmt: skip
# Both end and begin again within this; how long they then take to start is another matter.
RESTART_S = 30.0
PATIENCE_S = 400.0


def list_children(pid: int) -> list[int]:
    """List a process's own, oldest first: the supervisor starts process 0 first."""
    return sorted(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def wait_until(process: "subprocess.Popen[bytes]", is_true: Callable[[], object]) -> float:
    began = time.monotonic()
    while not is_true():
        assert process.poll() is None, "the supervisor ended"
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc, which is Linux's")
def test_either_process_may_be_killed_and_an_order_to_stop_saves(data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(RECIPE)
    out = tmp_path / "run"
    settings = [word for choice in CHOICES for word in ("--set", f"train.{choice}")]
    told = ["train", "--data", str(data), "--recipe", str(tmp_path / "own.py"), *settings]
    cli.main([*told, "--out", str(tmp_path / "alone")], standalone_mode=False)

    def count_steps() -> int:
        return len(read_metrics(out / "metrics.jsonl"))

    command = [sys.executable, "-m", "codegemma", *told, "--out", str(out), "--processes", "2"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    with subprocess.Popen(command, env=environment) as supervisor:
        for victim, step in ((1, 12), (0, 27)):
            wait_until(supervisor, lambda step=step: count_steps() >= step)  # type: ignore[misc]
            before = list_children(supervisor.pid)
            os.kill(before[victim], signal.SIGKILL)
            took_s = wait_until(
                supervisor,
                lambda before=before: len(now := list_children(supervisor.pid)) == 2 and not set(now) & set(before),  # type: ignore[misc]
            )
            assert took_s < RESTART_S
        wait_until(supervisor, lambda: count_steps() >= 42)
        supervisor.send_signal(signal.SIGTERM)
    assert supervisor.returncode == 0
    assert not (out / "model").exists()
    saved = max(int(folder.name) for folder in (out / "checkpoints").iterdir())
    assert 42 <= saved < 60
    assert count_steps() == saved, "both stopped after the same step, and nothing was told twice"
    cli.main([*told, "--out", str(out)], standalone_mode=False)
    assert_same_run(out, tmp_path / "alone")
