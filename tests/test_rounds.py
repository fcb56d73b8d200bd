"""The main job on a repository that changes: further rounds, from the last model, on what changed and a rehearsal."""

import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.corpus.repositories import commit, write

from codegemma import rounds
from codegemma.adapt import BEFORE, AdaptJob, AdaptResult, adapt, summarize
from codegemma.adapt_plan import plan
from codegemma.adapt_report import choose_showcases, write_report
from codegemma.cli.adapt import print_ending
from codegemma.cli.main import main
from codegemma.corpus.pipeline import DROPPED_FILE
from codegemma.errors import OutputError
from codegemma.evals.choices import EvalChoices
from codegemma.model import publish
from codegemma.model.gemma import init_params
from codegemma.model.publish import publish_model
from codegemma.model.weights import load_model, save_model
from codegemma.recipe import override
from codegemma.recipes import Recipe, load_recipe
from codegemma.records import DroppedFile, Pack
from codegemma.round_files import find_round
from codegemma.rounds import PackSize, choose_rehearsal, plan_round, read_round
from codegemma.runner import ignore_progress
from codegemma.shards import read_records, write_records
from codegemma.text.tokenizer import train_tokenizer
from codegemma.train.job import hash_model
from codegemma.train.provenance import read_filters
from codegemma.train.replay import find_run_files, open_replay

MODEL = "model.safetensors"


