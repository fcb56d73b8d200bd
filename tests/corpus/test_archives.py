"""An archive is read as if it had been unpacked, and what is wrong with it is named; nothing goes where names say."""

import contextlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from tests.corpus.repositories import write

from codegemma.corpus import archives
from codegemma.corpus.archives import list_archive
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.entries import Listing
from codegemma.corpus.listing import list_repository
from codegemma.corpus.pipeline import build_corpus
from codegemma.errors import InputError, UserError
from codegemma.records import SourceFile
from codegemma.shards import read_records

FILES: dict[str, str | bytes] = {
    "README.md": "text\n",
    "src/a.py": "def a(x):\n    return x + 1\n",
    "src/b.py": "def b(x):\n    return x + 2\n",
    "src/ü.py": "def u(x):\n    return x + 3\n",
    "node_modules/x/y.py": "z = 1\n",
    "node_modules/x/z.py": "z = 2\n",
}


def _pack_zip(folder: Path, out: Path, top: str = "") -> Path:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, f"{top}{path.relative_to(folder)}")
    return out


def _pack_tar(folder: Path, out: Path, top: str = "") -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.add(path, f"{top}{path.relative_to(folder)}")
    kind = {".zst": "zstd", ".gz": "gzip", ".bz2": "bz2"}.get(out.suffix)
    with pa.output_stream(str(out), compression=kind) as file:
        file.write(buffer.getvalue())
    return out


@pytest.mark.parametrize("name", ["repo.zip", "repo.tar", "repo.tar.gz", "repo.tar.bz2", "repo.tar.zst"])
@pytest.mark.parametrize("top", ["", "repo-1a2b3c/"])
def test_archive_lists_what_its_unpacked_folder_does(tmp_path: Path, name: str, top: str) -> None:
    folder = write(tmp_path / "repo", FILES)
    pack: Callable[..., Path] = _pack_zip if name.endswith(".zip") else _pack_tar
    packed, plain = list_repository(pack(folder, tmp_path / name, top)), list_repository(folder)

    def read(listing: Listing) -> dict[str, tuple[int, tuple[str, str] | None, bytes]]:
        return {e.path: (e.size_bytes, e.refusal, e.read_bytes(1000)) for e in listing.entries}

    assert read(packed) == read(plain)
    assert (packed.repo, packed.commit) == ("repo", None)
    assert packed.entries[-1].read_bytes(3) == plain.entries[-1].read_bytes(3)


def test_corpus_of_an_archive_is_that_of_the_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "repo", FILES)
    choices = CorpusChoices(heldout_share=0.0)
    build_corpus([folder], tmp_path / "one", choices)
    build_corpus([_pack_tar(folder, tmp_path / "repo.tar.zst")], tmp_path / "two", choices)
    one, two = (list(read_records(tmp_path / out / "files-train.parquet", SourceFile)) for out in ("one", "two"))
    assert one == two
    assert len(one) == 3


