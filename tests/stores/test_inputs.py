"""Inputs that lie in stores are listed and read as the same files in folders are, whatever breaks on the way."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.corpus.repositories import commit, make_form, write
from tests.stores.wires import Wire, close_connections

from codegemma import places
from codegemma.build import build_data
from codegemma.corpus import copies
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.contents import StoredFile
from codegemma.corpus.copies import Copies
from codegemma.corpus.entries import Content
from codegemma.corpus.forgotten import Removal
from codegemma.corpus.inputs import list_repositories
from codegemma.corpus.pipeline import COPIES, DROPPED_FILE, STEPS, TRAIN_FILE, build_corpus
from codegemma.corpus.read import read_listing
from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole
from codegemma.forget import forget
from codegemma.places import parse_place, remove_object
from codegemma.recipe import from_plain, override, to_plain
from codegemma.recipes import load_recipe
from codegemma.records import DroppedFile, Pack, SourceFile
from codegemma.shards import read_records

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

CHOICES = CorpusChoices()
RECIPE = override(load_recipe("tiny"), ["pack.budget_tokens=200"])
FILES: dict[str, str | bytes] = {
    **{f"d{d}/m{m}.py": f"def f{d}{m}(x):\n    return x + {d * m}\n\n\n" * 3 for d in range(3) for m in range(4)},
    "node_modules/a.js": "var a = 1;\n",
    "empty.py": "",
    "LICENSE": "MIT License\n",
}


def upload(folder: Path, place: Path) -> None:
    for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if file.is_file():
            rest = file.relative_to(folder).as_posix() if folder.is_dir() else ""
            write_whole(place / rest if rest else place, file.read_bytes())


def read_all(inputs: list[Path], scratch: Path | None = None) -> set[tuple[str, ...]]:
    """Read what is listed: kept files with their text, dropped ones with their reason."""
    listings = list_repositories(inputs, scratch=scratch)
    return {
        (file.repo, file.path, file.text) if isinstance(file, SourceFile) else (file.repo, file.path, file.reason)
        for listing in listings
        for file in read_listing(listing, CHOICES)
    }


def make_table(path: Path, repo: str, numbers: range, row_group: int = 4) -> Path:
    rows = [{"path": f"p{n}.py", "repo": repo, "content": f"n{n} = {n}\n" * 3} for n in numbers]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group)
    return path


def make_records(path: Path, numbers: range) -> Path:
    path.write_text("".join(json.dumps({"text": f"Document {n} tells of itself.\n" * 3}) + "\n" for n in numbers))
    return path


@pytest.mark.parametrize("form", ["app.zip", "app.tar.gz"])
def test_archive_in_a_store_reads_as_one_on_disk(out: Path, tmp_path: Path, form: str) -> None:
    local = make_form(tmp_path, form, FILES)
    upload(local, out / form)
    assert read_all([out / form]) == read_all([local])


def test_loose_files_in_a_store_read_as_a_folder_and_are_never_copied(out: Path, tmp_path: Path) -> None:
    local = write(tmp_path / out.name, FILES)
    upload(local, out)
    assert read_all([out], tmp_path / "scratch") == read_all([local])
    assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").rglob("copy-*"))


def test_tables_and_documents_in_a_store_read_as_on_disk(out: Path, tmp_path: Path) -> None:
    tables, texts = tmp_path / "tables", tmp_path / "texts"
    for part in range(3):
        make_table(tables / f"part{part}.parquet", f"repo{part % 2}", range(part * 10, part * 10 + 10))
    texts.mkdir()
    make_records(texts / "a.jsonl", range(5))
    (texts / "note.txt").write_text("A note of some length, in plain words.\n" * 3)
    for folder in (tables, texts):
        upload(folder, out / folder.name)
        assert read_all([out / folder.name]) == read_all([folder])
    assert read_all([out / "tables/part0.parquet"]) == read_all([tables / "part0.parquet"])
    assert read_all([out / "texts/a.jsonl"]) == read_all([texts / "a.jsonl"])


def test_prefix_of_many_kinds_gives_each_its_listing(out: Path, tmp_path: Path) -> None:
    upload(make_form(tmp_path, "app.zip", FILES), out / "deep/app.zip")
    upload(make_table(tmp_path / "t.parquet", "team/table", range(6)), out / "t.parquet")
    upload(make_records(tmp_path / "d.jsonl", range(3)), out / "d.jsonl")
    write_whole(out / "damaged.tar.gz", b"not an archive")
    write_whole(out / "strange.bin", b"\0")
    found = read_all([out])
    assert {file[0] for file in found} == {"app", "team/table", out.name, f"{out.name}#2"}
    assert {file[1:] for file in found if file[0] == f"{out.name}#2"} == {
        ("damaged.tar.gz", "corrupt_archive"),
        ("strange.bin", "language"),
    }


def test_copies_go_when_there_are_too_many_and_come_back_when_read(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    for number in range(4):
        make_table(folder / f"part{number}.parquet", f"repo{number}", range(number * 10, number * 10 + 10))
    (folder / "note.txt").write_text("A note of some length, in plain words.\n" * 3)
    upload(folder, out)
    monkeypatch.setattr(copies, "MAX_COPIES_BYTES", 1)
    listings = list_repositories([out], copies=tmp_path / "copies")
    assert len(list((tmp_path / "copies").rglob("copy-*"))) == 1
    read = {
        file.path for listing in listings for file in read_listing(listing, CHOICES) if isinstance(file, SourceFile)
    }
    assert read == {*(f"p{n}.py" for n in range(40)), "note.txt"}
    assert len(list((tmp_path / "copies").rglob("copy-*"))) == 1


def test_stamps_tell_a_changed_object_and_nothing_else(out: Path, tmp_path: Path) -> None:
    def stamps(copies_folder: str) -> dict[str, str]:
        listings = list_repositories(
            [out / "loose/", out / "t.parquet", out / "a.zip"], copies=tmp_path / copies_folder
        )
        return {f"{listing.repo}/{entry.path}": entry.stamp for listing in listings for entry in listing.entries}

    write_whole(out / "loose/a.py", b"a = 1\n")
    write_whole(out / "loose/b.py", b"b = 1\n")
    upload(make_table(tmp_path / "t.parquet", "t", range(3)), out / "t.parquet")
    upload(make_form(tmp_path, "a.zip", {"x.py": "x = 1\n"}), out / "a.zip")
    first = stamps("one machine")
    assert stamps("another machine") == stamps("one machine") == first
    write_whole(out / "loose/a.py", b"a = 2\n")
    upload(make_table(tmp_path / "t.parquet", "t", range(3, 6)), out / "t.parquet")
    changed = {name for name, stamp in stamps("one machine").items() if first.get(name) != stamp}
    assert changed == {"loose/a.py", "t/p3.py", "t/p4.py", "t/p5.py"}


def test_copy_of_an_object_that_no_input_asks_for_goes(out: Path, tmp_path: Path) -> None:
    for number in range(2):
        upload(make_form(tmp_path / str(number), "a.zip", {f"x{number}.py": "x = 1\n"}), out / "a.zip")
        list_repositories([out / "a.zip"], copies=tmp_path / "copies")
    assert len(list((tmp_path / "copies").rglob("copy-*"))) == 1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("nothing", "nothing there"),
        ("one.py", "a single file; wanted an archive"),
        ("repo.git", "a git repository in a"),
    ],
)
def test_address_that_cannot_be_read_is_an_input_error_that_says_what_to_do(
    out: Path, tmp_path: Path, key: str, message: str
) -> None:
    write_whole(out / "one.py", b"a = 1\n")
    upload(make_form(tmp_path, "bare.git", FILES), out / "repo.git")
    with pytest.raises(InputError, match=rf"://bucket/.*/{key}: {message}"):
        list_repositories([out / key])


def test_address_is_the_same_with_a_slash_at_its_end(out: Path) -> None:
    write_whole(out / "loose/a.py", b"a = 1\n")
    assert read_all([parse_place(f"{out}/loose/")]) == {("loose", "a.py", "a = 1\n")}
    with pytest.raises(InputError, match="given twice"):
        list_repositories([out / "loose", parse_place(f"{out}/loose/")])


def test_working_tree_in_a_store_is_read_without_its_git_folder(out: Path, tmp_path: Path) -> None:
    tree = write(tmp_path / out.name, FILES)
    commit(tree)
    upload(tree, out)
    assert {file[1] for file in read_all([out])} == {file[1] for file in read_all([tree])}


def test_hostile_keys_are_refused_one_by_one(out: Path) -> None:
    for key in ("ok.py", "x\\y.py", "tab\there.py", "ünï/cödé.py"):
        write_whole(out / key, b"a = 1\n")
    found = {file[1]: file[2] for file in read_all([out])}
    assert found == {
        "ok.py": "a = 1\n", "x\\y.py": "unsafe_path", "tab\\x09here.py": "path", "ünï/cödé.py": "a = 1\n",
    }  # fmt: skip


def test_wire_that_breaks_twice_while_inputs_are_read_costs_only_time(out: Path, tmp_path: Path, wire: Wire) -> None:
    local = make_form(tmp_path, "app.zip", FILES)
    upload(local, out / "app.zip")
    upload(write(tmp_path / "loose", FILES), out / "loose")
    fresh = parse_place(str(out))
    close_connections(fresh)
    wire.cut_bytes, wire.cuts = 100, 2
    found = read_all([fresh / "app.zip", fresh / "loose"], tmp_path / "scratch")
    assert wire.connections_cut == 2
    assert {file for file in found if file[0] == "app"} == read_all([local])


def test_object_that_stays_out_of_reach_is_reported_and_picked_up_by_the_next_build(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(make_form(tmp_path, "app.zip", FILES), out / "packed/app.zip")
    upload(make_form(tmp_path / "other", "lost.zip", {"lost.py": "lost = 1\n" * 9}), out / "packed/lost.zip")
    loose = {f"l{n}.py": f"l{n} = {n}\n" * 9 for n in range(6)}
    upload(write(tmp_path / "loose", {**loose, "LICENSE.txt": "Licensed under the MIT License\n"}), out / "loose")
    store = out.fs  # type: ignore[attr-defined]
    whole = {"get_file": store.get_file, "cat_file": store.cat_file}
    for name, real in whole.items():

        def act(key: str, *rest: object, real: Callable[..., object] = real, **options: object) -> object:
            if "lost" in key or key.endswith(("l3.py", "LICENSE.txt")):
                raise ConnectionError("the line is dead")
            return real(key, *rest, **options)

        monkeypatch.setattr(store, name, act)
    monkeypatch.setattr(places, "ATTEMPTS", 1)
    inputs, data = [out / "packed", out / "loose"], tmp_path / "data"
    report = build_corpus(inputs, data, CHOICES)
    dropped = {
        drop.path: drop for drop in read_records(data / DROPPED_FILE, DroppedFile) if drop.reason == "unreachable"
    }
    assert dropped.keys() == {"lost.zip", "l3.py", "LICENSE.txt"}
    assert "the line is dead" in dropped["l3.py"].detail
    assert any("3 files or objects could not be reached" in note for note in report.notes)
    for name, real in whole.items():
        monkeypatch.setattr(store, name, real)
    kept = {file.name for file in (data / STEPS).glob("texts-*")}
    again = build_corpus(inputs, data, CHOICES)
    assert not again.is_reused
    assert kept
    assert {"lost.py", "l3.py"} <= {file.path for file in read_all_texts(data)}
    # What its store did not give must not pass for files without a licence.
    assert {file.license for file in read_all_texts(data) if file.repo == "loose"} == {"MIT"}
    assert build_corpus(inputs, data, CHOICES).is_reused


def read_all_texts(data: Path) -> list[SourceFile]:
    return [
        file
        for name in (TRAIN_FILE, TRAIN_FILE.replace("train", "heldout"))
        for file in read_records(data / name, SourceFile)
    ]


def test_object_that_goes_after_it_was_listed_is_unreachable_not_a_crash(out: Path, tmp_path: Path) -> None:
    upload(make_table(tmp_path / "t.parquet", "t", range(4)), out / "t.parquet")
    write_whole(out / "loose/a.py", b"a = 1\n")
    [table, loose] = list_repositories([out / "t.parquet", out / "loose"], copies=tmp_path / "copies")
    for copy in (tmp_path / "copies").rglob("copy-*"):
        copy.unlink()
    remove_object(out / "t.parquet")
    remove_object(out / "loose/a.py")
    read = [file for listing in (table, loose) for file in read_listing(listing, CHOICES)]
    assert {file.reason for file in read if isinstance(file, DroppedFile)} == {"unreachable"}
    assert len(read) == 5


def test_full_disk_is_an_output_error_not_a_damaged_input(out: Path, tmp_path: Path) -> None:
    write_whole(out / "app.zip", bytes(5_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OutputError, match=r"copies/.*cannot be written \(File too large\); make room"):
            list_repositories([out], copies=tmp_path / "copies")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "copies").rglob("*copy-*"))


def test_copies_are_for_their_owner_alone_and_go_when_something_is_forgotten(out: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        files = {f"{name}{n}.py": f"def {name}{n}(x):\n    return x + {n}\n" * 9 for n in range(9)}
        upload(make_form(tmp_path / name, f"{name}.zip", dict(files)), out / f"{name}.zip")
    data = tmp_path / "data"
    build_data([out / "one.zip", out / "two.zip"], data, RECIPE)
    assert len(list((data / COPIES).rglob("copy-*"))) == 2
    assert (data / COPIES).stat().st_mode & 0o077 == 0
    forget(data, Removal("two", ()))
    assert not (data / COPIES).exists()


def test_whole_bucket_is_an_input_named_after_itself(out: Path) -> None:
    bucket = parse_place(f"{str(out).partition(':')[0]}://alone")
    bucket.fs.mkdir("alone")  # type: ignore[attr-defined]
    write_whole(bucket / "a.py", b"a = 1\n")
    assert read_all([bucket]) == {("alone", "a.py", "a = 1\n")}


def test_contents_in_a_store_travel_to_a_cluster_as_plain_data(out: Path) -> None:
    content = StoredFile(str(out), "a.py", 6)
    write_whole(out / "a.py", b"a = 1\n")
    back = from_plain(Content, json.loads(json.dumps(to_plain(content))))
    assert back == content
    assert (back.read(100), back.read(3)) == (b"a = 1\n", b"a =")


def test_full_scratch_is_an_output_error_that_names_it(out: Path, tmp_path: Path) -> None:
    upload(make_form(tmp_path, "app.zip", FILES), out / "app.zip")
    (tmp_path / "copies").write_text("in the way")
    with pytest.raises(OutputError, match=r"copies/.*cannot be written"):
        Copies(tmp_path / "copies").fetch(out / "app.zip", places.StoredObject(1, "m"))


def test_build_of_a_store_into_a_store_is_that_of_the_same_files_here(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local = make_form(
        tmp_path, "app.tar.gz", {f"d{n % 4}/m{n}.py": f"def f{n}(x):\n    return x\n" * 9 for n in range(30)}
    )
    upload(local, out / "in/app.tar.gz")
    work = tmp_path / "work"
    build_data([out / "in/"], out / "out", RECIPE, work=work)
    build_data([local], tmp_path / "here", RECIPE)
    packs = [
        [pack.pack_id for pack in read_records(data / "packs-train.parquet", Pack)]
        for data in (work, tmp_path / "here")
    ]
    assert packs[0] == packs[1]
    assert packs[0]
