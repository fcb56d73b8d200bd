"""An entry says where its content is, so that any process can read it, and a million of them are not too many."""

import io
import multiprocessing
import pickle
import resource
import tracemalloc
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from tests.corpus.repositories import make_form

from codegemma.corpus.contents import FilePart, Spool
from codegemma.corpus.entries import Entry, Listing
from codegemma.corpus.inputs import list_repositories
from codegemma.corpus.listing import list_repository
from codegemma.errors import OutputError

FILES: dict[str, str | bytes] = {
    "a.py": b"x = 1\r\n\0\xff",
    "empty.py": b"",
    "src/big.py": b"0123456789" * 30_000,
    "src/ü.py": "é\n",
    "vendor/x.py": "x = 1\n",
}
FORMS = ("folder", "tree", "bare.git", "repo.zip", "stored.zip", "repo.tar", "repo.tar.gz")


def read_entry(entry: Entry) -> tuple[str, bytes, bytes]:
    return entry.path, entry.read_bytes(2**20), entry.read_bytes(5)


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_entry_is_read_in_another_process(tmp_path: Path, form: str) -> None:
    listing = list_repository(make_form(tmp_path, form, FILES), scratch=tmp_path / "scratch")
    contents = {path: content.encode() if isinstance(content, str) else content for path, content in FILES.items()}
    contents["vendor/"] = b""
    del contents["vendor/x.py"]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = list(pool.map(read_entry, listing.entries))
    assert {path: content for path, content, _ in there} == contents
    assert there == [read_entry(entry) for entry in listing.entries]
    assert all(start == content[:5] for _, content, start in there)
    assert pickle.loads(pickle.dumps(listing)) == listing  # noqa: S301  # our own, from a line above


@pytest.mark.parametrize("form", FORMS)
def test_content_that_is_gone_is_an_os_error(tmp_path: Path, form: str) -> None:
    root = make_form(tmp_path, form, FILES)
    scratch = tmp_path / "scratch"
    entry = next(e for e in list_repository(root, scratch=scratch).entries if e.path == "src/big.py")
    if form == "bare.git":
        for file in [path for path in (root / "objects").rglob("*") if path.is_file()]:
            file.unlink()
    elif form.startswith("repo.tar"):
        for file in scratch.iterdir():
            file.write_bytes(b"")
    elif root.is_dir():
        (root / entry.path).unlink()
    else:
        root.write_bytes(b"PK nothing any more")
    with pytest.raises(OSError, match=r"\S"):
        entry.read_bytes(9)


@pytest.mark.parametrize("form", ["folder", "tree", "bare.git", "repo.zip", "repo.tar"])
def test_entry_takes_little_memory(tmp_path: Path, form: str) -> None:
    files = 2_000
    tiny: dict[str, str | bytes] = {f"d{n // 100}/module_{n:05}.py": f"x = {n}\n" for n in range(files)}
    root = make_form(tmp_path, form, tiny)
    list_repository(root, scratch=tmp_path)  # what is loaded once is not counted
    measured = []
    for _ in range(3):  # the least of several: other threads' memory counts too
        tracemalloc.start()
        try:
            listing = list_repository(root, scratch=tmp_path)
            measured.append(tracemalloc.get_traced_memory())
        finally:
            tracemalloc.stop()
    held_bytes, peak_bytes = map(min, zip(*measured, strict=True))
    assert len(listing.entries) == files
    # A million entries in half a gigabyte, and less than a gigabyte while they are listed.
    assert held_bytes / files < 500
    assert peak_bytes / files < 1_000
    assert len(pickle.dumps(listing)) / files < 400


def test_spool_has_a_new_name_each_time_and_takes_nothing_over(tmp_path: Path) -> None:
    (tmp_path / "spool-left").write_bytes(b"left by a run that was killed")
    with Spool(tmp_path) as one, Spool(tmp_path) as two:
        parts = [one.keep(b"abc"), two.keep(b"defg"), one.keep(b""), one.keep(b"hi")]
    assert [part.read(3) for part in parts] == [b"abc", b"def", b"", b"hi"]
    assert len({part.file for part in parts}) == 2
    assert FilePart(parts[0].file, 1, 2).read(99) == b"bc"


def test_scratch_of_its_own_goes_with_the_process(tmp_path: Path) -> None:
    root = make_form(tmp_path, "repo.tar", FILES)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        listing = pool.submit(list_repository, root).result()
    parts = [entry.content for entry in listing.entries if isinstance(entry.content, FilePart)]
    assert len(parts) == 4
    assert not any(Path(part.file).exists() for part in parts)


def test_zip_with_bytes_before_it_is_read(tmp_path: Path) -> None:
    root = make_form(tmp_path, "repo.zip", FILES)
    root.write_bytes(b"#!/bin/sh\nexit\n" + root.read_bytes())
    assert {e.path: e.read_bytes(4) for e in list_repository(root).entries}["src/big.py"] == b"0123"


def _list(content: bytes, path: Path) -> Listing:
    path.write_bytes(content)
    return list_repository(path)


def test_locked_zip_member_is_an_os_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.py", "x = 1\n")
    content = bytearray(buffer.getvalue())
    content[6] |= 1  # the local header's flags
    [entry] = _list(bytes(content), tmp_path / "a.zip").entries
    with pytest.raises(OSError, match="a password is needed"):
        entry.read_bytes(9)


@pytest.fixture
def no_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["repo.tar", "web.jsonl"])
def test_full_disk_ends_the_listing_and_is_not_taken_for_a_truncated_input(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    if name == "repo.tar":
        root = make_form(tmp_path, name, FILES)
    else:
        root = tmp_path / name
        root.write_text("".join(f'{{"text": "{"x" * 1000}"}}\n' for _ in range(300)))
    request.getfixturevalue("no_room")
    with pytest.raises(OutputError, match="scratch cannot be written"):
        list_repositories([root], scratch=tmp_path / "scratch")
