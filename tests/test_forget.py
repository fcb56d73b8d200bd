"""A removal leaves no byte of what was asked for, changes nothing else, and is finished after a kill at any moment."""

import dataclasses
import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.corpus.repositories import write

from codegemma import build as build_module
from codegemma import forget as forget_module
from codegemma import removal as removal_module
from codegemma.build import BuildReport, build_data
from codegemma.corpus import partition
from codegemma.corpus.forgotten import FORGOTTEN_FILE, Removal, read_forgotten
from codegemma.corpus.judge import TRAINED_EARLIER as EARLIER
from codegemma.corpus.ledger import LEDGER_FILE, Side
from codegemma.corpus.pipeline import DROPPED_FILE, HELDOUT_FILE, TRAIN_FILE, build_corpus
from codegemma.corpus.removal import remove_files
from codegemma.corpus.report import read_manifest
from codegemma.errors import InputError, OutputError
from codegemma.folders import REMOVAL_FOLDER
from codegemma.forget import forget
from codegemma.pack import pipeline as pack_pipeline
from codegemma.pack.report import read_manifest as read_pack_manifest
from codegemma.recipe import override
from codegemma.recipes import Recipe, load_recipe
from codegemma.records import DroppedFile, Pack, SourceFile, Split
from codegemma.shards import find_output, list_parts, read_records, write_records

REPOS = ("alder", "birch", "cedar", "dogwood")
RECIPE: Recipe = override(load_recipe("tiny"), ["corpus.heldout_share=0.3", "pack.budget_tokens=250"])


@pytest.fixture(autouse=True)
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small shards and parts, as a large corpus has."""
    monkeypatch.setattr(partition, "MIN_SHARD_BYTES", 700)
    monkeypatch.setattr(partition, "FILES_PER_END", 2)
    monkeypatch.setattr(pack_pipeline, "WRITE_CHARS", 900)
    monkeypatch.setattr(pack_pipeline, "LINK_FILES", 7)


def module(repo: str, name: str) -> str:
    """Write code whose every line names its repository and file, and that shares nothing with another's."""
    word = f"{repo}_{name}".replace("/", "_")
    imports = f"from {repo}.a.base import {word}_start\n\n\n" if name != "a/base" else ""
    return imports + "".join(f"def {word}_{n}({word}_x):\n    return {word}_x + {n}  # {word}\n\n\n" for n in range(4))


def sources(repo: str) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {
        f"{name}.py": module(repo, name)
        for name in ("a/base", "a/one", "a/two", "b/three", "b/four", "c/five", "c/six", "people/jane", "people/joe")
    }
    files["a/again.py"] = files["a/one.py"]
    files["a/broken.py"] = f"def ({repo}_broken:\n  ))) = = class ]\n"
    files["people/contact.py"] = module(repo, "contact") + f"mail = '{repo}.someone@corp-{repo}.org'\n"
    files["read.me"] = f"{repo}_readme\n"
    files["pyproject.toml"] = f"[project]\nname = '{repo}_package'\n"
    return files


def make_repos(folder: Path, names: tuple[str, ...] = REPOS) -> list[Path]:
    return [write(folder / name, sources(name)) for name in names]


def read_everything(data: Path) -> dict[str, bytes]:
    """Read each file below a folder, Parquet as its uncompressed records."""
    found = {}
    for path in sorted(data.rglob("*")):
        if path.is_file():
            name = path.relative_to(data).as_posix()
            is_parquet = path.suffix == ".parquet"
            found[name] = repr(pq.ParquetFile(path).read().to_pydict()).encode() if is_parquet else path.read_bytes()
    return found


def list_traces(data: Path, word: str) -> list[str]:
    return [
        name for name, content in read_everything(data).items() if word.encode() in content and name != FORGOTTEN_FILE
    ]


