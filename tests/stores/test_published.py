"""A build for an address: published whole, resumed, taken up by another machine, read back by every verb."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.corpus.repositories import write
from tests.stores.wires import Wire, close_connections

from codegemma import places, published
from codegemma.build import build_data, choose_work
from codegemma.corpus.forgotten import Removal
from codegemma.corpus.ledger import LEDGER_FILE
from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole
from codegemma.forget import forget
from codegemma.pack.pipeline import STEPS
from codegemma.places import get_bytes, list_names, list_objects, parse_place, remove_object
from codegemma.published import MANIFEST, choose_work_folder, is_published_whole, lend_build, read_publication
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.records import Pack, SourceFile
from codegemma.runner import LocalRunner, SlurmRunner
from codegemma.shards import hash_files, list_parts, read_records

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

RECIPE = override(load_recipe("tiny"), ["pack.budget_tokens=200"])
OTHER = override(RECIPE, ["pack.budget_tokens=400"])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "codegemma"
    let_go()


def let_go() -> None:
    """End what holds copies, as the end of a process does."""
    while published._held:
        published._held.pop().close()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return write(tmp_path / "repo", {f"d{n % 5}/m{n}.py": spell(n) for n in range(40)})


def spell(number: int) -> str:
    return "".join(f"def f{number}_{i}(x{number}):\n    return x{number} * {number + i}\n\n\n" for i in range(9))


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is put into a store, by name."""
    seen: list[str] = []
    for name in ("put_file", "put_bytes"):
        act = getattr(places, name)

        def put(place: Path, data: object, act: Callable[..., None] = act) -> None:
            act(place, data)
            seen.append(place.name)

        monkeypatch.setattr(published, name, put)
    return seen


def is_wanted(name: str) -> bool:
    return name.startswith("packs-")


def read_packs(data: Path) -> list[str]:
    return [pack.pack_id for pack in read_records(data / "packs-train.parquet", Pack)]


