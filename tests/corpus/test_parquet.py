"""A table of source files is so many repositories, read in order, and a damaged part of it is named and left out."""

import json
import os
import pickle
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import write

from codegemma.corpus import cells, parquet
from codegemma.corpus.cells import ParquetCell
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.columns import KNOWN_COLUMNS, choose_columns
from codegemma.corpus.contents import FilePart
from codegemma.corpus.entries import Listing
from codegemma.corpus.inputs import list_repositories
from codegemma.corpus.parquet import is_parquet
from codegemma.corpus.pipeline import build_corpus
from codegemma.corpus.read import read_listing
from codegemma.errors import InputError
from codegemma.records import DroppedFile, SourceFile
from codegemma.shards import read_records, write_records

CHOICES = CorpusChoices()
STACK_V1: dict[str, list[Any]] = {
    "hexsha": ["a1", "a2", "a3", "a4"],
    "size": [6, 8, 6, 9],
    "ext": ["py"] * 4,
    "lang": ["Python"] * 4,
    "max_stars_repo_path": ["a.py", "src/b.py", "a.py", "tool"],
    "max_stars_repo_name": ["owner/one", "owner/one", "owner/two", "owner/two"],
    "max_stars_repo_head_hexsha": ["c1", "c1", "c2", "c3"],
    "max_stars_repo_licenses": [["MIT"], ["MIT", "Apache-2.0"], ["Acme Free"], []],
    "content": ["x = 1\n", "y = 'é'\n", "x = 2\n", "print(3)\n"],
}
STACK_V2 = {
    "blob_id": ["a1", "a2"],
    "path": ["/a.py", "/src/b.py"],
    "repo_name": ["owner/one", "owner/one"],
    "revision_id": ["c1", "c1"],
    "detected_licenses": [["MIT"], None],
    "license_type": ["permissive", "no_license"],
    "language": ["Python", "Python"],
    "length_bytes": [6, 6],
    "content": ["x = 1\n", "y = 2\n"],
}
STARCODER = {
    "max_stars_repo_path": ["a.py", "b.py"],
    "max_stars_repo_name": ["owner/one", "owner/one"],
    "max_stars_count": [1, None],
    "id": ["1", "2"],
    "content": ["x = 1\n", "y = 2\n"],
}
GITHUB_CODE = {
    "code": ["x = 1\n", "y = 2\n"],
    "repo_name": ["owner/one", "owner/one"],
    "path": ["a.py", "b.py"],
    "language": ["Python", "Python"],
    "license": ["mit", "gpl-2.0"],
    "size": ["6", "6"],
}


def make_table(path: Path, columns: dict[str, Any], group_rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, row_group_size=group_rows, write_page_checksum=True)
    return path


def read(listings: Sequence[Listing]) -> list[SourceFile | DroppedFile]:
    return [result for listing in listings for result in read_listing(listing, CHOICES)]


def test_the_stack_is_one_listing_per_repository_with_its_commit_and_licences(tmp_path: Path) -> None:
    listings = list_repositories([make_table(tmp_path / "data.parquet", STACK_V1)])
    assert [(listing.repo, listing.commit) for listing in listings] == [("owner/one", "c1"), ("owner/two", None)]
    files = [file for file in read(listings) if isinstance(file, SourceFile)]
    assert [(f.repo, f.path, f.language, f.text, f.license) for f in files] == [
        ("owner/one", "a.py", "python", "x = 1\n", "MIT"),
        ("owner/one", "src/b.py", "python", "y = 'é'\n", "Apache-2.0 AND MIT"),
        ("owner/two", "a.py", "python", "x = 2\n", "LicenseRef-Acme-Free"),
        ("owner/two", "tool", "python", "print(3)\n", None),
    ]
    assert [entry.size_bytes for entry in listings[0].entries] == [6, 8]
    assert pickle.loads(pickle.dumps(listings)) == listings  # noqa: S301  # our own, from a line above


@pytest.mark.parametrize(
    ("columns", "paths", "licenses"),
    [
        (STACK_V2, ["a.py", "src/b.py"], ["MIT", None]),
        (STARCODER, ["a.py", "b.py"], [None, None]),
        (GITHUB_CODE, ["a.py", "b.py"], ["MIT", "GPL-2.0-only"]),
    ],
)
def test_known_data_sets_need_no_mapping(
    tmp_path: Path, columns: dict[str, Any], paths: list[str], licenses: list[str | None]
) -> None:
    listings = list_repositories([make_table(tmp_path / "data.parquet", columns)])
    files = [file for file in read(listings) if isinstance(file, SourceFile)]
    assert [(f.repo, f.path, f.text, f.license) for f in files] == [
        ("owner/one", path, text, license)
        for path, text, license in zip(paths, ["x = 1\n", "y = 2\n"], licenses, strict=True)
    ]
    assert [entry.size_bytes for entry in listings[0].entries] == [6, 6]