def stamp_parts(data: Path) -> dict[str, tuple[bytes, int]]:
    parts = [part for name in (TRAIN_FILE, HELDOUT_FILE, *pack_pipeline.OUTPUTS) for part in list_parts(data / name)]
    return {part.relative_to(data).as_posix(): (part.read_bytes(), part.stat().st_mtime_ns) for part in parts}


def read_packs(data: Path) -> dict[str, list[str]]:
    """Read the packs of each split: all that is in them, as text."""
    return {
        split: [
            repr(row) for part in list_parts(data / f"packs-{split}.parquet") for row in pq.read_table(part).to_pylist()
        ]
        for split in Split
    }


def check_counts(data: Path) -> None:
    """Hold that every file is counted once and the manifests are those of the files."""
    corpus, packs = read_manifest(data), read_pack_manifest(data)
    assert corpus is not None
    assert packs is not None
    dropped = list(read_records(data / DROPPED_FILE, DroppedFile))
    files = {split: list(read_records(data / f"files-{split}.parquet", SourceFile)) for split in Split}
    assert sum(repo.files_listed for repo in corpus.repos) == corpus.stages[0].files_in
    assert corpus.stages[0].files_in == sum(map(len, files.values())) + len(dropped)
    assert all(stage.files_in == stage.files_kept + stage.files_dropped for stage in corpus.stages)
    assert (corpus.files_train, corpus.files_heldout) == tuple(len(files[split]) for split in Split)
    assert sum(row.files for row in corpus.licenses) == corpus.files_train + corpus.files_heldout
    for split in Split:
        count, found = packs.splits[split], list(read_records(data / f"packs-{split}.parquet", Pack))
        assert count.files_in == count.files_packed + count.files_dropped == len(files[split])
        assert (count.packs, count.files_packed) == (len(found), sum(len(pack.files) for pack in found))
        assert count.chars == sum(len(file.text) for pack in found for file in pack.files)
    assert not (data / REMOVAL_FOLDER).exists()


