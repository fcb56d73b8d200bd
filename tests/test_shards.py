import dataclasses
import resource
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.errors import InputError, OutputError
from codegemma.records import DroppedFile, Pack, PackedFile, SourceFile, SourceKind, Split
from codegemma.shards import ROW_GROUP_RECORDS, count_records, measure_parts, read_records, read_rows, write_records

TEXT = st.text(st.characters(codec="utf-8"))
OFFSETS = st.lists(st.integers(0, 2**31 - 1), max_size=5).map(lambda offsets: np.array(sorted(offsets), np.int32))
FILES = st.builds(
    PackedFile,
    path=TEXT,
    language=TEXT,
    text=TEXT,
    blob=TEXT,
    license=st.none() | TEXT,
    natural_cuts=OFFSETS,
    block_starts=OFFSETS,
)
PACKS = st.builds(
    Pack,
    pack_id=TEXT,
    repo=TEXT,
    commit=st.none() | TEXT,
    split=st.sampled_from(Split),
    files=st.lists(FILES, max_size=3).map(tuple),
)


def source_file(number: int = 0) -> SourceFile:
    return SourceFile(repo="r", path=f"{number}.py", language="python", text="x = 1\r\n" * number, blob="0" * 40)


def dropped_file() -> DroppedFile:
    return DroppedFile(repo="r", path="p", stage="read", reason="empty", detail="", size_bytes=0)


def plain(pack: Pack) -> dict[str, object]:
    def as_dict(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {k: (v.dtype.name, v.tolist()) if isinstance(v, np.ndarray) else v for k, v in pairs}

    return dataclasses.asdict(pack, dict_factory=as_dict)


@settings(max_examples=60, deadline=None)
@given(packs=st.lists(PACKS, min_size=1, max_size=4))
def test_packs_come_back_as_they_were_written(packs: list[Pack]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "packs.parquet"
        assert write_records(path, packs) == len(packs)
        back = list(read_records(path, Pack))
    assert [plain(pack) for pack in back] == [plain(pack) for pack in packs]
    assert all(type(pack.split) is Split for pack in back)


def test_records_stream_in_order_across_row_groups(tmp_path: Path) -> None:
    files = [source_file(n) for n in range(ROW_GROUP_RECORDS + 3)]
    write_records(tmp_path / "f.parquet", iter(files))
    assert list(read_records(tmp_path / "f.parquet", SourceFile)) == files


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_records(tmp_path / name, [source_file(n) for n in range(9)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kind", [None, DroppedFile])
def test_no_records_are_read_back_as_none(tmp_path: Path, kind: type[DroppedFile] | None) -> None:
    assert write_records(tmp_path / "f", [], kind) == 0
    assert list(read_records(tmp_path / "f", DroppedFile)) == []


def test_empty_file_of_a_known_kind_keeps_its_columns(tmp_path: Path) -> None:
    write_records(tmp_path / "f", [], DroppedFile)
    with pytest.raises(InputError, match="not SourceFile records"):
        list(read_records(tmp_path / "f", SourceFile))


@pytest.mark.parametrize("keep_share", [0.0, 0.3, 0.99])
def test_truncated_file_is_an_input_error_that_names_it(tmp_path: Path, keep_share: float) -> None:
    path = tmp_path / "f.parquet"
    write_records(path, [source_file(n) for n in range(50)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep_share)])
    with pytest.raises(InputError, match=r"f\.parquet: truncated"):
        list(read_records(path, SourceFile))


def test_any_changed_byte_of_the_data_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_records(path, [source_file(n) for n in range(5)])
    whole = path.read_bytes()
    footer_bytes = int.from_bytes(whole[-8:-4], "little") + 8
    unnoticed = 0
    for position in range(4, len(whole) - footer_bytes, 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            unnoticed += list(read_records(path, SourceFile)) != [source_file(n) for n in range(5)]
        except InputError:
            continue
    assert unnoticed == 0


def test_foreign_records_are_an_input_error_that_lists_the_columns(tmp_path: Path) -> None:
    write_records(tmp_path / "f.parquet", [dropped_file()])
    with pytest.raises(InputError, match=r"wanted columns repo, path, language.*came repo, path, stage"):
        list(read_records(tmp_path / "f.parquet", SourceFile))


@dataclasses.dataclass(frozen=True)
class OlderFile:
    """A `SourceFile` as it was before files had a kind."""

    repo: str
    path: str
    language: str
    text: str
    blob: str
    license: str | None = None
    commit: str | None = None
    redactions: tuple[str, ...] = ()


def test_records_older_than_a_field_with_a_default_are_read_with_the_default(tmp_path: Path) -> None:
    older = OlderFile("r", "a.py", "python", "x", "0" * 40)
    write_records(tmp_path / "f.parquet", [older])
    (file,) = read_records(tmp_path / "f.parquet", SourceFile)
    assert file == SourceFile(**dataclasses.asdict(older))
    assert file.kind is SourceKind.CODE


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_records(tmp_path / "none", SourceFile))


def test_failing_source_of_records_leaves_nothing_behind_and_the_old_file_whole(tmp_path: Path) -> None:
    def failing() -> Iterator[SourceFile]:
        yield source_file(1)
        raise RuntimeError("the source broke")

    write_records(tmp_path / "f", [source_file(7)])
    with pytest.raises(RuntimeError, match="the source broke"):
        write_records(tmp_path / "f", failing())
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert list(read_records(tmp_path / "f", SourceFile)) == [source_file(7)]


def test_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_records(tmp_path / "file" / "f.parquet", [dropped_file()])


def test_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OutputError, match=r"f\.parquet: cannot be written"):
            write_records(tmp_path / "f.parquet", [source_file(n) for n in range(300)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_field_that_cannot_be_stored_is_a_programming_error(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd:
        table: dict[str, int]

    with pytest.raises(TypeError, match="cannot be stored"):
        write_records(tmp_path / "f", [Odd({})])


def test_records_are_counted_without_reading_them(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    write_records(path, (source_file(i) for i in range(ROW_GROUP_RECORDS + 1)))
    assert count_records(path) == ROW_GROUP_RECORDS + 1
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"files\.parquet: truncated"):
        count_records(path)


@settings(deadline=None)
@given(rows=st.sets(st.integers(0, 3 * ROW_GROUP_RECORDS)))
def test_rows_that_are_asked_for_come_in_order_and_no_others(rows: set[int]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        write_records(path, (source_file(number) for number in range(2 * ROW_GROUP_RECORDS + 9)))
        there = [row for row in sorted(rows) if row < 2 * ROW_GROUP_RECORDS + 9]
        in_groups = {row for row in rows if row // ROW_GROUP_RECORDS < 3}
        assert [file.path for file in read_rows(path, SourceFile, in_groups)] == [f"{row}.py" for row in there]


def test_folder_of_parts_reads_as_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "files.parquet"
    for part, numbers in enumerate([(0, 1), (), (2,)]):
        write_records(folder / f"part-{part:05d}.parquet", [source_file(n) for n in numbers], SourceFile)
    (folder / ".part-00003.parquet.1.tmp").write_bytes(b"half")
    assert [file.path for file in read_records(folder, SourceFile)] == ["0.py", "1.py", "2.py"]
    assert count_records(folder) == 3
    assert list(measure_parts(tmp_path, ["files.parquet"])) == [f"files.parquet/part-0000{n}.parquet" for n in range(3)]