def test_the_files_that_a_build_wrote_can_be_built_again(tmp_path: Path) -> None:
    records = [SourceFile("one", "a.py", "python", "x = 1\n", "0", "MIT", "c1")]
    write_records(tmp_path / "files-train.parquet", records, SourceFile)
    [file] = read(list_repositories([tmp_path / "files-train.parquet"]))
    assert isinstance(file, SourceFile)
    assert (file.repo, file.path, file.text, file.license, file.commit) == ("one", "a.py", "x = 1\n", "MIT", "c1")


def test_columns_are_mapped_by_option(tmp_path: Path) -> None:
    table = make_table(tmp_path / "mine.parquet", {"body": ["x = 1\n"], "file": ["a.py"]})
    with pytest.raises(
        InputError, match=r"no column for the content: wanted content or code or text; found body, file"
    ):
        list_repositories([table])
    [file] = read(list_repositories([table], parquet_columns=("content=body", "path=file")))
    assert (file.repo, file.path) == ("mine", "a.py")
    with pytest.raises(InputError, match="no column for the size: wanted bytes; found body, file"):
        list_repositories([table], parquet_columns=("content=body", "path=file", "size=bytes"))


@pytest.mark.parametrize("pairs", [("content",), ("contents=a",), ("path=a", "path=b"), ("path=",)])
def test_mapping_that_is_none_is_a_wrong_choice(pairs: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="wanted role=column, each role once, of the roles content, path"):
        CorpusChoices(parquet_columns=pairs)


def test_the_stack_v2_without_contents_says_what_is_missing(tmp_path: Path) -> None:
    columns = {name: values for name, values in STACK_V2.items() if name != "content"}
    with pytest.raises(InputError, match="holds no contents"):
        list_repositories([make_table(tmp_path / "data.parquet", columns)])


@given(st.lists(st.sampled_from([name for names in KNOWN_COLUMNS.values() for name in names])))
def test_chosen_columns_are_always_among_those_found(found: list[str]) -> None:
    try:
        chosen = choose_columns(found, {})
    except ValueError as error:
        assert "no column for the" in str(error)
    else:
        assert set(chosen.values()) <= set(found)
        assert "path" in chosen or chosen["content"] == "text"


def test_folder_of_tables_is_one_data_set_and_a_repository_with_a_table_is_a_repository(tmp_path: Path) -> None:
    make_table(tmp_path / "set/data/python/0.parquet", {name: values[:1] for name, values in STACK_V1.items()})
    make_table(tmp_path / "set/data/python/1.parquet", {name: values[1:] for name, values in STACK_V1.items()})
    write(tmp_path / "set", {"README.md": "# Card\n", ".git/HEAD": "ref: x\n", ".git/a": "", ".git/b": ""})
    listings = list_repositories([tmp_path / "set"])
    assert [(x.repo, [e.path for e in x.entries]) for x in listings] == [
        ("owner/one", ["a.py", "src/b.py"]),
        ("owner/two", ["a.py", "tool"]),
    ]
    make_table(tmp_path / "repo/tests/data.parquet", STACK_V1)
    write(tmp_path / "repo", {"a.py": "x = 1\n", "b.py": "y = 2\n"})
    assert not is_parquet(tmp_path / "repo")
    [listing] = list_repositories([tmp_path / "repo"])
    assert [entry.path for entry in listing.entries] == ["a.py", "b.py", "tests/data.parquet"]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "schema", "type", "pipe"])
def test_damaged_table_is_named_and_the_rest_is_read(tmp_path: Path, damage: str) -> None:
    make_table(tmp_path / "set/good.parquet", STACK_V1)
    bad = make_table(tmp_path / "set/bad.parquet", STACK_V2)
    if damage in ("empty", "cut", "text"):
        content = {"empty": b"", "cut": bad.read_bytes()[:-200], "text": b"not a table"}
        bad.write_bytes(content[damage])
    elif damage == "pipe":
        bad.unlink()
        os.mkfifo(bad)
    else:
        make_table(bad, {"a": [1]} if damage == "schema" else {"content": [1], "path": ["a.py"]})
    results = read(list_repositories([tmp_path / "set"]))
    assert len([r for r in results if isinstance(r, SourceFile)]) == 4
    [drop] = [r for r in results if isinstance(r, DroppedFile)]
    assert (drop.repo, drop.path) == ("set", "bad.parquet")
    assert drop.reason == ("not_regular" if damage == "pipe" else "corrupt_table")
    assert drop.detail
    if damage != "pipe":
        with pytest.raises(InputError, match=r"no table of source files \(bad.parquet: "):
            list_repositories([bad])