def test_names_that_lead_out_links_and_devices_are_refused_and_nothing_is_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for name in ("a.py", "../outside.py", "/absolute.py", "deep/../../up.py"):
            info = tarfile.TarInfo(name)
            info.size = 6
            archive.addfile(info, io.BytesIO(b"x = 1\n"))
        for name, kind in (("link.py", tarfile.SYMTYPE), ("hard.py", tarfile.LNKTYPE), ("pipe.py", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name in ("a.py", "../outside.py", "/absolute.py", "deep/../../up.py"):
            archive.writestr(name, "x = 1\n")
        link = zipfile.ZipInfo("link.py")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    before = sorted(os.walk(tmp_path))
    reasons = {"unsafe_path": 3, "symlink": 1}
    for name, wanted in (("bad.tar", {**reasons, "symlink": 2, "not_regular": 1}), ("bad.zip", reasons)):
        listing = list_archive(tmp_path / name)
        found = [e.refusal[0] for e in listing.entries if e.refusal]
        assert {reason: found.count(reason) for reason in found} == wanted
        assert [(e.path, e.read_bytes(99)) for e in listing.entries if e.refusal is None] == [("a.py", b"x = 1\n")]
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.parametrize("name", ["repo.tar", "repo.tar.gz", "repo.tar.zst"])
def test_truncated_tar_gives_what_stood_before_the_break_and_says_so(tmp_path: Path, name: str) -> None:
    # Random digits: a compressed archive must have something to lose.
    digits = os.urandom(200_000).hex()
    folder = write(tmp_path / "repo", {"a.py": "x = 1\n", "b.py": f"y = '{digits}'\n", "c.py": "z = 1\n"})
    packed = _pack_tar(folder, tmp_path / name)
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size * 2 // 3])
    entries = {e.path: e for e in list_archive(packed).entries}
    assert entries["a.py"].read_bytes(99) == b"x = 1\n"
    assert "c.py" not in entries
    assert [e.refusal[0] for e in entries.values() if e.refusal] == ["truncated"]


def test_damaged_zip_member_is_dropped_and_the_next_one_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "repo", {"a.py": "def a(x):\n    return x\n", "b.py": "def b(x):\n    return 2 * x\n"})
    packed = _pack_zip(folder, tmp_path / "repo.zip")
    content = bytearray(packed.read_bytes())
    content[content.index(b"a.py") + len("a.py") + 3] ^= 0xFF
    packed.write_bytes(content)
    report = build_corpus([packed], tmp_path / "out", CorpusChoices(heldout_share=0.0))
    assert report.files_train == 1
    assert [(d.stage, d.reason, d.files) for d in report.dropped] == [("read", "unreadable", 1)]


def test_member_with_a_lying_size_is_read_only_as_far_as_asked(tmp_path: Path) -> None:
    folder = write(tmp_path / "repo", {"a.py": "x" * 1_000_000})
    (entry,) = list_archive(_pack_zip(folder, tmp_path / "repo.zip")).entries
    assert len(entry.read_bytes(1000)) == 1000


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 but no more"])
@pytest.mark.parametrize("name", ["repo.zip", "repo.tar.gz", "repo.tar.zst", "repo.tar"])
def test_what_is_no_archive_is_an_error_that_says_what_to_do(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="download or pack it again"):
        list_repository(tmp_path / name)


@pytest.mark.parametrize("name", ["repo.zip", "repo.tar.zst"])
def test_zip_and_tar_of_too_much_give_what_stood_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(archives, "MIN_BOMB_BYTES", 10_000)
    monkeypatch.setattr(archives, "MAX_EXPANSION", 2)
    folder = write(tmp_path / "repo", {"a.py": "x = 1\n", "b.py": "y = 1\n" * 100_000, "c.py": "z = 1\n"})
    pack: Callable[..., Path] = _pack_zip if name.endswith(".zip") else _pack_tar
    entries = {e.path: e for e in list_archive(pack(folder, tmp_path / name)).entries}
    assert set(entries) == {"a.py", "(the rest of the archive)"}
    assert "unpacks to more than" in str(entries["(the rest of the archive)"].refusal)


def test_tar_of_countless_empty_members_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MIN_BOMB_BYTES", 200_000)
    monkeypatch.setattr(archives, "MAX_EXPANSION", 2)
    folder = write(tmp_path / "repo", {f"{n:04}.py": "" for n in range(1000)})
    entries = list_archive(_pack_tar(folder, tmp_path / "repo.tar.zst")).entries
    assert 100 < len(entries) < 300


def test_absurdly_long_attributes_are_not_read_into_memory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, attributes in (("a.py", {}), ("b.py", {"comment": "x" * 2_000_000}), ("c.py", {})):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = 6, attributes
            archive.addfile(info, io.BytesIO(b"x = 1\n"))
    entries = {e.path: e for e in list_archive(tmp_path / "bad.tar").entries}
    assert set(entries) == {"a.py", "(the rest of the archive)"}
    assert "bytes of attributes" in str(entries["(the rest of the archive)"].refusal)


def test_absurdly_long_map_of_holes_is_not_read(tmp_path: Path) -> None:
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "b.py", "GNU.sparse.realsize": "6"}
    holes = b"1000000\n" + b"0\n" * 2_000_000
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, attributes, content in (("a.py", {}, b"x = 1\n"), ("b.py", sparse, holes)):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(content), attributes
            archive.addfile(info, io.BytesIO(content))
    entries = {e.path: e for e in list_archive(tmp_path / "bad.tar.gz").entries}
    assert set(entries) == {"a.py", "(the rest of the archive)"}
    assert "bytes of attributes" in str(entries["(the rest of the archive)"].refusal)