def test_published_build_is_lent_as_the_build_of_a_local_folder(out: Path, repo: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    assert build_data([repo], out, RECIPE).packs.splits == build_data([repo], local, RECIPE).packs.splits
    data = lend_build(out, is_wanted)
    for name in ("packs-train.parquet", "packs-heldout.parquet"):
        assert hash_files(list_parts(data / name)) == hash_files(list_parts(local / name))
    assert not (data / "files-train.parquet").exists()
    assert b"in = kept + dropped" in get_bytes(out / "report.html")
    assert lend_build(local, is_wanted) == local


def test_rerun_uploads_nothing_and_a_change_only_what_changed(out: Path, repo: Path, uploads: list[str]) -> None:
    build_data([repo], out, RECIPE)
    assert uploads[-1] == MANIFEST
    uploads.clear()
    again = build_data([repo], out, RECIPE)
    assert (uploads, again.corpus.is_reused, again.packs.is_reused) == ([], True, True)
    build_data([repo], out, OTHER)
    names = {name.partition("-")[0] for name in uploads}
    assert names == {"packs", "part", "corpus", "report.html", MANIFEST} - {"corpus"}
    assert not any(name.startswith("sides") for name in uploads)


def test_parts_that_no_build_names_go_after_the_manifest(out: Path, repo: Path) -> None:
    build_data([repo], out, RECIPE)
    before = set(list_objects(out))
    write_whole(out / "theirs.txt", b"not ours to remove")
    build_data([repo], out, OTHER)
    publication = read_publication(out)
    assert publication is not None
    there = set(list_objects(out))
    assert there == {file.key for file in publication.files} | {MANIFEST, ".lock", "report.html", "theirs.txt"}
    assert before - there


@pytest.mark.parametrize("died_at", ["put_bytes", "remove_object"])
def test_kill_while_publishing_leaves_a_whole_build(
    out: Path, repo: Path, uploads: list[str], monkeypatch: pytest.MonkeyPatch, died_at: str
) -> None:
    build_data([repo], out, RECIPE)
    before = read_packs(lend_build(out, is_wanted))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(published, died_at, die)
        build_data([repo], out, OTHER)
    publication = read_publication(out)
    assert publication is not None
    assert is_published_whole(out, publication)
    after = read_packs(lend_build(out, is_wanted))
    assert (after == before) is (died_at == "put_bytes")
    uploads.clear()
    build_data([repo], out, OTHER)
    assert all(name in (MANIFEST, "report.html") or name.startswith(("packs-", "corpus-")) for name in uploads)
    assert read_packs(lend_build(out, is_wanted)) != before


def test_new_machine_rebuilds_nothing_where_the_build_is_published(
    out: Path, repo: Path, uploads: list[str], tmp_path: Path
) -> None:
    first = build_data([repo], out, RECIPE)
    uploads.clear()
    again = build_data([repo], out, RECIPE, work=tmp_path / "machine")
    assert again.packs.splits == first.packs.splits
    assert uploads == []
    assert not (tmp_path / "machine" / STEPS).exists()


def test_new_machine_keeps_held_out_what_was_held_out(out: Path, repo: Path, tmp_path: Path) -> None:
    build_data([repo], out, RECIPE)
    held = lend_build(out, lambda name: name == LEDGER_FILE)
    ledger = (held / LEDGER_FILE).read_bytes()
    write(repo, {"new/file.py": spell(99)})
    build_data([repo], out, RECIPE, work=tmp_path / "machine")
    now = {file.path for pack in read_heldout(out) for file in pack.files}
    first = {
        file.path
        for pack in read_records(choose_work_folder(out) / "packs-heldout.parquet", Pack)
        for file in pack.files
    }
    assert first <= now
    # The first machine goes on from what the second has published.
    write(repo, {"new/other.py": spell(77)})
    build_data([repo], out, RECIPE)
    assert now <= {file.path for pack in read_heldout(out) for file in pack.files}
    assert ledger != (lend_build(out, lambda name: name == LEDGER_FILE) / LEDGER_FILE).read_bytes()


def read_heldout(out: Path) -> list[Pack]:
    return list(read_records(lend_build(out, is_wanted) / "packs-heldout.parquet", Pack))


def test_object_that_somebody_removed_is_uploaded_again(out: Path, repo: Path, uploads: list[str]) -> None:
    build_data([repo], out, RECIPE)
    publication = read_publication(out)
    assert publication is not None
    lost = next(file for file in publication.files if file.name.startswith("packs-train"))
    remove_object(out / lost.key)
    with pytest.raises(InputError, match=r"build\.json names an object that is gone"):
        lend_build(out, is_wanted)
    uploads.clear()
    build_data([repo], out, RECIPE)
    assert set(uploads) == {Path(lost.key).name, "report.html", MANIFEST}
    assert read_packs(lend_build(out, is_wanted))


@pytest.mark.parametrize("cut_bytes", [0, 200])
def test_wire_that_breaks_while_publishing_and_lending_costs_only_time(
    out: Path, repo: Path, wire: Wire, cut_bytes: int, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    build_data([repo], work, RECIPE)
    fresh = parse_place(str(out))
    close_connections(fresh)
    wire.cut_bytes, wire.cuts = cut_bytes, 2
    build_data([repo], fresh, RECIPE, work=work)
    close_connections(fresh)
    wire.cuts += 2
    data = lend_build(fresh, is_wanted)
    assert wire.connections_cut >= 3
    assert read_packs(data) == read_packs(work)


def test_upload_that_fails_is_named_the_rest_goes_on_and_a_rerun_does_it(
    out: Path, repo: Path, uploads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = vars(published)["put_file"]  # which remembers what it uploads

    def fail_once(place: Path, file: Path) -> None:
        if place.name.startswith("dropped-"):
            raise OutputError(f"{place}: the store did not do it")
        put(place, file)

    with monkeypatch.context() as patch:
        patch.setattr(published, "put_file", fail_once)
        with pytest.raises(OutputError, match=r"/dropped-.*the store did not do it.*run again for the rest"):
            build_data([repo], out, RECIPE)
    assert read_publication(out) is None
    assert any(name.startswith("part-") for name in uploads)
    uploads.clear()
    build_data([repo], out, RECIPE)
    assert {name.partition("-")[0] for name in uploads} == {"dropped", "report.html", MANIFEST}
    assert read_publication(out) is not None


def test_damaged_object_and_manifest_are_input_errors_that_name_them(out: Path, repo: Path, tmp_path: Path) -> None:
    build_data([repo], out, RECIPE)
    publication = read_publication(out)
    assert publication is not None
    part = next(file for file in publication.files if file.name.startswith("packs-train"))
    write_whole(out / part.key, os.urandom(part.size_bytes))
    with pytest.raises(InputError, match=rf"{part.key}: damaged"):
        lend_build(out, is_wanted)
    outside = {"name": "../../evil", "key": part.key, "size_bytes": part.size_bytes}
    for text in ("{", "[]", json.dumps({"choices": "", "files": [outside]})):
        write_whole(out / MANIFEST, text.encode())
        with pytest.raises(InputError, match=r"build\.json: damaged or of another version"):
            lend_build(out, lambda _: True)
    assert not list(tmp_path.rglob("evil"))


def test_copy_that_a_reader_holds_stays_and_an_idle_one_goes(out: Path, repo: Path) -> None:
    build_data([repo], out, RECIPE)
    first = lend_build(out, is_wanted)
    build_data([repo], out, OTHER)
    second = lend_build(out, is_wanted)
    assert (first.exists(), second.exists()) == (True, True)
    let_go()
    assert lend_build(out, is_wanted) == second
    assert not first.exists()


def test_address_without_a_build_bucket_or_permission_is_refused_before_anything_is_built(
    wire: Wire, repo: Path, cache: Path, request, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = request.node.callspec.params["wire"]
    with pytest.raises(InputError, match="no finished build here"):
        lend_build(parse_place(f"{scheme}://bucket/nothing"), is_wanted)
    with pytest.raises(OutputError, match=r"://nobody-has-this/.*no such bucket"):
        build_data([repo], parse_place(f"{scheme}://nobody-has-this/x"), RECIPE)
    theirs = parse_place(f"{scheme}://bucket/theirs-{request.node.originalname}")
    if scheme == "s3" and not theirs.fs.exists("bucket"):  # type: ignore[attr-defined]
        theirs.fs.mkdir("bucket")  # type: ignore[attr-defined]
    write_whole(theirs / "thesis.doc", b"")
    with pytest.raises(OutputError, match=r"holds something else \(thesis.doc\)"):
        build_data([repo], theirs, RECIPE)
    assert list_names(theirs) == ["thesis.doc"]

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(theirs.fs, "pipe_file", refuse)  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=r"not permitted \(Forbidden\); look at the credentials"):
        build_data([repo], theirs.parent / "mine", RECIPE)
    assert not cache.exists()


def test_what_is_forgotten_in_the_work_folder_leaves_the_store_with_the_next_build(
    out: Path, repo: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", {f"o{n}.py": spell(100 + n) for n in range(9)})
    build_data([repo, other], out, RECIPE)
    forget(choose_work_folder(out), Removal("other", ()))
    build_data([repo, other], out, RECIPE)
    data = lend_build(out, lambda _: True)
    texts = b"".join(file.read_bytes() for file in data.rglob("*") if file.is_file())
    assert {pack.repo for pack in read_records(data / "packs-train.parquet", Pack)} == {"repo"}
    assert {file.repo for file in read_records(data / "files-train.parquet", SourceFile)} == {"repo"}
    assert b"o3.py" not in texts
    publication = read_publication(out)
    assert publication is not None
    assert set(list_objects(out)) == {file.key for file in publication.files} | {MANIFEST, ".lock", "report.html"}


def test_full_disk_while_a_build_is_lent_is_an_output_error_and_leaves_no_half_file(
    out: Path, repo: Path, cache: Path
) -> None:
    build_data([repo], out, RECIPE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OutputError, match=r"part-00000.*cannot be written \(File too large\); make room"):
            lend_build(out, is_wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((cache / "data").rglob("*part-*"))
    assert read_packs(lend_build(out, is_wanted))


def test_work_folder_on_a_cluster_is_where_its_machines_see_it(out: Path, cache: Path) -> None:
    assert choose_work(out, LocalRunner(2)).parent == cache / "builds"
    assert choose_work(out, SlurmRunner("cpu", folder="/shared/runs")).parent == Path("/shared/runs")
    other = parse_place(f"{out}-other")
    assert len({choose_work(place, LocalRunner()) for place in (out, other, parse_place(f"{out}/"))}) == 2
