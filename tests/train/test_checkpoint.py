import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.errors import InputError, OutputError
from codegemma.model.gemma import init_params
from codegemma.train.checkpoint import Checkpoints, _sum_device_bits, _sum_host_bits
from codegemma.train.step import TrainState, init_state

from .run_job import CHOICES, CONFIG

# Orbax reads the leaves at the same time; when one fails it closes the event loop under the others' feet.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
PLAIN = {"step": 3, "loader": {"position": {"parent": {"next_index": 2**40}}}, "sum": 0.1 + 0.2}


@pytest.fixture(autouse=True)
def collect_lost_tasks() -> Iterator[None]:
    """Let no later test meet what orbax left behind."""
    yield
    gc.collect()


def make_state(seed: int) -> TrainState:
    state = init_state(init_params(CONFIG, jax.random.key(seed)), CHOICES, total_steps=9)
    changed = [leaf + 1 if leaf.dtype == np.int32 else leaf * np.float32(1.1) for leaf in jax.tree.leaves(state)]
    moved: TrainState = jax.tree.unflatten(jax.tree.structure(state), changed)
    return moved


def assert_same_state(one: TrainState, other: TrainState) -> None:
    assert str(jax.tree.structure(one)) == str(jax.tree.structure(other))
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def save_steps(folder: Path, *steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, make_state(step), PLAIN | {"step": step})
    return checkpoints


def test_newest_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_steps(tmp_path / "c", 3, 7).close()
    restored = Checkpoints(tmp_path / "c", 2).restore(make_state(0))
    assert restored is not None
    assert_same_state(restored[0], make_state(7))
    assert restored[1] == PLAIN | {"step": 7}


def test_folder_without_checkpoints_restores_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", 2)
    assert checkpoints.latest_step is None
    assert checkpoints.restore(make_state(0)) is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save_steps(tmp_path / "c", 1, 2, 3, 4).close()
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "4"]


def test_saved_state_does_not_change_when_the_next_step_reuses_its_memory(tmp_path: Path) -> None:
    state = make_state(5)
    checkpoints = Checkpoints(tmp_path / "c", 2)
    checkpoints.save(5, state, PLAIN)
    jax.jit(lambda s: jax.tree.map(lambda leaf: leaf * 0, s), donate_argnums=0)(state)
    restored = checkpoints.restore(make_state(0))
    assert restored is not None
    assert_same_state(restored[0], make_state(5))


def test_half_written_checkpoint_is_not_seen_and_removed(tmp_path: Path) -> None:
    """Kill a process that does nothing but save, until a kill leaves something half-written."""
    script = (
        "import sys; from pathlib import Path; from tests.train.test_checkpoint import *\n"
        "checkpoints = Checkpoints(Path(sys.argv[1]), 2); state = make_state(0)\n"
        "for step in range(1, 10**6): checkpoints.save(step, state, PLAIN | {'step': step}); print(step, flush=True)\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", script, str(tmp_path / "c")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        while not list((tmp_path / "c").glob("*tmp*")):
            pass
        process.kill()
    assert process.returncode == -signal.SIGKILL
    whole = {int(path.name) for path in (tmp_path / "c").iterdir() if path.name.isdigit()}
    checkpoints = Checkpoints(tmp_path / "c", 2)
    assert checkpoints.latest_step == max(whole)
    assert not list((tmp_path / "c").glob("*tmp*"))
    restored = checkpoints.restore(make_state(1))
    assert restored is not None
    assert_same_state(restored[0], make_state(0))
    assert restored[1]["step"] == max(whole)


def truncate(folder: Path) -> None:
    for file in find_data(folder):
        os.truncate(file, file.stat().st_size // 2)


def flip_bytes(folder: Path) -> None:
    for file in find_data(folder):
        content = bytearray(file.read_bytes())
        for place in range(len(content) // 3, len(content), 97):
            content[place] ^= 0x20
        file.write_bytes(content)


def change_plain_data(folder: Path) -> None:
    file = folder / "plain/metadata"
    text = file.read_text()
    assert str(2**40) in text
    file.write_text(text.replace(str(2**40), str(2**40 + 1)))


def remove_arrays(folder: Path) -> None:
    shutil.rmtree(folder / "state/d")


def remove_description(folder: Path) -> None:
    (folder / "state/_METADATA").unlink()


def remove_plain_data(folder: Path) -> None:
    shutil.rmtree(folder / "plain")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def take_the_arrays_of_the_one_before(folder: Path) -> None:
    shutil.rmtree(folder / "state")
    shutil.copytree(folder.parent / "3/state", folder / "state")


def find_data(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and "d" in file.parts]


DAMAGES = [
    truncate, flip_bytes, change_plain_data, remove_arrays, remove_description, remove_plain_data, empty,
    take_the_arrays_of_the_one_before,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_put_aside_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    save_steps(tmp_path / "c", 3, 7).close()
    damage(tmp_path / "c/7")
    checkpoints = Checkpoints(tmp_path / "c", 2)
    restored = checkpoints.restore(make_state(0))
    assert restored is not None
    assert_same_state(restored[0], make_state(3))
    assert restored[1] == PLAIN
    assert f"checkpoint {tmp_path}/c/7 is damaged" in caplog.text
    assert "going on from step 3" in caplog.text
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "7.damaged"]
    checkpoints.save(7, make_state(7), PLAIN | {"step": 7})
    restored = Checkpoints(tmp_path / "c", 2).restore(make_state(0))
    assert restored is not None
    assert_same_state(restored[0], make_state(7))


def test_only_if_no_checkpoint_is_whole_the_run_cannot_go_on(tmp_path: Path) -> None:
    save_steps(tmp_path / "c", 3, 7).close()
    truncate(tmp_path / "c/7")
    flip_bytes(tmp_path / "c/3")
    with pytest.raises(
        InputError, match=r"no checkpoint of the run is whole: .*c/7 .*c/3 .*Bring one back from a copy"
    ):
        Checkpoints(tmp_path / "c", 2).restore(make_state(0))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "7"]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**20), st.sampled_from(["float32", "int32", "bfloat16"]))
@settings(max_examples=20, deadline=None)
def test_sum_over_bits_is_the_same_on_host_and_device_and_notices_every_flipped_bit(
    seed: int, flipped: int, kind: str
) -> None:
    leaf = np.random.default_rng(seed).normal(size=(3, 5, 7)).astype(jnp.dtype(kind))
    salt = np.uint32(seed)
    expected = _sum_host_bits(leaf, salt)
    np.testing.assert_array_equal(expected, _sum_device_bits(jnp.asarray(leaf), salt))
    changed = leaf.copy()
    flat = changed.reshape(-1).view(np.uint8)
    flat[flipped // 8 % flat.size] ^= 1 << flipped % 8
    assert expected.tolist() != _sum_host_bits(changed, salt).tolist()
    swapped = leaf[::-1]
    if (leaf != swapped).any():
        assert expected.tolist() != _sum_host_bits(swapped, salt).tolist()


def test_saving_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoints = save_steps(tmp_path / "c", 1, 2, 3)
    checkpoints.restore(make_state(0))
    checkpoints.close()
    assert capfd.readouterr() == ("", "")


def test_disk_too_full_is_an_output_error_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = save_steps(tmp_path / "c", 3)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        OutputError, match=r"it takes 0\.\d MB, and 0\.0 MB are free.*goes on from the checkpoint before"
    ):
        checkpoints.save(7, make_state(7), PLAIN)
    assert checkpoints.latest_step == 3
