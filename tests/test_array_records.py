"""Packs in ArrayRecord: the records and batches of Parquet, read by Grain's own source as well."""

import dataclasses
import json
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.repositories import write
from tests.feed.packs import standard_packs
from tests.test_shards import PACKS, dropped_file, plain, source_file
from tests.text.test_tokenizer import small_tokenizer

from codegemma.build import build_data
from codegemma.corpus.forgotten import Removal
from codegemma.errors import InputError, MissingExtraError, OutputError
from codegemma.feed.choices import FeedChoices
from codegemma.feed.loader import RowShape, hash_batch, open_loader
from codegemma.forget import forget
from codegemma.pack.choices import PackFormat
from codegemma.pack.pipeline import STEPS
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.records import DroppedFile, Pack, SourceFile
from codegemma.runner import LocalRunner
from codegemma.shards import (
    ROW_GROUP_RECORDS,
    count_records,
    find_output,
    list_parts,
    read_records,
    read_rows,
    write_records,
)

RECIPE = override(load_recipe("tiny"), ["pack.format=arrayrecord", "pack.budget_tokens=200"])


@settings(max_examples=60, deadline=None)
@given(packs=st.lists(PACKS, min_size=1, max_size=4))
def test_packs_come_back_as_from_parquet(packs: list[Pack]) -> None:
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"packs.{form}" for form in PackFormat]
        for file in files:
            assert write_records(file, packs) == count_records(file) == len(packs)
        parquet, array = ([plain(pack) for pack in read_records(file, Pack)] for file in files)
    assert parquet == array == [plain(pack) for pack in packs]


def test_equal_records_give_equal_bytes_and_none_an_empty_file(tmp_path: Path) -> None:
    for name in "ab":
        write_records(tmp_path / f"{name}.arrayrecord", [source_file(n) for n in range(500)])
    assert (tmp_path / "a.arrayrecord").read_bytes() == (tmp_path / "b.arrayrecord").read_bytes()
    assert write_records(tmp_path / "none.arrayrecord", [], Pack) == 0
    assert list(read_records(tmp_path / "none.arrayrecord", Pack)) == []


def test_rows_that_are_asked_for_come_in_order_and_no_others(tmp_path: Path) -> None:
    path, count = tmp_path / "x.arrayrecord", 2 * ROW_GROUP_RECORDS
    write_records(path, (source_file(number) for number in range(count)))
    rows = [count + 5, 3, 200, 0]
    assert [file.path for file in read_rows(path, SourceFile, rows)] == ["0.py", "3.py", "200.py"]


def test_every_record_is_one_json_object_that_grain_reads(tmp_path: Path) -> None:
    packs = standard_packs()
    write_records(tmp_path / "p.arrayrecord", packs)
    source = grain.sources.ArrayRecordDataSource([str(tmp_path / "p.arrayrecord")])
    rows = [json.loads(source[number]) for number in range(len(source))]
    assert [row["pack_id"] for row in rows] == [pack.pack_id for pack in packs]
    file, wanted = rows[0]["files"][0], packs[0].files[0]
    assert (file["path"], file["text"]) == (wanted.path, wanted.text)
    assert file["natural_cuts"] == wanted.natural_cuts.tolist()


def test_batches_are_those_of_parquet(tmp_path: Path) -> None:
    hashes = []
    for form in PackFormat:
        write_records(tmp_path / form / f"packs-train.{form}", standard_packs())
        loader = open_loader(tmp_path / form, small_tokenizer(), FeedChoices(packing_bins=8), RowShape(4, 128), seed=3)
        hashes.append([hash_batch(next(loader)) for _ in range(20)])
        loader.close()
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("keep_share", [0.0, 0.0001, 0.5, 0.999])
def test_truncated_file_is_an_input_error_that_names_it(tmp_path: Path, keep_share: float) -> None:
    path = tmp_path / "f.arrayrecord"
    write_records(path, [source_file(n) for n in range(50)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep_share)])
    for read in (lambda: list(read_records(path, SourceFile)), lambda: count_records(path)):
        with pytest.raises(InputError, match=r"f\.arrayrecord: truncated, damaged or not ArrayRecord"):
            read()


