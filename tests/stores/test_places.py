"""Records, manifests and receipts go to S3 and to Google Cloud Storage and come back, over a wire that breaks."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stores.wires import Wire, close_connections

from codegemma import places
from codegemma.errors import InputError, MissingExtraError, OutputError
from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.places import get_bytes, list_names, open_local, parse_place, size_bytes
from codegemma.records import DroppedFile, SourceFile
from codegemma.shards import count_records, read_records, write_records

# aiohttp's advice to gcsfs.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

FILES = [SourceFile("r", f"{i}.py", "python", f"ß = {i}\r\n" * 5000, "0" * 40) for i in range(300)]


def test_records_come_back_and_are_the_bytes_of_a_local_file(out: Path, tmp_path: Path) -> None:
    assert write_records(out / "f.parquet", FILES) == len(FILES)
    write_records(tmp_path / "f.parquet", FILES)
    assert get_bytes(out / "f.parquet") == (tmp_path / "f.parquet").read_bytes()
    assert list(read_records(out / "f.parquet", SourceFile)) == FILES
    assert count_records(out / "f.parquet") == len(FILES)


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n--==0==--", b"\0", b" "])
def test_every_last_byte_of_an_object_stays(out: Path, end: bytes) -> None:
    places.put_bytes(out / "end", b"a" + end)
    assert get_bytes(out / "end") == b"a" + end


def test_large_upload_in_parts_is_whole(out: Path, tmp_path: Path) -> None:
    # The emulator of Google's takes no upload in parts, which begins at 50 MB.
    data = os.urandom(1 << 20) * (40 if str(out).startswith("gs") else 120)
    (tmp_path / "large").write_bytes(data)
    places.put_file(out / "large", tmp_path / "large")
    assert size_bytes(out / "large") == len(data)
    with open_local(out / "large") as copy:
        assert copy.read_bytes() == data
    assert not copy.exists()


def test_failing_source_leaves_no_object_and_the_old_one_whole(out: Path) -> None:
    def failing() -> Iterator[SourceFile]:
        yield from FILES
        raise RuntimeError("the source broke")

    for old in (None, FILES[:3]):
        if old is not None:
            write_records(out / "f", old)
        with pytest.raises(RuntimeError, match="the source broke"):
            write_records(out / "f", failing())
        assert list_names(out) == ([] if old is None else ["f"])
    assert list(read_records(out / "f", SourceFile)) == FILES[:3]


def test_whole_file_replaces_the_old_one(out: Path) -> None:
    write_whole(out / "deep" / "a.json", b"old and long")
    write_whole(out / "deep" / "a.json", b"new")
    assert (get_bytes(out / "deep" / "a.json"), size_bytes(out / "deep" / "a.json")) == (b"new", 3)
    assert list_names(out) == ["deep"]


def test_damaged_missing_and_foreign_objects_are_input_errors_that_name_the_address(out: Path) -> None:
    with pytest.raises(InputError, match=r"://bucket/.*/none: no such file"):
        list(read_records(out / "none", SourceFile))
    write_whole(out / "torn", b"PAR1")
    with pytest.raises(InputError, match=r"://bucket/.*/torn: truncated"):
        list(read_records(out / "torn", SourceFile))
    with pytest.raises(InputError, match=r"://bucket/.*/torn: truncated"):
        count_records(out / "torn")
    write_records(out / "other", [], DroppedFile)
    with pytest.raises(InputError, match="not SourceFile records"):
        list(read_records(out / "other", SourceFile))


def test_address_with_other_peoples_files_is_refused(out: Path) -> None:
    with hold_folder(out / "ours"):
        write_whole(out / "ours" / "packs.json", b"{}")
    with hold_folder(out / "ours"):
        pass
    write_whole(out / "theirs" / "thesis.doc", b"")
    with pytest.raises(OutputError, match=r"holds something else \(thesis.doc\)"), hold_folder(out / "theirs"):
        pass


@pytest.mark.parametrize("cut_bytes", [0, 40, 3000])
def test_wire_that_breaks_twice_costs_nothing_but_time(out: Path, wire: Wire, cut_bytes: int) -> None:
    write_records(out / f"read-{cut_bytes}", FILES)
    fresh = parse_place(str(out))
    close_connections(fresh)
    wire.cut_bytes, wire.cuts = cut_bytes, 2
    write_records(fresh / f"written-{cut_bytes}", FILES)
    close_connections(fresh)
    wire.cuts += 2
    assert list(read_records(fresh / f"read-{cut_bytes}", SourceFile)) == FILES
    assert wire.connections_cut >= 2
    wire.cuts = 0
    assert get_bytes(out / f"written-{cut_bytes}") == get_bytes(out / f"read-{cut_bytes}")


@pytest.mark.slow
def test_wire_that_stays_cut_is_a_clear_error(out: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ATTEMPTS", 1)  # each is half a minute of gcsfs's own
    write_whole(out / "f", b"old")
    close_connections(out)
    cut = parse_place(str(out))
    wire.cuts = 10**9
    with pytest.raises(OutputError, match=r"://bucket/.*/f: the store did not do it, asked 1 time.*look at the conn"):
        write_whole(cut / "f", b"new")
    assert wire.connections_cut >= 5
    with pytest.raises(InputError, match=r"://bucket/.*/f: the store did not do it, asked 1 time.*look at the conn"):
        get_bytes(cut / "f")
    wire.cuts = 0
    assert get_bytes(out / "f") == b"old"


def test_act_that_fails_is_tried_again_whatever_its_class(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StrangeError(Exception):
        """As gcsfs's, which is no OSError."""

    store, failures = out.fs, [StrangeError("half")] * (places.ATTEMPTS - 1)  # type: ignore[attr-defined]
    whole = store.pipe_file

    def pipe_file(*args, **options):
        if failures:
            raise failures.pop()
        return whole(*args, **options)

    monkeypatch.setattr(store, "pipe_file", pipe_file)
    write_whole(out / "f", b"data")
    assert (failures, get_bytes(out / "f")) == ([], b"data")
    failures.extend([StrangeError("half")] * places.ATTEMPTS)
    with pytest.raises(OutputError, match=rf"asked {places.ATTEMPTS} time.*half"):
        write_whole(out / "f", b"more")


def test_bucket_that_is_not_there_is_an_output_error(wire: Wire, request) -> None:
    scheme = request.node.callspec.params["wire"]
    with pytest.raises(OutputError, match=r"://nobody-has-this/x"):
        write_whole(parse_place(f"{scheme}://nobody-has-this/x"), b"data")


@pytest.mark.parametrize("text", ["ftp://host/x", "s3:///key", "gs://", "http://host/x"])
def test_address_that_is_no_store_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match=r"wanted|which bucket"):
        parse_place(text)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(MissingExtraError, match=r"install codegemma\[cloud\]"):
        parse_place("s3://bucket/x")


def test_text_without_a_scheme_is_a_local_path() -> None:
    assert parse_place("a/b:c") == Path("a/b:c")
