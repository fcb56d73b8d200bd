import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.errors import InputError
from codegemma.text.cursor import find_offset, read_cursor, read_text, spell_path


@given(st.text(alphabet=st.sampled_from("ab\n\r𝒳\té"), max_size=40), st.data())
def test_every_offset_outside_a_line_end_has_exactly_one_line_and_column(text: str, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(text)))
    if text[max(offset - 1, 0) : offset + 1] == "\r\n":
        return
    lines = text[:offset].replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert find_offset(text, len(lines), len(lines[-1]) + 1) == offset


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        (4, 1, r"^line 4 is past the end: x\.py has 3 lines$"),
        (1, 4, r"^column 4 is past the end: line 1 of x\.py has 2 characters; columns 1 to 3 are places in it$"),
        (0, 1, "count from 1"),
        (1, 0, "count from 1"),
    ],
)
def test_place_outside_the_text_says_what_is_allowed(line: int, column: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_offset("ab\nc\n", line, column, "x.py")


def test_cursor_cuts_the_file_and_names_it_from_its_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "src").mkdir()
    file = tmp_path / "src/a:b.py"
    file.write_bytes("x = '𝒳'\r\ny\r\n".encode())
    cursor = read_cursor(f"{file}:1:7")
    assert (cursor.prefix, cursor.suffix) == ("x = '𝒳", "'\r\ny\r\n")
    assert cursor.path == "src/a:b.py"
    assert cursor.file == file


def test_path_outside_a_repository_is_told_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert spell_path(Path("pkg/a.py")) == spell_path(tmp_path / "pkg/a.py") == "pkg/a.py"
    assert spell_path(Path("/elsewhere/a.py")) == "/elsewhere/a.py"
    (tmp_path / "here/.git").mkdir(parents=True)
    (tmp_path / "there/.git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert spell_path(Path("../there/pkg/a.py")) == "pkg/a.py"


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert read_cursor(f"{tmp_path / 'a.py'}:1:2").prefix == "x"


@pytest.mark.parametrize("place", ["a.py", "a.py:3", "a.py:x:1", ":1:1", "a.py:1:-2", "a.py:1:9999999999"])
def test_place_of_another_form_is_refused_with_an_example(place: str) -> None:
    with pytest.raises(InputError, match=r"wanted FILE:LINE:COLUMN, such as src/app\.py:12:8"):
        read_cursor(place)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\0b", "binary"), (b"ok\xff", r"not UTF-8 \(byte 2\)"), (b"x" * 20_000_001, "20,000,00")],
)
def test_file_that_is_no_source_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_text(file)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_cursor(f"{tmp_path / 'missing.py'}:1:1")
    with pytest.raises(InputError, match="is a folder"):
        read_cursor(f"{tmp_path}:1:1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.touch(mode=0)
    with pytest.raises(InputError, match="Permission denied"):
        read_text(file)
