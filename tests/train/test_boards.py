"""Weights & Biases is told what the run's own file is told, offline, and only where it is asked for."""

import dataclasses
import sys
import time
from pathlib import Path

import pytest

from codegemma.errors import InputError
from codegemma.train.boards import Boards
from codegemma.train.choices import TrainChoices

LINES = ({"step": 1, "loss": 4.0, "loss_by_language/python": 3.5}, {"step": 2, "loss": 3.0})


def test_nothing_but_tensorboard_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert TrainChoices().wandb_project is None
    boards = Boards(tmp_path, 0, None, {}, "8d3f")
    boards.tell(LINES[0])
    boards.close()
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


def test_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r'pip install "codegemma\[wandb\]"'):
        Boards(tmp_path, 0, "project", {}, "8d3f")


@pytest.mark.filterwarnings("ignore")  # the library's own, at import and exit
def test_offline_run_keeps_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install codegemma[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    boards = Boards(tmp_path, 0, "project", {"recipe": {"name": "tiny"}}, "8d3f")
    for line in LINES:
        boards.tell(line)
    boards.show(2, "def f():")
    boards.close()
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-8d3f.wandb")
    wanted = {b"tiny", *(name.encode() for line in LINES for name in line)}
    # Its own process writes the file.
    until = time.monotonic() + 60
    while not all(name in file.read_bytes() for name in wanted) and time.monotonic() < until:
        time.sleep(0.2)
    assert [name for name in wanted if name not in file.read_bytes()] == []


def test_choice_of_a_board_is_free_to_change() -> None:
    from codegemma.train.manifest import describe_identity

    choices = TrainChoices(steps=5)
    with_board = dataclasses.replace(choices, wandb_project="project")
    assert describe_identity(with_board, None) == describe_identity(choices, None)