class KilledError(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def module(name: str) -> str:
    """Write code that shares little with another name's."""
    return "".join(f"def {name}_{n}({name}_x{n}):\n    return {name}_x{n} * {n} - {name}\n\n\n" for n in range(8))


def make_recipe() -> Recipe:
    small = [
        "train.steps=24", "train.batch_rows=2", "train.row_tokens=160", "train.margin_tokens=0", "train.warmup_steps=4",
        "train.log_every_steps=2", "train.save_every_steps=2", "feed.packing_bins=2", "corpus.heldout_share=0.2",
        "pack.budget_tokens=500", "rounds.rehearsal_share=0.25",
    ]  # fmt: skip
    evals = EvalChoices(max_holes_per_kind=4, generated_holes=0, max_baseline_bytes=100_000)
    return dataclasses.replace(override(load_recipe("tiny"), small), evals=evals)


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Share compiled steps between the rounds: compiling one takes longer than a whole run."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> AdaptJob:
    """A job whose first round is done."""
    return run_first(tmp_path_factory.mktemp("rounds"), ["repo"])


def run_first(root: Path, repos: Sequence[str]) -> AdaptJob:
    """Run the first round of a job on new repositories below a folder."""
    files: dict[str, str | bytes] = {}
    for repo in repos:
        own: dict[str, str | bytes] = {
            f"d{d:02}/m{m}.py": module(f"{repo}w{d}q{m}") for d in range(12) for m in range(3)
        }
        commit(write(root / repo, own))
        files |= {f"{repo}/{path}": text for path, text in own.items()}
    config = dataclasses.replace(
        load_recipe("tiny").model, vocab_size=600, embed_dim=16, num_layers=1, num_heads=1, head_dim=16, mlp_dim=32,
        max_positions=160,
    )  # fmt: skip
    tokenizer = train_tokenizer([str(text) for text in files.values()], config.vocab_size)
    extra = {"tokenizer.json": tokenizer.to_json().encode(), "run.json": b'{"infill_modes": ["psm", "spm1"]}'}
    config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
    save_model(root / "base", init_params(config, jax.random.key(0)), config, extra_files=extra)
    places = tuple(root / repo for repo in repos)
    job = AdaptJob(places, root / "out", make_recipe(), base=root / "base", other=None, minutes=None)
    adapt(job)
    return job


def copy_job(job: AdaptJob, root: Path) -> AdaptJob:
    for name in (*(repo.name for repo in job.places), "out"):
        shutil.copytree(job.out.parent / name, root / name)
    return dataclasses.replace(job, repos=tuple(root / repo.name for repo in job.places), out=root / "out")


def list_files(packs: Path) -> dict[str, str]:
    return {file.path: file.text for pack in read_records(packs, Pack) for file in pack.files}


def list_folders(job: AdaptJob, side: str) -> list[str]:
    """Name the folders all of whose files are on one side."""
    of = {
        name: {path[:3] for path in list_files(job.out / f"data/packs-{name}.parquet")} for name in ("train", "heldout")
    }
    return sorted(of.pop(side) - next(iter(of.values())))


def edit(repo: Path, path: str) -> None:
    (repo / path).write_text((repo / path).read_text() + "\n\ndef more(value):\n    return value\n")


@dataclasses.dataclass(frozen=True)
class Story:
    job: AdaptJob
    planned: Mapping[str, object]
    result: AdaptResult
    edited: str
    moved_to_heldout: str
    moved_to_train: str
    edited_and_moved: str


@pytest.fixture(scope="module")
def story(first: AdaptJob, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A second round, after one file was edited, one added, and files were moved over the border both ways."""
    job = copy_job(first, tmp_path_factory.mktemp("story"))
    repo = job.places[0]
    train, heldout = list_folders(job, "train"), list_folders(job, "heldout")
    edited, edited_and_moved = f"{train[0]}/m0.py", f"{heldout[1]}/edited.py"
    moved_to_heldout, moved_to_train = f"{heldout[0]}/moved.py", f"{train[3]}/moved.py"
    edit(repo, edited)
    write(repo, {f"{train[0]}/fresh.py": module("fresh")})
    (repo / train[1] / "m0.py").rename(repo / moved_to_heldout)
    (repo / train[2] / "m0.py").rename(repo / edited_and_moved)
    edit(repo, edited_and_moved)
    (repo / heldout[0] / "m0.py").rename(repo / moved_to_train)
    commit(repo, 1_600_000_100)
    return Story(job, plan(job), adapt(job), edited, moved_to_heldout, moved_to_train, edited_and_moved)


def test_a_further_round_trains_on_what_changed_and_a_rehearsal(story: Story, first: AdaptJob) -> None:
    planned = story.result.round
    assert (planned.number, planned.files_changed) == (2, 1)
    packs = list(read_records(find_round(story.job.out, 2) / "packs-train.parquet", Pack))
    known = list_files(find_round(first.out, 1) / "packs-train.parquet")
    is_changed = [any(known.get(file.path) != file.text for file in pack.files) for pack in packs]
    assert (is_changed.count(True), is_changed.count(False)) == (planned.packs_changed, planned.packs_rehearsed)
    assert 0 < planned.packs_rehearsed < planned.packs - planned.packs_changed
    assert planned.rehearsed_share == pytest.approx(0.25, abs=0.1)
    trained = list_files(find_round(story.job.out, 2) / "packs-train.parquet")
    now = list_files(story.job.out / "data/packs-train.parquet")
    assert {path for path, text in now.items() if known.get(path) != text} <= trained.keys()
    assert "def more" in trained[story.edited]


def test_a_further_round_starts_from_the_last_model_and_takes_its_share_of_the_steps(story: Story) -> None:
    about = json.loads((find_round(story.job.out, 2) / "run.json").read_text())
    assert about["identity"]["base"] == hash_model(find_round(story.job.out, 1) / "model")
    planned = story.result.round
    assert story.result.run.steps == about["total_steps"] == round(24 * planned.chars / planned.first_chars) < 24
    assert about["identity"]["train"]["peak_learning_rate"] == story.job.recipe.train.peak_learning_rate


def test_what_a_round_trained_on_is_never_held_out_wherever_it_moves(story: Story) -> None:
    heldout = list_files(story.job.out / "data/packs-heldout.parquet")
    trained = [list_files(find_round(story.job.out, number) / "packs-train.parquet") for number in (1, 2)]
    assert heldout
    for texts in trained:
        assert not heldout.keys() & texts.keys()
        assert not set(heldout.values()) & set(texts.values())
    assert story.moved_to_heldout in trained[1]
    drops = {drop.path: drop for drop in read_records(story.job.out / "data" / DROPPED_FILE, DroppedFile)}
    assert story.edited_and_moved not in heldout
    assert drops[story.edited_and_moved].reason in ("near_duplicate_of_train", "contained_in_train")
    assert "trained on earlier" in drops[story.edited_and_moved].detail


def test_what_was_held_out_stays_so_wherever_it_moves(story: Story, first: AdaptJob) -> None:
    before = list_files(first.out / "data/packs-heldout.parquet")
    heldout = list_files(story.job.out / "data/packs-heldout.parquet")
    assert story.moved_to_train in heldout
    assert set(before.values()) <= set(heldout.values())


def test_the_ending_compares_with_the_model_before_on_the_same_holes(story: Story) -> None:
    result = story.result
    assert {m.system for m in result.measurements} == {"adapted", BEFORE, "base", "n-gram", "nearest line"}
    holes = {
        system: {r.hole_id for r in result.results if r.system == system} for system in ("adapted", BEFORE, "base")
    }
    assert holes["adapted"] == holes[BEFORE] == holes["base"] != set()
    assert "1 changed of" in result.notes[0]
    assert "to rehearse" in result.notes[0]
    assert summarize(result)["round"]["number"] == 2  # type: ignore[index]


def test_the_newest_model_lies_at_model_and_earlier_rounds_stay(story: Story, first: AdaptJob) -> None:
    one, two = (find_round(story.job.out, number) for number in (1, 2))
    assert hash_model(story.job.model) == hash_model(two / "model") != hash_model(one / "model")
    assert hash_model(one / "model") == hash_model(find_round(first.out, 1) / "model")
    assert {"run.json", "round.json", "metrics.jsonl", "trained.parquet"} <= {path.name for path in one.iterdir()}
    assert load_model(story.job.model)
    assert [(folder / "checkpoints").is_dir() for folder in (one, two)] == [False, True]


def test_the_ending_tells_of_the_round_on_the_page_and_on_the_terminal(story: Story) -> None:
    showcases = choose_showcases(story.result)
    page = write_report(story.result, showcases)
    printed = io.StringIO()
    print_ending(story.result, showcases, page, Console(file=printed, width=200))
    for text in (page.read_text(), printed.getvalue()):
        assert story.result.round.describe() in text
        assert f"adapted - {BEFORE}" in text


def test_a_rounds_tokens_can_be_traced_from_the_jobs_folder_and_its_model(story: Story) -> None:
    for place in (story.job.out, story.job.model, find_round(story.job.out, 2)):
        assert find_run_files(place, None).run.resolve() == find_round(story.job.out, 2).resolve()
    with open_replay(find_round(story.job.out, 1), None) as replay:
        assert replay.find_batch(2).is_checked


def test_a_rounds_trace_tells_the_filters_of_its_own_build(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = read_filters(story.job.out / "data")
    told = []
    for number in (1, 2):
        arguments = [find_round(story.job.out, number), "--step", 1, "--row", 0, "--token", 9]
        monkeypatch.setattr(sys, "argv", ["codegemma", "trace", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        told.append(capsys.readouterr().out)
        assert "passed    read, block_list, safety, license, quality" in told[-1], told[-1]
        assert "opt-out list: none given" in told[-1]
    assert now is not None
    assert now.corpus_fingerprint not in told[0]
    assert now.corpus_fingerprint in told[1]


def test_an_empty_file_is_nothing_to_train_on(story: Story, tmp_path: Path) -> None:
    data = tmp_path / "data"
    packs = list(read_records(story.job.out / "data/packs-train.parquet", Pack))
    empty = dataclasses.replace(packs[0].files[0], path="empty.py", text="", blob="0")
    write_records(data / "packs-train.parquet", [*packs, dataclasses.replace(packs[0], files=(empty,))])
    assert plan_round(data, story.job.out, {}, 0.25, 0) is None


def test_a_plan_foresees_the_round(story: Story) -> None:
    # The file that was moved with an edit looks new: only a build finds that a model knows it.
    planned = story.result.round
    assert (story.planned["round"], story.planned["files_changed"]) == (2, planned.files_changed)
    assert story.planned["files_new"] in range(planned.files_new, planned.files_new + 3)
    assert 0 < story.planned["steps"] < 24  # type: ignore[operator]
    assert story.planned["training_runs"] == 1


def test_the_same_command_without_a_change_trains_nothing_and_says_so(story: Story) -> None:
    stages: list[str] = []
    before = (story.job.model / MODEL).stat()
    again = adapt(story.job, lambda stage, *_: stages.append(stage))
    assert not [stage for stage in stages if "train" in stage or "score" in stage]
    assert not again.has_trained
    assert "nothing was trained" in again.notes[1]
    assert again.measurements == story.result.measurements
    assert (story.job.model / MODEL).stat() == before
    assert plan(story.job)["steps"] == 0


def test_other_choices_are_refused_before_the_data_change(story: Story) -> None:
    before = {path: path.stat().st_mtime_ns for path in (story.job.out / "data").rglob("*")}
    for setting in ("corpus.heldout_share=0.3", "train.steps=25", "rounds.rehearsal_share=0.5", "pack.budget_tokens=9"):
        with pytest.raises(OutputError, match=setting.partition("=")[0]):
            adapt(dataclasses.replace(story.job, recipe=override(story.job.recipe, [setting])))
    assert {path: path.stat().st_mtime_ns for path in (story.job.out / "data").rglob("*")} == before


def kill_when_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill after the round's model is whole, before that is noted."""
    monkeypatch.setattr(rounds, "_list_trained", kill)


def kill_while_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill between two files of the model that is put in place."""
    replace_one = publish._replace_files

    def replace_half(source: Path, target: Path, names: list[str]) -> None:
        replace_one(source, target, names[: len(names) // 2])
        raise KilledError

    monkeypatch.setattr(publish, "_replace_files", replace_half)


def kill_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill when the round is planned, before its run is."""
    monkeypatch.setattr("codegemma.adapt._survey", kill)


def kill(*_: object, **__: object) -> None:
    raise KilledError


@pytest.mark.parametrize("prepare", [kill_when_trained, kill_while_published, kill_before_it_begins])
def test_killed_anywhere_a_whole_model_stays_and_the_same_command_goes_on(
    first: AdaptJob, tmp_path: Path, prepare: Callable[[pytest.MonkeyPatch], None]
) -> None:
    job = copy_job(first, tmp_path)
    edited = f"{list_folders(job, 'train')[0]}/m0.py"
    edit(job.places[0], edited)
    before = hash_model(job.model)
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(monkeypatch)
        with pytest.raises(KilledError):
            adapt(job)
    load_model(job.model)
    whole = hash_model(find_round(job.out, 2) / "model") if (find_round(job.out, 2) / "model").is_dir() else before
    assert hash_model(job.model) in (before, whole)
    result = adapt(job)
    assert (result.round.number, result.round.files_changed) == (2, 1)
    assert hash_model(job.model) == hash_model(find_round(job.out, 2) / "model") != before
    assert (job.model / "run.json").read_bytes() == (find_round(job.out, 2) / "model/run.json").read_bytes()


def test_an_interrupted_round_ends_on_its_own_packs_and_what_changed_meanwhile_is_the_next(
    first: AdaptJob, tmp_path: Path
) -> None:
    job = copy_job(first, tmp_path)
    folders = list_folders(job, "train")
    for path in ("m0.py", "m1.py", "m2.py"):
        edit(job.places[0], f"{folders[0]}/{path}")

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "round 2: train" and done == 3:  # step 2 is saved before step 3 begins
            raise KilledError

    with pytest.raises(KilledError):
        adapt(job, stop)
    packs = (find_round(job.out, 2) / "packs-train.parquet").read_bytes()
    about = plan(job)
    assert about["unfinished_round"] == 2
    (job.places[0] / folders[0] / "m0.py").unlink()
    edit(job.places[0], f"{folders[1]}/m0.py")
    lines: list[int | float] = []
    result = adapt(job, ignore_progress, lambda line: lines.append(line["step"]))
    assert (find_round(job.out, 2) / "packs-train.parquet").read_bytes() == packs
    assert lines[0] == 4, "the round goes on from its checkpoint"
    assert (result.round.number, result.round.files_changed, result.round.files_new) == (3, 1, 0)
    assert result.round.first_steps == 24
    assert [read_round(job.out, number).files_changed for number in (2, 3)] == [3, 1]


def test_a_model_that_no_round_made_is_not_replaced(first: AdaptJob, tmp_path: Path) -> None:
    shutil.copytree(first.out / "model", tmp_path / "out/model")
    (tmp_path / "out/.lock").touch()
    with pytest.raises(OutputError, match="made by no round"):
        adapt(dataclasses.replace(first, out=tmp_path / "out"))
    assert hash_model(tmp_path / "out/model") == hash_model(first.model)


@given(
    st.lists(st.integers(1, 100), min_size=1),
    st.lists(st.integers(1, 100)),
    st.floats(0, 0.9),
    st.integers(0, 9),
)
def test_a_rehearsal_is_its_share_as_near_as_packs_allow(
    changed: list[int], others: list[int], share: float, seed: int
) -> None:
    new = [PackSize(f"n{n}", chars) for n, chars in enumerate(changed)]
    rest = [PackSize(f"o{n}", chars) for n, chars in enumerate(others)]
    chosen = choose_rehearsal(new, rest, share, seed, 2)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(rest)
    target = sum(changed) * share / (1 - share)
    assert bool(chosen) == bool(others and target > 0)
    # What was left out would have led further away; a single pack may be all that there was to choose.
    missed = target - sum(pack.chars for pack in chosen)
    assert len(chosen) in (0, 1, len(rest)) or abs(missed) <= max(others)
    assert all(pack.chars > 2 * missed for pack in set(rest) - set(chosen))


def test_everything_is_rehearsed_where_nearly_everything_changed() -> None:
    others = [PackSize("a", 5), PackSize("b", 5)]
    assert set(choose_rehearsal([PackSize("n", 90)], others, 0.25, 0, 2)) == set(others)


def test_a_model_is_replaced_file_by_file_and_copied_where_links_are_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, {"config.json": "{}", MODEL: name, "run.json": name})
    publish_model(tmp_path / "one", tmp_path / "model", last="run.json")
    monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    publish_model(tmp_path / "two", tmp_path / "model", last="run.json")
    publish_model(tmp_path / "two", tmp_path / "model", last="run.json")
    assert {path.name: path.read_text() for path in (tmp_path / "model").iterdir()} == {
        "config.json": "{}", MODEL: "two", "run.json": "two",
    }  # fmt: skip
    assert (tmp_path / "one" / MODEL).read_text() == "one"
