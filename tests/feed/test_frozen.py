"""Frozen rows are the loader's, bit for bit, however often the work was interrupted and whoever did it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feed.packs import standard_packs
from tests.text.test_tokenizer import small_tokenizer

from codegemma.errors import InputError, OutputError
from codegemma.feed import frozen
from codegemma.feed.choices import FeedChoices
from codegemma.feed.frozen import FROZEN_FILE, freeze_rows, read_frozen, read_manifest
from codegemma.feed.loader import Loader, RowShape
from codegemma.feed.trace import PieceOrigin, list_batch
from codegemma.recipe import to_plain
from codegemma.records import Batch
from codegemma.text.tokenizer import Tokenizer

STEPS = 23
# What a model sees; how losses are told apart is not frozen.
FIELDS = tuple(field.name for field in dataclasses.fields(Batch) if field.name != "groups")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps a shard, the last one shorter."""
    monkeypatch.setattr(frozen, "SHARD_TOKENS", 6 * 4 * 128)


def make_loader(seed: int = 3) -> Loader:
    choices = FeedChoices(packing_bins=8)
    return Loader(list(standard_packs()), small_tokenizer(), choices, RowShape(4, 128), seed)


def freeze(out: Path, steps: int = STEPS, **options: object) -> frozen.FrozenManifest:
    loader = make_loader()
    try:
        return freeze_rows(loader, out, steps, {"data": "d"}, **options)  # type: ignore[arg-type]
    finally:
        loader.close()


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen, "SHARD_TOKENS", 6 * 4 * 128)
        freeze(folder)
    return folder


def test_frozen_rows_equal_the_loaders_bit_for_bit(whole: Path):
    loader = make_loader()
    batches = list(read_frozen(whole))
    assert len(batches) == STEPS
    for frozen_batch, batch in zip(batches, loader, strict=False):
        for name in FIELDS:
            left, right = getattr(frozen_batch, name), getattr(batch, name)
            assert left.dtype == right.dtype
            assert left.shape == right.shape
            assert left.tobytes() == right.tobytes()
    loader.close()


@pytest.mark.parametrize("first", [1, 2, 6, 7, 23, 24])
def test_reading_may_begin_at_any_step(whole: Path, first: int):
    rest = list(read_frozen(whole, first))
    assert len(rest) == STEPS + 1 - first
    for left, right in zip(rest, list(read_frozen(whole))[first - 1 :], strict=True):
        assert all(np.array_equal(getattr(left, name), getattr(right, name)) for name in FIELDS)


def test_every_row_tells_the_pieces_that_trace_tells(whole: Path):
    loader = make_loader()
    wanted = [to_plain(list_batch(loader, known, [row])) for known in map_known(loader) for row in range(4)]
    loader.close()
    told = [
        [{**piece, "row": record["row"]} for piece in record["pieces"]]
        for path in sorted(whole.glob("*.parquet"))
        for record in pq.read_table(path).to_pylist()
    ]
    assert told == wanted
    assert {field.name for field in dataclasses.fields(PieceOrigin)} == told[0][0].keys()


def map_known(loader: Loader):
    return [loader.take_known() for _ in range(STEPS)]


def test_the_manifest_counts_and_the_tokenizer_goes_along(whole: Path):
    manifest = read_manifest(whole)
    assert manifest is not None
    assert [(shard.first_step, shard.steps) for shard in manifest.shards] == [(1, 6), (7, 6), (13, 6), (19, 5)]
    assert manifest.steps_done == manifest.steps == STEPS
    assert sum(shard.tokens for shard in manifest.shards) == sum((b.segments > 0).sum() for b in read_frozen(whole))
    assert all((whole / shard.name).stat().st_size == shard.size_bytes for shard in manifest.shards)
    assert manifest.about["data"] == "d"
    assert Tokenizer.load(whole).to_json() == small_tokenizer().to_json()


@pytest.mark.parametrize("workers", [2, 3])
def test_bytes_do_not_depend_on_the_number_of_workers(whole: Path, tmp_path: Path, workers: int):
    freeze(tmp_path, workers=workers)
    assert read_bytes(tmp_path) == read_bytes(whole)


class StoppedError(Exception):
    """Stands for a kill."""


