"""libtpu without a TPU is left alone, and whatever somebody chose or has stays."""

import os
from pathlib import Path

import pytest

from codegemma.cli import absent_tpu
from codegemma.cli.absent_tpu import leave_absent_tpu_alone
from codegemma.engine.accelerators import has_accelerator

DEVICES = {"accel0": True, "vfio/3": True, "nvidia0": True, "kfd": True, "vfio/vfio": False, "nvidia-caps": False}


@pytest.mark.parametrize(("name", "found"), DEVICES.items())
def test_accelerator_is_seen_by_its_driver(name: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert has_accelerator(tmp_path) is found


@pytest.mark.parametrize(
    ("chosen", "has_library", "has_chip", "then"),
    [
        (None, True, False, "cpu"),
        (None, False, False, None),
        (None, True, True, None),
        ("proxy", True, False, "proxy"),
        ("", True, False, ""),
    ],
)
def test_cpu_is_chosen_only_where_nothing_else_can_be_meant(
    chosen: str | None, has_library: bool, has_chip: bool, then: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("JAX_PLATFORMS", chosen)
    monkeypatch.setattr(absent_tpu, "find_spec", lambda _: object() if has_library else None)
    monkeypatch.setattr(absent_tpu, "has_accelerator", lambda: has_chip)
    leave_absent_tpu_alone()
    assert os.environ.get("JAX_PLATFORMS") == then
