"""The main job, end to end on a real package: short, but every step is the real one."""

import dataclasses
import email
import io
import json
import shlex
from pathlib import Path

import pytest
from rich.console import Console
from tests.corpus.repositories import commit, write

from codegemma.adapt import AdaptJob, AdaptResult, adapt, find_base, find_other, summarize
from codegemma.adapt_plan import plan
from codegemma.adapt_report import choose_showcases, write_report
from codegemma.cli.adapt import print_ending
from codegemma.corpus.inputs import Input
from codegemma.errors import InputError, OutputError
from codegemma.evals.choices import EvalChoices
from codegemma.feed.choices import FeedError
from codegemma.places import parse_place
from codegemma.recipe import override
from codegemma.recipes import Recipe, load_recipe
from codegemma.records import SourceKind
from codegemma.runner import Progress

REPO = Path(str(email.__file__)).parent
OTHER = REPO.parent / "json"


def make_recipe() -> Recipe:
    small = [
        "model.vocab_size=600", "model.embed_dim=16", "model.num_layers=1", "model.num_heads=1", "model.head_dim=16",
        "model.mlp_dim=32", "train.steps=6", "train.batch_rows=2", "train.row_tokens=192", "train.log_every_steps=2",
        "feed.packing_bins=4", "corpus.heldout_share=0.2",
    ]  # fmt: skip
    evals = EvalChoices(max_holes_per_kind=12, generated_holes=6, max_baseline_bytes=100_000)
    return dataclasses.replace(override(load_recipe("tiny"), small), evals=evals)


def note_stages(stages: list[str]) -> Progress:
    def note(stage: str, done: int, total: int | None) -> None:
        stages.append(stage)

    return note


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[AdaptJob, AdaptResult, list[str]]:
    stages: list[str] = []
    out = tmp_path_factory.mktemp("adapt") / "out"
    job = AdaptJob((REPO,), out, make_recipe(), base=None, other=OTHER, minutes=None)
    result = adapt(job, note_stages(stages))
    return job, result, stages


def test_the_job_leaves_a_model_and_figures_for_every_system(finished):
    job, result, _ = finished
    assert {p.name for p in job.model.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json", "run.json"}
    assert {m.system for m in result.measurements} == {"adapted", "other repository", "n-gram", "nearest line"}
    adapted = {(m.kind, m.mode, m.metric) for m in result.measurements if m.system == "adapted"}
    for kind in ("line", "rest_of_line"):
        for mode in ("psm", "spm1"):
            assert {metric for k, m, metric in adapted if (k, m) == (kind, mode)} >= {
                "exact_match", "bits_per_byte", "edit_similarity",
            }  # fmt: skip


def test_the_control_run_spends_the_same_steps(finished):
    _, result, _ = finished
    assert result.other_run is not None
    assert result.other_run.steps == result.run.steps == 6


def test_no_heldout_file_was_trained_on(finished):
    from codegemma.records import Pack
    from codegemma.shards import read_records

    job, _, _ = finished
    sides = [
        {(f.path, f.blob) for pack in read_records(job.out / f"data/packs-{side}.parquet", Pack) for f in pack.files}
        for side in ("train", "heldout")
    ]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_the_same_job_again_repeats_no_step(finished):
    job, result, stages = finished
    before = len(stages)
    again = adapt(job, note_stages(stages))
    assert not [stage for stage in stages[before:] if "train" in stage or "score" in stage or "generate" in stage]
    assert again.measurements == result.measurements


def test_the_report_shows_proof_completions_and_plots(finished):
    _, result, _ = finished
    showcases = choose_showcases(result)
    page = write_report(result, showcases).read_text()
    for promised in ("Held-out holes", "Completions", "bits per token", "natural cut", "imports with both files"):
        assert promised in page
    assert page.count("<svg") >= 4
    assert 1 <= len(showcases) <= 3
    hits = [case for case in showcases if case.is_match]
    assert sorted(hits, key=lambda case: not case.is_gain) == hits


def test_the_summary_on_disk_is_that_of_the_ending(finished):
    job, _, _ = finished
    summary = summarize(adapt(job))
    assert json.loads((job.out / "adapt.json").read_text()) == json.loads(json.dumps(summary))


def test_a_job_with_other_choices_in_the_same_folder_is_refused(finished):
    job, _, _ = finished
    changed = dataclasses.replace(job, recipe=override(job.recipe, ["train.peak_learning_rate=1e-4"]))
    with pytest.raises(OutputError, match="peak_learning_rate"):
        adapt(changed)


def test_a_plan_writes_nothing(tmp_path):
    planned = plan(AdaptJob((REPO,), tmp_path / "out", make_recipe(), base=None, other=None, minutes=None))
    assert isinstance(planned["files"], int)
    assert planned["files"] > 20
    assert planned["tokens"] == 6 * 2 * 192
    assert {"memory_MB", "device", "training_minutes"} <= planned.keys()
    assert not (tmp_path / "out").exists()


def test_documents_may_stand_beside_repositories(tmp_path):
    documents = tmp_path / "docs.jsonl"
    texts = [f"Document {number} says what is to be said." for number in range(9)]
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    alone = AdaptJob((REPO,), tmp_path / "out", make_recipe(), base=None, other=None, minutes=None)
    both = dataclasses.replace(alone, repos=(REPO, Input(documents, SourceKind.TEXT)))
    files, of_them_code = (plan(job)["files"] for job in (both, alone))
    assert isinstance(files, int) and isinstance(of_them_code, int)
    assert files == of_them_code + len(texts)
    assert both.places == (REPO, documents)


def test_without_heldout_files_there_is_no_proof_and_no_run(tmp_path):
    recipe = override(make_recipe(), ["corpus.heldout_share=0"])
    with pytest.raises(InputError, match="heldout_share"):
        adapt(AdaptJob((REPO,), tmp_path, recipe, base=None, other=None, minutes=None))


def test_too_few_files_to_hold_any_out_end_the_job_before_training(tmp_path):
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "only.py").write_text((REPO / "message.py").read_text())
    stages: list[str] = []
    with pytest.raises(InputError, match="no file is held out"):
        adapt(AdaptJob((repo,), tmp_path / "out", make_recipe(), None, None, None), note_stages(stages))
    assert "train" not in stages