def test_any_changed_byte_of_the_data_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f.arrayrecord"
    files = [source_file(n) for n in range(5)]
    write_records(path, files)
    whole, wrong = path.read_bytes(), 0
    data_bytes = len(whole.rstrip(b"\0"))  # the rest pads the file to whole blocks
    for position in [*range(0, 1500, 13), *range(1500, data_bytes, 997)]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            wrong += list(read_records(path, SourceFile)) != files
        except InputError:
            continue
    assert wrong == 0


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b'{"repo": 1}', r"not Pack records; wanted columns pack_id.*came repo"),
        (b"[1]", r"truncated, damaged or not ArrayRecord \(no JSON object"),
        (b"\xff", "truncated, damaged or not ArrayRecord"),
        (b'{"pack_id":"","repo":"","commit":null,"split":"other","files":[]}', "truncated, damaged"),
        (b'{"pack_id":"","repo":"","commit":null,"split":"train","files":[{"path":"a"}]}', "truncated, damaged"),
        (b'{"pack_id":"","repo":"","commit":null,"split":"train","files":7}', "truncated, damaged"),
    ],
)
def test_foreign_records_are_an_input_error(tmp_path: Path, blob: bytes, message: str) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(tmp_path / "f.arrayrecord"), "group_size:1")
    writer.write(blob)
    writer.close()
    with pytest.raises(InputError, match=rf"f\.arrayrecord: {message}"):
        list(read_records(tmp_path / "f.arrayrecord", Pack))


def test_full_disk_and_unwritable_place_are_output_errors_and_leave_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OutputError, match=r"f\.arrayrecord: cannot be written"):
            write_records(tmp_path / "f.arrayrecord", [source_file(n) for n in range(300)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_records(tmp_path / "file" / "f.arrayrecord", [dropped_file()])


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(MissingExtraError, match=r"pip install codegemma\[arrayrecord\]"):
        write_records(tmp_path / "f.arrayrecord", [dropped_file()], DroppedFile)


def read_bytes(out: Path) -> dict[str, bytes]:
    return {f"{part.parent.name}/{part.name}": part.read_bytes() for part in list_parts(out / "packs-train.parquet")}


def test_build_gives_the_same_bytes_for_any_number_of_workers_and_forgets(tmp_path: Path) -> None:
    repos = [
        write(tmp_path / name, {f"{name}{n}.py": f"def {name}{n}(x):\n    return x * {n}\n" * 9 for n in range(30)})
        for name in ("one", "two")
    ]
    for workers in (1, 2):
        build_data(repos, tmp_path / f"out{workers}", RECIPE, LocalRunner(workers))
    assert read_bytes(tmp_path / "out1") == read_bytes(tmp_path / "out2")
    out = tmp_path / "out1"
    assert find_output(out, "packs-train.parquet") == out / "packs-train.arrayrecord"
    packs = list(read_records(out / "packs-train.parquet", Pack))
    # Another format is the same packs, linked no more than once.
    plans = {file.name: file.stat().st_mtime_ns for file in (out / STEPS).glob("plans-*")}
    parquet = dataclasses.replace(RECIPE, pack=dataclasses.replace(RECIPE.pack, format=PackFormat.PARQUET))
    build_data(repos, out, parquet)
    assert plans == {file.name: file.stat().st_mtime_ns for file in (out / STEPS).glob("plans-*")}
    assert not (out / "packs-train.arrayrecord").exists()
    assert [plain(pack) for pack in read_records(out / "packs-train.parquet", Pack)] == [plain(p) for p in packs]
    assert forget(tmp_path / "out2", Removal("two", ())).is_done
    left = list(read_records(tmp_path / "out2" / "packs-train.parquet", Pack))
    assert [plain(pack) for pack in left] == [plain(pack) for pack in packs if pack.repo == "one"]
    assert np.sum([len(pack.files) for pack in left]) > 0
