"""A file is written whole or not at all, and nothing temporary stays behind."""

import os
from pathlib import Path

import pytest

from codegemma.errors import OutputError
from codegemma.files import write_whole


def test_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "results.json"
    write_whole(path, b"old and long")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_folder_in_the_way_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "results.json" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"results\.json: cannot be written"):
        write_whole(tmp_path / "results.json", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_file_where_a_folder_is_wanted_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(OutputError, match="choose another --out"):
        write_whole(tmp_path / "out" / "results.json", b"data")


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    path = tmp_path / "results.json"
    write_whole(path, b"old")
    path.with_name(f".{path.name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