@pytest.fixture
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots out, which take most of the time and have no part in what is asked."""

    def write_plain(data: Path, build: BuildReport) -> None:
        (data / "report.html").write_text("".join(f"{repo.repo}\n" for repo in build.corpus.repos))

    for each in (build_module, forget_module):
        monkeypatch.setattr(each, "write_report", write_plain)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    build_data(make_repos(tmp_path / "code"), tmp_path / "data", RECIPE)
    return tmp_path / "data"


def test_no_byte_of_a_forgotten_repository_stays_and_its_sources_are_not_needed(built: Path) -> None:
    assert len(list_traces(built, "birch")) > 15
    shutil.rmtree(built.parent / "code")
    done = forget(built, Removal("birch"))
    assert list_traces(built, "birch") == []
    assert "birch" in (built / FORGOTTEN_FILE).read_text()
    assert done.is_done
    assert sum(done.files.values()) == len(sources("birch")) - 3
    check_counts(built)
    assert all(list_traces(built, other) for other in REPOS if other != "birch")


def test_parts_without_it_keep_their_bytes_and_time_and_no_other_pack_changes(built: Path) -> None:
    before, packs = stamp_parts(built), read_packs(built)
    done = forget(built, Removal("cedar"))
    after = stamp_parts(built)
    untouched = {name for name in before if name not in done.parts and not name.startswith("dropped")}
    assert len(untouched) > 3
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    assert all(before[name] != after.get(name) for name in done.parts)
    assert read_packs(built) == {split: [row for row in rows if "cedar" not in row] for split, rows in packs.items()}


@pytest.mark.usefixtures("plain_report")
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gone=st.sets(st.sampled_from(REPOS), min_size=1, max_size=3))
def test_what_stays_is_what_a_build_without_them_gives(
    gone: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("law")
    repos = make_repos(folder / "code")
    build_data(repos, folder / "data", RECIPE)
    for repo in sorted(gone):
        forget(folder / "data", Removal(repo))
    build_data([repo for repo in repos if repo.name not in gone], folder / "fresh", RECIPE)
    assert read_packs(folder / "data") == read_packs(folder / "fresh")
    ours, theirs = read_pack_manifest(folder / "data"), read_pack_manifest(folder / "fresh")
    assert ours is not None
    assert theirs is not None
    assert ours.splits == theirs.splits
    found, wanted = read_manifest(folder / "data"), read_manifest(folder / "fresh")
    assert found is not None
    assert wanted is not None
    for name in ("repos", "stages", "dropped", "licenses", "redactions", "bytes_train", "bytes_heldout"):
        assert getattr(found, name) == getattr(wanted, name)
    check_counts(folder / "data")
    # And the next build, given all of them, takes up none again.
    build_data(repos, folder / "data", RECIPE)
    assert read_packs(folder / "data") == read_packs(folder / "fresh")


def test_a_pack_that_loses_a_file_keeps_the_others_in_their_order(built: Path) -> None:
    packs = {s: list(read_records(built / f"packs-{s}.parquet", Pack)) for s in Split}
    done = forget(built, Removal("alder", ("jane.*", "a/base.py", "a/one.py")))
    gone = {"people/jane.py", "a/base.py", "a/one.py"}
    wanted = [
        [file.path for file in pack.files if pack.repo != "alder" or file.path not in gone]
        for split in Split
        for pack in packs[split]
    ]
    left = [pack for split in Split for pack in read_records(built / f"packs-{split}.parquet", Pack)]
    assert [[file.path for file in pack.files] for pack in left] == [paths for paths in wanted if paths]
    assert len({pack.pack_id for pack in left}) == len(left)
    assert list_traces(built, "alder_people_jane") == []
    assert list_traces(built, "alder_a_two")
    # It was dropped for being the same as another file, which nobody asked to remove.
    assert done.copies == 1
    assert sum(done.packs_changed.values()) > 0
    check_counts(built)
    report = read_manifest(built)
    assert report is not None
    assert any("still those of the build" in note for note in report.notes)


def test_later_build_keeps_it_out_names_nothing_of_it_and_says_so(built: Path) -> None:
    forget(built, Removal("birch"))
    forget(built, Removal("alder", ("people/",)))
    repos = [built.parent / "code" / name for name in REPOS]
    build = build_data(repos, built, RECIPE)
    drops = [drop for drop in read_records(built / DROPPED_FILE, DroppedFile) if drop.reason == "forgotten"]
    assert len([drop for drop in drops if drop.repo == "birch"]) == len(sources("birch"))
    assert len([drop for drop in drops if drop.repo == "alder"]) == 3
    for word in ("birch_", "alder_people", "alder_contact"):
        assert list_traces(built, word) == []
    assert all(drop.path.startswith("forgotten-") for drop in drops)
    assert "kept out: 1 whole repository, 1 pattern of paths in others" in (built / "report.html").read_text()
    assert build.corpus.stages[0].files_in == sum(repo.files_listed for repo in build.corpus.repos)
    check_counts(built)
    again = forget(built, Removal("birch"))
    assert again.is_nothing
    assert build_data(repos, built, RECIPE).corpus.is_reused


def test_names_go_from_what_is_said_of_other_files(tmp_path: Path) -> None:
    repos = make_repos(tmp_path / "code", ("alder", "birch"))
    write(repos[1], {"z/copy.py": module("alder", "b/three"), "a/local.py": module("birch", "c/six")})
    build_data(repos, tmp_path / "data", RECIPE)
    details = {d.path: d.detail for d in read_records(tmp_path / "data" / DROPPED_FILE, DroppedFile)}
    assert details["z/copy.py"] == "the same as alder: b/three.py"
    done = forget(tmp_path / "data", Removal("alder"))
    assert done.copies == 1
    details = {d.path: d.detail for d in read_records(tmp_path / "data" / DROPPED_FILE, DroppedFile)}
    assert details["z/copy.py"] == "the same as a file that was removed on request"
    # The copy is the other repository's own, and the next build may pack it.
    assert all(name.startswith("steps/corpus/texts-") for name in list_traces(tmp_path / "data", "alder"))
    forget(tmp_path / "data", Removal("birch", ("a/local.py",)))
    details = {d.path: d.detail for d in read_records(tmp_path / "data" / DROPPED_FILE, DroppedFile)}
    assert details["c/six.py"] == "the same as a file that was removed on request"


def test_names_that_no_text_bears_any_more_go_from_what_is_said_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    build_corpus(make_repos(tmp_path / "code", ("alder",)), data, RECIPE.corpus)
    sides = [*read_records(data / LEDGER_FILE, Side), Side("alder", "people/moved.py", "0", is_heldout=False, rule="r")]
    write_records(data / LEDGER_FILE, sides, Side)
    drops = [
        DroppedFile("alder", "people/late.py", "decontaminate", "benchmark", "mbpp/7 by ten_words in line 12", 9),
        DroppedFile("birch", "x.py", "dedup", "near_duplicate", "Jaccard index 0.99 with alder: people/late.py", 9),
        DroppedFile(
            "alder", "y.py", "split", "contained_in_train", "91.0% of it stands in people/moved.py" + EARLIER, 9
        ),
    ]
    write_records(data / DROPPED_FILE, drops, DroppedFile)
    remove_files(data, Removal("alder", ("people/",)))
    details = {drop.path: drop.detail for drop in read_records(data / DROPPED_FILE, DroppedFile)}
    assert details == {
        "x.py": "Jaccard index 0.99 with a file that was removed on request",
        "y.py": "91.0% of it stands in a file that was removed on request",
    }


def test_sides_of_other_files_stay(built: Path) -> None:
    before = {(side.repo, side.path): side for side in read_records(built / LEDGER_FILE, Side)}
    forget(built, Removal("dogwood"))
    after = {(side.repo, side.path): side for side in read_records(built / LEDGER_FILE, Side)}
    assert after == {key: side for key, side in before.items() if key[0] != "dogwood"}


def test_without_steps_it_works_and_says_which_counts_are_old(built: Path) -> None:
    shutil.rmtree(built / "steps")
    forget(built, Removal("birch"))
    assert list_traces(built, "birch") == []
    check_counts(built)
    assert "still those of the build" in (built / "report.html").read_text()


def test_half_written_files_of_a_killed_build_go_too(built: Path) -> None:
    (built / "steps/corpus/.texts-0.parquet.77.tmp").write_text("birch_text")
    (built / "steps/pack/cuts-0000.parquet").write_text("birch_cuts, without the facts that tell")
    (built / ".dropped.parquet.5.tmp").write_text("birch")
    forget(built, Removal("birch"))
    assert list_traces(built, "birch") == []


def test_everything_can_be_forgotten(tmp_path: Path) -> None:
    build_data(make_repos(tmp_path / "code", ("alder",)), tmp_path / "data", RECIPE)
    forget(tmp_path / "data", Removal("alder"))
    assert list_traces(tmp_path / "data", "alder") == []
    check_counts(tmp_path / "data")
    with pytest.raises(InputError, match="nothing left to train on: dropped 14 read/forgotten"):
        build_data([tmp_path / "code/alder"], tmp_path / "data", RECIPE)


def test_dry_run_lists_what_would_go_and_changes_nothing(built: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in built.rglob("*") if path.is_file()}
    plan = forget(built, Removal("birch"), is_dry_run=True)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in built.rglob("*") if path.is_file()} == before
    assert not plan.is_done
    done = forget(built, Removal("birch"))
    assert dataclasses.replace(plan, is_done=True) == done
    assert done.is_trained_on


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """End the process at the n-th change of the disk from now on; what follows in `finally` does not happen either."""
    real: dict[str, Callable[..., object]] = {"unlink": Path.unlink, "replace": Path.replace}
    left = [-1]

    def make(name: str) -> Callable[..., object]:
        def change(path: Path, *arguments: object, **options: object) -> object:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real[name](path, *arguments, **options)

        return change

    rmtree: Callable[..., None] = shutil.rmtree

    def remove_tree(path: Path, *arguments: object, **options: object) -> None:
        """Remove a folder as `rmtree` does, file by file."""
        for file in sorted(Path(path).rglob("*")):
            if file.is_file():
                file.unlink()
        rmtree(path)

    for name in real:
        monkeypatch.setattr(Path, name, make(name))
    monkeypatch.setattr(shutil, "rmtree", remove_tree)

    def arm(number: int) -> None:
        left[0] = number

    yield arm
    left[0] = -1


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize("removal", [Removal("birch"), Removal("birch", ("people/*", "a/one.py"))])
def test_a_kill_at_any_moment_is_finished_by_the_same_command(
    built: Path, kill_at: Callable[[int], None], removal: Removal
) -> None:
    whole, before = built.parent / "whole", read_everything(built)
    shutil.copytree(built, whole)
    wanted_result = forget(whole, removal)
    wanted = read_everything(whole)
    # Every fifth change of the disk, others for either removal.
    number, is_over, refused = len(removal.patterns), False, 0
    while not is_over:
        data = built.parent / "data-killed"
        if data.exists():
            shutil.rmtree(data)
        shutil.copytree(built, data)
        kill_at(number)
        try:
            forget(data, removal)
            is_over = True
        except Killed:
            kill_at(-1)
            refused += check_not_trusted(data, before)
            again = forget(data, removal)
            assert again == wanted_result or again.is_nothing
        assert read_everything(data) == wanted
        number += 5
    assert number > 60
    assert refused > 10


def check_not_trusted(data: Path, before: dict[str, bytes]) -> bool:
    """Hold that what a kill left is refused, or that no data has changed yet, or all of it has."""
    try:
        find_output(data, "packs-train.parquet")
    except InputError as error:
        assert "codegemma forget" in str(error)
        with pytest.raises(InputError, match="codegemma forget"):
            build_data([data.parent / "code/alder"], data, RECIPE)
        return True
    now = read_everything(data)
    is_as_before = all(now.get(name) == content for name, content in before.items())
    assert is_as_before or not [n for n in list_traces(data, "birch_people_jane") if not n.startswith(REMOVAL_FOLDER)]
    return False


def test_what_was_cut_off_can_be_finished_without_naming_it(built: Path, kill_at: Callable[[int], None]) -> None:
    with pytest.raises(InputError, match="name what to remove with --repo"):
        forget(built, None)
    kill_at(12)
    with pytest.raises(Killed):
        forget(built, Removal("birch"))
    kill_at(-1)
    with pytest.raises(InputError, match="codegemma forget"):
        forget(built, Removal("cedar"), is_dry_run=True)
    done = forget(built, None)
    assert (done.repo, list_traces(built, "birch")) == ("birch", [])


def test_errors_say_what_came_and_what_is_known(built: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no repository 'brich'; known: alder, birch, cedar, dogwood"):
        forget(built, Removal("brich"))
    with pytest.raises(InputError, match=r"no file of birch that it knows matches \*\.rs"):
        forget(built, Removal("birch", ("*.rs",)))
    assert not (built / FORGOTTEN_FILE).exists()
    with pytest.raises(InputError, match="nothing there; wanted the folder that `codegemma build` wrote"):
        forget(tmp_path / "nowhere", Removal("birch"))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(InputError, match=r"a folder without a finished build.*perhaps .*data"):
        forget(tmp_path, Removal("birch"))
    assert not (tmp_path / ".lock").exists()
    (built / "packs-train.parquet/part-00000.parquet").unlink()
    with pytest.raises(InputError, match="not whole"):
        forget(built, Removal("birch"))


@pytest.mark.parametrize("pattern", ["", "  ", "!a.py", "# a", "a\0b", "a\nb", "\udcff"])
def test_patterns_that_name_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="names no files"):
        Removal("repo", (pattern,))


def test_folder_in_use_is_refused(built: Path) -> None:
    with (built / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process works in"):
            forget(built, Removal("birch"))


@pytest.mark.parametrize("text", ["{", "[]", '{"forgotten": [{"repo": 1, "patterns": []}]}', "[" * 100_000, "\udcff"])
def test_a_damaged_list_stops_build_and_removal(built: Path, text: str) -> None:
    (built / FORGOTTEN_FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="the list of what was forgotten cannot be read"):
        forget(built, Removal("birch"))
    with pytest.raises(InputError, match="the list of what was forgotten cannot be read"):
        build_data([built.parent / "code/alder"], built, RECIPE)


def test_a_whole_repository_stands_for_its_patterns(built: Path) -> None:
    forget(built, Removal("birch", ("a/one.py",)))
    forget(built, Removal("birch"))
    assert read_forgotten(built) == (Removal("birch"),)
    assert forget(built, Removal("birch", ("b/*",))).is_nothing
    assert list_traces(built, "birch") == []


def test_run_beside_the_folder_is_named_when_it_was_trained_on_these_packs(built: Path) -> None:
    data_hash = forget(built, Removal("birch"), is_dry_run=True).data_hash
    (built.parent / "run.json").write_text(json.dumps({"identity": {"data": data_hash}}))
    assert forget(built, Removal("birch")).runs == (str(built.parent.resolve()),)
    assert forget(built, Removal("cedar")).runs == ()


def test_a_file_that_cannot_be_removed_is_named(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(OutputError, match=r"cannot be removed \(Permission denied\)"):
            removal_module.remove_steps(built / "steps/corpus", lambda *_: True, "birch")


@pytest.mark.parametrize("policy", ["drop", "report"])
def test_what_is_said_of_a_fork_names_the_forgotten_one_no_more(tmp_path: Path, policy: str) -> None:
    repos = make_repos(tmp_path / "code", ("alder", "birch"))
    fork = write(tmp_path / "code/zebra", {path: b"# forked\n" + text.encode() if isinstance(text, str) else text
                                           for path, text in sources("birch").items()})  # fmt: skip
    recipe = override(RECIPE, [f"corpus.forks={policy}", "corpus.near_duplicates=none"])
    build = build_data([*repos, fork], tmp_path / "data", recipe)
    said = [d.detail for d in read_records(tmp_path / "data" / DROPPED_FILE, DroppedFile) if d.reason == "fork"]
    assert "zebra: almost the same as birch" in "".join((*said, *build.corpus.notes))
    done = forget(tmp_path / "data", Removal("birch"))
    assert sum(done.files.values()) > 0
    details = [drop.detail for drop in read_records(tmp_path / "data" / DROPPED_FILE, DroppedFile)]
    report = read_manifest(tmp_path / "data")
    assert report is not None
    assert not any("birch" in text for text in (*details, *report.notes))


def test_what_was_written_down_and_is_damaged_is_an_error_that_says_what_to_do(
    built: Path, kill_at: Callable[[int], None]
) -> None:
    kill_at(12)
    with pytest.raises(Killed):
        forget(built, Removal("birch"))
    kill_at(-1)
    request = built / REMOVAL_FOLDER / "request.json"
    content = request.read_bytes()
    for damaged in (b"{", b"[]", b"{}", b"\xff"):
        request.write_bytes(damaged)
        with pytest.raises(InputError, match="give the whole `codegemma forget` command again"):
            forget(built, Removal("birch"))
    request.write_bytes(content)
    (built / REMOVAL_FOLDER / "packs.json").write_text("{")
    with pytest.raises(InputError, match="the removal is done, now build"):
        forget(built, Removal("birch"))
    assert list_traces(built, "birch") == []
    assert not (built / "corpus.json").exists()
