"""A model passes through memory slice by slice: the steps of `make convert-2b`, at the real width and reduced depth."""

from pathlib import Path

import pytest
from tools.convert_round import COPIES, MAX_SHARE, compare, run_step


def draw(folder: Path, layers: int) -> list[str]:
    """Write the first copy and return the arguments of the other steps."""
    arguments = ["--model", "2b", "--layers", str(layers), "--vocab-size", "8192"]
    run_step(folder, "draw", arguments)
    return arguments


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_loading_holds_the_weights_once(dtype: str, tmp_path: Path) -> None:
    """Each step is a process of its own, so that nothing that was freed before hides what it takes."""
    arguments = draw(tmp_path, layers=1)
    row = run_step(tmp_path, f"load {dtype}", arguments)
    assert row["weights"] <= row["rise"] <= MAX_SHARE * row["weights"]


@pytest.mark.slow
def test_a_round_through_all_formats_holds_a_part_of_the_weights_and_changes_no_bit(tmp_path: Path) -> None:
    arguments = draw(tmp_path, layers=2)
    for name, (_, _, dtype) in COPIES.items():
        row = run_step(tmp_path, f"copy {name}", arguments)
        # Of integers the source's slices are as large as a small model.
        assert dtype is not None or row["rise"] <= MAX_SHARE * row["weights"], name
    assert compare(tmp_path) is None