def test_page_with_a_flipped_bit_costs_its_rows_and_no_others(tmp_path: Path) -> None:
    texts = [f"x = '{os.urandom(40).hex()}'\n" for _ in range(4)]
    columns = {"path": [f"{n}.py" for n in range(4)], "content": texts, "size": [len(t) for t in texts]}
    table = make_table(tmp_path / "data.parquet", columns)
    content = bytearray(table.read_bytes())
    place = content.index(texts[3][5:25].encode())  # in the second row group
    content[place] ^= 1
    table.write_bytes(content)
    results = read(list_repositories([table]))
    assert [r.path for r in results if isinstance(r, SourceFile)] == ["0.py", "1.py"]
    drops = [r for r in results if isinstance(r, DroppedFile)]
    assert [(d.path, d.reason) for d in drops] == [("2.py", "unreadable"), ("3.py", "unreadable")]
    assert "damaged in row group 1" in drops[0].detail


def test_bad_rows_are_dropped_each_with_its_reason(tmp_path: Path) -> None:
    rows: list[tuple[bytes | None, bytes | None, bytes | None, str | None]] = [
        (b"r", b"good.py", b"x = 1\n", None),
        (b"r", b"null.py", None, "null"),
        (b"r", b"latin.py", b"# caf\xe9\n", "undecodable"),
        (b"r", b"zero.py", b"x\0", "binary"),
        (b"r", b"empty.py", b"", "empty"),
        (b"r", b"big.py", b"x = 1\n" * 200_000, "too_big"),
        (b"r", b"../out.py", b"x = 2\n", "unsafe_path"),
        (b"r", b"bad\xff.py", b"x = 3\n", "path"),
        (b"r", None, b"x = 4\n", "path"),
        (b"r", b"node_modules/x.py", b"x = 5\n", "vendored"),
        (b"r", b"good.py", b"x = 6\n", None),
        (b"r", b"lfs.py", b"version https://git-lfs.github.com/spec/v1\noid\n", "lfs_pointer"),
        (None, b"alone.py", b"x = 7\n", None),
        (b"\xff", b"odd.py", b"x = 8\n", None),
    ]
    names = ("repo", "path", "content")
    kinds = (pa.binary(), pa.binary(), pa.binary())
    table = pa.table(
        {n: pa.array(v, k) for n, k, v in zip(names, kinds, list(zip(*rows, strict=True))[:3], strict=True)}
    )
    results = read(list_repositories([make_table(tmp_path / "set.parquet", table, 4)]))
    kept = {(r.repo, r.path): r.text for r in results if isinstance(r, SourceFile)}
    assert kept == {("r", "good.py"): "x = 6\n", ("set", "alone.py"): "x = 7\n", (r"\udcff", "odd.py"): "x = 8\n"}
    drops = [(r.path, r.reason) for r in results if isinstance(r, DroppedFile)]
    assert sorted(reason for _, reason in drops) == sorted(
        [reason for *_, reason in rows if reason is not None] + ["packed_twice"]
    )
    assert ("(set.parquet: row 0 of row group 2)", "path") in drops


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_every_type_of_text_column_is_read(tmp_path: Path, kind: Any) -> None:
    columns = {"path": pa.array(["a.py", "b.py"], kind), "content": pa.array(["x = 1\n", "y = 2\n"], kind)}
    results = read(list_repositories([make_table(tmp_path / "set.parquet", columns)]))
    assert [(r.path, r.text) for r in results if isinstance(r, SourceFile)] == [
        ("a.py", "x = 1\n"),
        ("b.py", "y = 2\n"),
    ]