@given(stopped_at=st.integers(1, STEPS), workers=st.integers(1, 3))
@settings(deadline=None, max_examples=12)
def test_a_job_stopped_anywhere_keeps_whole_shards_and_ends_alike(whole, tmp_path_factory, stopped_at, workers):
    out = tmp_path_factory.mktemp("stopped")

    def stop(stage: str, done: int, total: int | None) -> None:
        if done == stopped_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        freeze(out, workers=workers, on_progress=stop)
    earlier = read_manifest(out)
    assert earlier is not None
    with pytest.raises(InputError, match="the same `codegemma freeze` goes on"):
        next(read_frozen(out))
    kept = {shard.name: (out / shard.name).stat().st_mtime_ns for shard in earlier.shards}
    steps: list[int] = []
    freeze(out, workers=workers, on_progress=lambda _stage, done, _total: steps.append(done))
    assert steps == list(range(earlier.steps_done + 1, STEPS + 1))
    assert all((out / name).stat().st_mtime_ns == time for name, time in kept.items())
    assert read_bytes(out) == read_bytes(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.feed import test_frozen
test_frozen.frozen.SHARD_TOKENS = 6 * 4 * 128
def kill(stage, done, total):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
test_frozen.freeze(Path(sys.argv[1]), on_progress=kill, workers=2)
"""


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(whole: Path, tmp_path: Path):
    root = Path(__file__).parents[2]
    out = tmp_path / "out"
    environment = {"PYTHONPATH": f"{root / 'src'}:{root}", "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), "20"], env=environment, check=False, cwd=root)
    assert done.returncode == -9
    earlier = read_manifest(out)
    assert earlier is not None
    assert earlier.steps_done in (6, 12)
    (out / ".rows-000000019.parquet.1.tmp").write_bytes(b"half a shard")
    freeze(out)
    assert read_bytes(out) == read_bytes(whole)


@pytest.mark.parametrize("damage", ["missing", "short", "flipped"])
def test_a_damaged_shard_is_named_and_written_again(whole: Path, tmp_path: Path, damage: str):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    shard = out / "rows-000000007.parquet"
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        flipped = bytes([content[200] ^ 1])
        shard.write_bytes(content[:-9] if damage == "short" else content[:200] + flipped + content[201:])
    with pytest.raises(InputError, match=r"rows-000000007\.parquet"):
        list(read_frozen(out))
    freeze(out)
    assert read_bytes(out) == read_bytes(whole)


def test_other_rows_are_not_mixed_with_those_there(whole: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    with pytest.raises(OutputError, match="steps differ"):
        freeze(out, steps=STEPS + 1)
    loader = make_loader(seed=4)
    with pytest.raises(OutputError, match="about differ"):
        freeze_rows(loader, out, STEPS, {"data": "d"})
    loader.close()
    assert read_bytes(out) == read_bytes(whole)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"shards": 3}', "[" * 100_000, '{"shards": [{}]}'])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, content: str):
    with pytest.raises(InputError, match=r"holds no frozen\.json"):
        next(read_frozen(tmp_path))
    (tmp_path / FROZEN_FILE).write_text(content)
    with pytest.raises(InputError, match=r"frozen\.json"):
        next(read_frozen(tmp_path))


def test_a_manifest_of_another_kind_of_numbers_is_named(whole: Path, tmp_path: Path):
    plain = json.loads((whole / FROZEN_FILE).read_text())
    (tmp_path / FROZEN_FILE).write_text(json.dumps(plain | {"steps": "many"}))
    with pytest.raises(InputError, match=r"frozen\.json"):
        next(read_frozen(tmp_path))


def test_a_batch_that_is_refused_is_not_written(tmp_path: Path):
    def refuse(step: int, batch: Batch) -> None:
        if step == 9:
            raise InputError("step 9 is not the run's")

    with pytest.raises(InputError, match="step 9"):
        freeze(tmp_path, check_batch=refuse)
    assert [file.name for file in tmp_path.glob("*.parquet")] in ([], ["rows-000000001.parquet"])


def test_reading_loads_neither_jax_nor_grain(whole: Path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom codegemma.feed.frozen import read_frozen\n"
        f"assert len(list(read_frozen(Path({str(whole)!r})))) == {STEPS}\n"
        "sys.exit(str({'jax', 'grain'} & set(sys.modules)) if {'jax', 'grain'} & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