@pytest.mark.parametrize("name", ["bad.tar.gz", "bad.zip"])
def test_path_that_no_system_opens_is_refused_and_its_beginning_shown(tmp_path: Path, name: str) -> None:
    """A loop through all folders of a path of 200,000 took ten seconds, and went on in every later step."""
    long = "a/" * (30_000 if name.endswith("zip") else 200_000) + "b.py"
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            packed.writestr(long, "x = 1\n")
            packed.writestr("c.py", "x = 1\n")
    else:
        with tarfile.open(tmp_path / name, "w:gz", format=tarfile.PAX_FORMAT) as archive:
            for path in (long, "c.py"):
                info = tarfile.TarInfo(path)
                info.size = 6
                archive.addfile(info, io.BytesIO(b"x = 1\n"))
    entries = list_archive(tmp_path / name).entries
    assert [(e.path[:4], e.refusal and e.refusal[0]) for e in entries] == [("a/a/", "path"), ("c.py", None)]
    assert len(entries[0].path) == 100


def test_claimed_size_of_a_zip_member_that_lies_is_this_members_trouble_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "repo", {"a.py": "x = 1\n" * 1000, "b.py": "y = 1\n"})
    packed = _pack_zip(folder, tmp_path / "repo.zip")
    content = bytearray(packed.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (7).to_bytes(4, "little")  # of 6,000 bytes, as it says
    packed.write_bytes(content)
    entries = {e.path: e for e in list_archive(packed).entries}
    assert entries["a.py"].size_bytes == 7
    with pytest.raises(OSError, match="damaged"):
        entries["a.py"].read_bytes(1_000_000)
    assert entries["b.py"].read_bytes(99) == b"y = 1\n"


@pytest.mark.parametrize("name", ["repo.zip", "repo.tar"])
def test_what_is_packed_twice_is_there_once_as_it_was_packed_last(tmp_path: Path, name: str) -> None:
    contents = [("a.py", "x = 1\n"), ("./a.py", "x = 2\n"), ("b.py", "y = 1\n"), ("a.py", "x = 3\n")]
    if name == "repo.zip":
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path, content in contents:
                archive.writestr(path, content)
    else:
        with tarfile.open(tmp_path / name, "w") as tar:
            for path, content in contents:
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content.encode()))
    entries = list_archive(tmp_path / name).entries
    assert [(e.path, e.read_bytes(9)) for e in entries if e.refusal is None] == [
        ("a.py", b"x = 3\n"),
        ("b.py", b"y = 1\n"),
    ]
    assert [(e.path, e.refusal[0]) for e in entries if e.refusal] == [("a.py", "packed_twice")] * 2


@pytest.mark.parametrize("name", ["repo.zip", "repo.tar"])
def test_folders_with_a_mark_and_git_itself_are_not_entered(tmp_path: Path, name: str) -> None:
    files: dict[str, str | bytes] = {
        "a.py": "x = 1\n",
        ".git/hooks/b.py": "x = 2\n",
        "env3/pyvenv.cfg": "",
        "env3/lib/c.py": "x = 3\n",
        "sub/.git": "gitdir: elsewhere\n",
        "sub/d.py": "x = 4\n",
        "venv/e.py": "x = 5\n",
    }
    folder = write(tmp_path / "repo", files)
    pack: Callable[..., Path] = _pack_zip if name.endswith(".zip") else _pack_tar
    found = {e.path: e.refusal and e.refusal[0] for e in list_archive(pack(folder, tmp_path / name, "top/")).entries}
    assert found == {"a.py": None, "env3/": "environment", "sub/": "submodule", "venv/e.py": None}


def test_name_in_a_tar_that_is_not_utf8_is_dropped_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xff.py")
    folder = write(tmp_path / "repo", {"a.py": "x = 1\n", name: "x = 2\n"})
    entries = {
        e.path: e.refusal and e.refusal[0] for e in list_archive(_pack_tar(folder, tmp_path / "repo.tar")).entries
    }
    assert entries == {"a.py": None, r"b\udcff.py": "path"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_anywhere_in_a_zip_is_a_refusal_or_an_error_of_the_user(tmp_path: Path, method: int) -> None:
    rng = Random(method)
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", method) as archive:
        for number in range(6):
            archive.writestr(f"r/d{number}/mü{number}.py", f"def f{number}(x):\n    return x + {number}\n" * 20)
    content, path = whole.read_bytes(), tmp_path / "damaged.zip"
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 2, 5, 20))):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 255, 0x80, 0x2D, rng.randrange(256)))
        path.write_bytes(damaged[: rng.randrange(len(damaged))] if rng.random() < 0.15 else damaged)
        with contextlib.suppress(UserError):
            for entry in list_archive(path).entries:
                with contextlib.suppress(OSError):
                    entry.read_bytes(1_000_000)
