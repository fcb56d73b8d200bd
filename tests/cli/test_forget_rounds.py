"""`codegemma forget` in the data of a job with rounds: no text stays in their packs, and what learned it is named."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pyarrow.parquet as pq
import pytest
from tests.cli.running import Ran
from tests.corpus.repositories import write
from tests.test_rounds import KilledError, copy_job, edit, list_files, module, run_first

from codegemma import removal, round_files
from codegemma.adapt import AdaptJob, adapt
from codegemma.errors import OutputError
from codegemma.folders import hold_folder
from codegemma.records import Pack
from codegemma.round_files import find_round, find_tainted
from codegemma.rounds import find_finished
from codegemma.shards import read_records

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdaptJob]:
    """A job on two repositories whose first round is done."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    yield run_first(tmp_path_factory.mktemp("forget"), ["alder", "birch"])
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="module")
def second(first: AdaptJob, tmp_path_factory: pytest.TempPathFactory) -> AdaptJob:
    """The same job with a round more, for a file of birch that was edited; alder is rehearsed at most."""
    job = copy_job(first, tmp_path_factory.mktemp("second"))
    edit(job.places[1], list_trained(job)[0])
    write(job.places[1], {"late/new.py": module("birch_late")})
    adapt(job)
    assert find_finished(job.out) == 2
    return job


def list_trained(job: AdaptJob) -> list[str]:
    """List the files of birch that are trained on and were there from the start."""
    packs = [pack for pack in read_records(job.out / "data/packs-train.parquet", Pack) if pack.repo == "birch"]
    return sorted(file.path for pack in packs for file in pack.files if not file.path.startswith("late/"))


def list_traces(folder: Path, word: str) -> list[str]:
    """Name the files in which a word stands, in a Parquet file of which no matter how it is compressed."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            is_parquet = path.suffix == ".parquet"
            content = repr(pq.ParquetFile(path).read().to_pydict()).encode() if is_parquet else path.read_bytes()
            found += [path.relative_to(folder).as_posix()] * (word.encode() in content)
    return found


def list_places_of_text(job: AdaptJob, word: str) -> list[str]:
    """Name the files that hold texts to train on, or names, in which a word stands."""
    return [name for folder in ("data", "rounds") for name in list_traces(job.out / folder, word)]


def test_no_text_stays_in_any_round_and_each_that_learned_it_is_named(
    run: Run, second: AdaptJob, tmp_path: Path
) -> None:
    job = copy_job(second, tmp_path)
    before = list_places_of_text(job, "def alderw")
    assert {name.split("/")[0] + "/" + name.split("/")[1] for name in before} >= {"1/packs-train.parquet"}
    plan = run("forget", job.out / "data", "--repo", "alder", "--dry-run")
    assert list_places_of_text(job, "def alderw") == before
    done = run("forget", job.out / "data", "--repo", "alder")
    for told in (plan, done):
        assert told.code == 0
        assert "rounds 1, 2 have learned from it. To train again from its base, remove" in told.out
        assert str(find_round(job.out, 1)) in told.out
    assert not list_places_of_text(job, "def alderw")
    # A model and its tokenizer cannot forget: its words are in there still.
    assert {Path(name).name for name in list_traces(job.out / "rounds", "alder")} <= {"tokenizer.json"}
    assert find_tainted(job.out) == [1, 2]
    with pytest.raises(OutputError, match=r"rounds 1, 2 have learned from what was removed since.*remove") as refused:
        adapt(job)
    for folder in (find_round(job.out, 1), find_round(job.out, 2), job.model):
        assert str(folder) in str(refused.value)
        shutil.rmtree(folder)
    again = adapt(job)
    assert (again.round.number, find_tainted(job.out)) == (1, [])
    assert not list_places_of_text(job, "def alderw")
    assert all("alder" not in path for path in list_files(find_round(job.out, 1) / "packs-train.parquet"))


def test_rounds_before_the_one_that_learned_it_stay_and_are_the_new_start(
    run: Run, second: AdaptJob, tmp_path: Path
) -> None:
    job = copy_job(second, tmp_path)
    told = json.loads(run("forget", job.out / "data", "--repo", "birch", "--path", "late/*", "--json").out)
    assert (told["rounds"]["tainted"], told["rounds"]["restarted"]) == ([2], [])
    assert not list_places_of_text(job, "def birch_late")
    shutil.rmtree(find_round(job.out, 2))
    shutil.rmtree(job.model)
    result = adapt(job)
    assert (result.round.number, result.round.files_new, result.round.files_changed) == (2, 0, 1)


def test_a_round_under_way_with_it_goes_and_begins_anew(run: Run, first: AdaptJob, tmp_path: Path) -> None:
    job = copy_job(first, tmp_path)
    write(job.places[1], {"late/new.py": module("birch_late")})

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "round 2: train":
            raise KilledError

    with pytest.raises(KilledError):
        adapt(job, stop)
    told = run("forget", job.out / "data", "--repo", "birch", "--path", "late/")
    assert "round 2, which was under way with them, went as a whole and begins anew" in told.out
    assert "learned from it" not in told.out
    assert [folder.name for folder in (job.out / "rounds").iterdir()] == ["1"]
    edit(job.places[1], list_trained(job)[0])
    assert adapt(job).round.number == 2
    assert not list_places_of_text(job, "def birch_late")


def test_what_only_rounds_still_hold_is_found_and_removed(run: Run, second: AdaptJob, tmp_path: Path) -> None:
    job = copy_job(second, tmp_path)
    shutil.rmtree(job.places[1] / "late")
    edit(job.places[1], list_trained(job)[1])
    adapt(job)
    (job.out / "data/sides.parquet").unlink()
    assert not list_traces(job.out / "data", "def birch_late")
    assert list_traces(job.out / "rounds", "def birch_late")
    told = run("forget", job.out / "data", "--repo", "birch", "--path", "late/new.py")
    assert told.code == 0
    assert "rounds 2, 3 have learned" in told.out
    assert not list_places_of_text(job, "def birch_late")
    again = run("forget", job.out / "data", "--repo", "birch", "--path", "late/new.py")
    assert (again.code, "nothing of it is in" in again.out) == (0, True)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_kill_in_the_rounds_is_finished_by_the_same_command(
    run: Run, second: AdaptJob, tmp_path: Path, after: int
) -> None:
    job = copy_job(second, tmp_path)
    rewrite, left = removal.rewrite, [after]

    def die(*arguments: object) -> None:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        rewrite(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(round_files, "rewrite", die)
        with pytest.raises(KilledError):
            run("forget", job.out / "data", "--repo", "alder")
    with pytest.raises(Exception, match=r"codegemma forget|have learned from what was removed"):
        adapt(job)
    told = run("forget", job.out / "data", "--repo", "alder")
    assert told.code == 0
    assert not list_places_of_text(job, "def alderw")
    assert find_tainted(job.out) == [1, 2]


def test_a_job_at_work_is_not_touched(run: Run, first: AdaptJob) -> None:
    with hold_folder(first.out):
        refused = run("forget", first.out / "data", "--repo", "alder")
    assert (refused.code, "another process works in" in refused.err) == (4, True)
    assert list_places_of_text(first, "def alderw")