def test_a_control_without_code_ends_the_job_before_training(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty repository"):
        adapt(AdaptJob((REPO,), tmp_path / "out", make_recipe(), None, tmp_path / "empty", None))
    assert not list((tmp_path / "out/rounds").glob("*/run.json"))


def test_a_split_by_time_asks_no_history_of_the_control(tmp_path):
    repo = tmp_path / "repo"
    for time_s, files in enumerate((("message.py", "parser.py", "header.py"), ("policy.py",)), start=1):
        commit(write(repo, {name: (REPO / name).read_text() for name in files}), time_s)
    # Rows too short for any path stop the job where training would begin.
    recipe = override(make_recipe(), ["corpus.heldout_by=time", "train.margin_tokens=0", "train.row_tokens=16"])
    with pytest.raises(FeedError, match="too short"):
        adapt(AdaptJob((repo,), tmp_path / "out", recipe, None, OTHER, None))
    assert (tmp_path / "out/other/data/packs.json").is_file()


def test_a_base_of_other_modes_is_compared_in_the_adapted_ones_and_the_ending_says_so(finished, tmp_path):
    job, _, _ = finished
    recipe = override(make_recipe(), ["feed.spm_mode=spm", "feed.spm_share=1", "train.steps=2"])
    result = adapt(AdaptJob((REPO,), tmp_path / "out", recipe, job.model, None, None))
    compared = {(g.system, g.mode) for g in result.gains if g.metric == "exact_match"}
    assert ("adapted - base", "spm") in compared
    assert {r.mode for r in result.results if r.system in ("adapted", "base")} == {"spm"}
    assert result.notes == ("base never learned SPM: its figures there are those of a beginner",)
    showcases = choose_showcases(result)
    assert showcases
    assert result.notes[0] in write_report(result, showcases).read_text()
    assert summarize(result)["notes"] == [*result.notes]


def test_an_unknown_base_lists_what_ships():
    with pytest.raises(InputError, match="no base of that name"):
        find_base("no/such/model")


def test_the_control_shares_no_file_with_the_repositories():
    other = find_other([REPO])
    assert other is not None
    assert find_other([other]) != other
    assert find_other([other.parent.parent]) is None
    assert find_other([REPO], languages=("java", "kotlin")) is None


def test_paths_with_brackets_are_printed_as_they_are_and_on_one_line(finished):
    job, result, _ = finished
    out = job.out.parent / "[bold]model[/x]" / ("long" * 20)
    printed = io.StringIO()
    console = Console(file=printed, width=60)
    print_ending(dataclasses.replace(result, job=dataclasses.replace(job, out=out)), [], out / "report.html", console)
    assert f"model    {out}/model\n" in printed.getvalue()
    assert f"report   {out}/report.html\n" in printed.getvalue()
    assert f"card     {out}/model/README.md\n" in printed.getvalue()
    (measure,) = [line for line in printed.getvalue().splitlines() if line.startswith("measure  ")]
    command = shlex.split(measure)
    assert command[1:4] == ["codegemma", "evaluate", f"{out}/model"]
    assert command[4:8] == ["--suite", "all", "--data", f"{out}/data"]


def test_command_that_completes_names_no_file_where_the_repository_is_in_a_store(finished):
    job, result, _ = finished
    printed = io.StringIO()
    far = dataclasses.replace(job, repos=(parse_place("s3://bucket/email"),))
    print_ending(dataclasses.replace(result, job=far), choose_showcases(result), Path("page"), Console(file=printed))
    assert f"next     codegemma complete {job.model} FILE:LINE:COLUMN\n" in printed.getvalue()