def _count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the batches of contents that are decoded, in a list of one number."""
    decoded = [0]
    keep = cells._Group._keep

    def keep_counted(self: Any, batch: Any) -> None:
        decoded[0] += 1
        keep(self, batch)

    monkeypatch.setattr(cells._Group, "_keep", keep_counted)
    return decoded


def _make_large(path: Path, repos: list[str], group_rows: int) -> tuple[Path, list[str]]:
    texts = [f"x = {n}\n" for n in range(len(repos))]
    columns = {"repo": repos, "path": [f"{n}.py" for n in range(len(repos))], "content": texts}
    return make_table(path, {**columns, "size": [len(t) for t in texts]}, group_rows), texts


def test_rows_in_order_decode_each_batch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 5_000
    table, texts = _make_large(tmp_path / "set.parquet", [f"r{n // 7:04}" for n in range(rows)], 1_000)
    monkeypatch.setattr(cells, "MAX_KEPT_BYTES", 0)
    decoded = _count_decoded(monkeypatch)
    listings = list_repositories([table])
    assert decoded == [0]
    assert [entry.read_bytes(99).decode() for listing in listings for entry in listing.entries] == texts
    assert decoded == [5 * 16]


def test_rows_out_of_order_are_copied_once_and_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 5_000
    table, texts = _make_large(tmp_path / "set.parquet", [f"r{n % 700:03}" for n in range(rows)], 100)
    decoded = _count_decoded(monkeypatch)
    listings = list_repositories([table], scratch=tmp_path / "scratch")
    assert decoded == [50 * 2]
    entries = [entry for listing in listings for entry in listing.entries]
    assert all(isinstance(entry.content, FilePart) for entry in entries)
    assert {entry.path: entry.read_bytes(99).decode() for entry in entries} == {
        f"{n}.py": t for n, t in enumerate(texts)
    }
    assert decoded == [50 * 2]


@pytest.fixture(scope="module")
def contents_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contents = [f"content {n}" for n in range(200)]
    return make_table(tmp_path_factory.mktemp("shared") / "a.parquet", {"content": contents}, 150)


@given(order=st.lists(st.integers(0, 199), max_size=30))
def test_cells_read_in_any_order_are_the_same(contents_table: Path, order: list[int]) -> None:
    for row in order:
        assert ParquetCell(str(contents_table), "content", row // 150, row % 150).read(99) == b"content %d" % row


def test_cell_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    table = make_table(tmp_path / "a.parquet", {"content": ["a", None]})
    for cell, message in (
        (ParquetCell(str(table), "content", 0, 1), "null"),
        (ParquetCell(str(table), "content", 0, 900), "damaged in row group 0"),
        (ParquetCell(str(table), "content", 7, 0), "damaged in row group 7|row_group"),
        (ParquetCell(str(tmp_path / "none"), "content", 0, 0), "No such file"),
    ):
        with pytest.raises(OSError, match=message):
            cell.read(9)


def test_a_build_takes_a_table(tmp_path: Path) -> None:
    names = [f"d{n % 5}/m{n:02}.py" for n in range(40)]
    texts = [f"def f{n}(value):\n    return value + {n}  # {names[n]}\n" for n in range(40)]
    columns = {"repo": ["owner/one"] * 40, "path": names, "content": texts, "license": ["MIT"] * 40}
    report = build_corpus([make_table(tmp_path / "set.parquet", columns)], tmp_path / "out", CHOICES)
    assert [(row.license, row.files) for row in report.licenses] == [("MIT", report.files_train + report.files_heldout)]
    train = {file.path: file.text for file in read_records(tmp_path / "out/files-train.parquet", SourceFile)}
    assert train.items() <= dict(zip(names, texts, strict=True)).items()
    assert len(train) > 20
    assert json.loads((tmp_path / "out/corpus.json").read_text())["repos"][0]["repo"] == "owner/one"


def test_equal_names_from_several_inputs_stay_apart_even_if_one_has_a_number(tmp_path: Path) -> None:
    columns = {"repo": ["app", "app#2"], "path": ["a.py", "a.py"], "content": ["x = 1\n", "x = 2\n"]}
    tables = [make_table(tmp_path / name, columns) for name in ("a.parquet", "b.parquet")]
    assert [x.repo for x in list_repositories(tables)] == ["app", "app#2", "app#3", "app#2#2"]


def test_row_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 20_000
    table, _ = _make_large(tmp_path / "set.parquet", [f"owner/repository-{n // 10:04}" for n in range(rows)], 1_000)
    parquet.list_parquet(table, {})
    tracemalloc.start()
    try:
        listings = parquet.list_parquet(table, {})
        held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(listing.entries) for listing in listings) == rows
    assert held_bytes / rows < 500
    assert peak_bytes / rows < 1_000


def test_links_in_a_data_set_are_read_where_they_lead_to_a_file_and_named_where_they_loop(tmp_path: Path) -> None:
    make_table(tmp_path / "blobs/1a2b", STARCODER)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/0.parquet").symlink_to("../blobs/1a2b")
    (tmp_path / "set/loop.parquet").symlink_to("loop.parquet")
    (tmp_path / "set/folder").symlink_to("../set")
    results = read(list_repositories([tmp_path / "set"]))
    assert [r.path for r in results if isinstance(r, SourceFile)] == ["a.py", "b.py"]
    assert [(r.path, r.reason) for r in results if isinstance(r, DroppedFile)] == [("loop.parquet", "not_regular")]
