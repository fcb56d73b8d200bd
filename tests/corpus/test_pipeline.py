import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import commit, write

from codegemma.corpus.border import Dividing
from codegemma.corpus.choices import CorpusChoices, HeldoutBy, NearDuplicatePolicy
from codegemma.corpus.contents import NoContent
from codegemma.corpus.entries import Listing, make_entry
from codegemma.corpus.intake import CHOICES as INTAKE_CHOICES
from codegemma.corpus.judge import LEAK_CHOICES
from codegemma.corpus.ledger import LEDGER_FILE
from codegemma.corpus.partition import MAX_SHARD_BYTES, cut_shards
from codegemma.corpus.pipeline import DROPPED_FILE, HELDOUT_FILE, STEPS, TRAIN_FILE, build_corpus
from codegemma.corpus.report import MANIFEST, CorpusReport
from codegemma.errors import InputError, OutputError
from codegemma.pack.choices import PackChoices
from codegemma.pack.pipeline import build_packs
from codegemma.recipe import ChoiceError, override
from codegemma.records import DroppedFile, Pack, SourceFile
from codegemma.runner import LocalRunner
from codegemma.shards import list_parts, read_records, write_records
from codegemma.steps import STEPS_FOLDER

CHOICES = CorpusChoices()


def module(name: str, functions: int = 6) -> str:
    """Write code that shares nothing with another name's."""
    return "".join(f"def {name}_{n}({name}_x{n}):\n    return {name}_x{n} + {n}\n\n\n" for n in range(functions))


def sample_files() -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {f"d{d}/m{m}.py": module(f"w{d}q{m}") for d in range(12) for m in range(3)}
    files["copy/of.py"] = module("w0q0")
    files["copy/spaced.py"] = module("w0q1").replace("\n", "\r\n")
    files["leak/key.py"] = f"token = '{'ghp_'}{'a1B2c3D4e5F6' * 3}'\n"
    files["made.py"] = "# This file is generated\n" + module("made")
    files["README.md"] = "# Sample\n"
    files["bad.py"] = b"# caf\xe9\n"
    return files


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return write(tmp_path / "sample", sample_files())


def build(repos: Iterable[Path], out: Path, choices: CorpusChoices = CHOICES, workers: int = 1) -> CorpusReport:
    return build_corpus(list(repos), out, choices, LocalRunner(workers))


def paths(out: Path, name: str) -> set[str]:
    return {file.path for file in read_records(out / name, SourceFile)}


def test_every_listed_file_is_kept_on_one_side_or_dropped_with_a_reason(repo: Path, tmp_path: Path) -> None:
    report = build([repo], tmp_path / "out")
    train, heldout = paths(tmp_path / "out", TRAIN_FILE), paths(tmp_path / "out", HELDOUT_FILE)
    drops = {drop.path: drop for drop in read_records(tmp_path / "out" / DROPPED_FILE, DroppedFile)}
    assert sorted([*train, *heldout, *drops]) == sorted(sample_files())
    assert {path: (drop.stage, drop.reason) for path, drop in drops.items()} == {
        "README.md": ("read", "language"),
        "bad.py": ("read", "undecodable"),
        "leak/key.py": ("safety", "secret"),
        "made.py": ("quality", "generated"),
        "d0/m0.py": ("dedup", "exact_duplicate"),
        "d0/m1.py": ("dedup", "whitespace_duplicate"),
    }
    assert [stage.files_dropped for stage in report.stages] == [2, 0, 1, 0, 1, 2, 0, 0]
    assert all(stage.files_in == stage.files_kept + stage.files_dropped for stage in report.stages)
    assert (report.files_train, report.files_heldout) == (len(train), len(heldout))
    assert report.stages[0].files_in == len(sample_files())
    assert 0.05 <= report.bytes_heldout / (report.bytes_heldout + report.bytes_train) <= 0.11


def test_secret_is_named_by_rule_and_line_and_written_nowhere(repo: Path, tmp_path: Path) -> None:
    build([repo], tmp_path / "out")
    [drop] = [d for d in read_records(tmp_path / "out" / DROPPED_FILE, DroppedFile) if d.stage == "safety"]
    assert drop.detail == "github-token in line 1"
    assert all(b"a1B2c3D4" not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_any_number_of_workers_gives_the_same_bytes(repo: Path, tmp_path: Path) -> None:
    one, two = (build([repo], tmp_path / f"out{workers}", workers=workers) for workers in (1, 2))
    assert dataclasses.replace(one, seconds={}) == dataclasses.replace(two, seconds={})
    assert read_all(tmp_path / "out1") == read_all(tmp_path / "out2")


def read_all(out: Path) -> dict[str, bytes]:
    """Read every file that a build wrote, the manifest with its times left out."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_held_out_file_that_training_gives_away_is_dropped(tmp_path: Path) -> None:
    files = sample_files()
    kept_out = paths_after_build(tmp_path / "first", files)[1]
    leaked = sorted(kept_out)[0]
    twin = str(files[leaked]).replace("+ 5", "+ 55")
    files["zz/huge.py"] = module("huge", 60) + str(files[leaked])
    files["zz/twin.py"] = twin
    out = tmp_path / "second"
    _, heldout = paths_after_build(out, files)
    drops = {d.path: d for d in read_records(out / "out" / DROPPED_FILE, DroppedFile) if d.stage == "split"}
    assert leaked not in heldout
    assert drops[leaked].reason == "near_duplicate_of_train"
    assert "zz/twin.py" in drops[leaked].detail


def paths_after_build(folder: Path, files: dict[str, str | bytes]) -> tuple[set[str], set[str]]:
    # A directory's turn depends on its name alone, so that those of the first build come first in the second as well.
    build([write(folder / "sample", files)], folder / "out", dataclasses.replace(CHOICES, heldout_share=0.2))
    return paths(folder / "out", TRAIN_FILE), paths(folder / "out", HELDOUT_FILE)


def test_split_by_time_holds_out_what_was_added_last(tmp_path: Path) -> None:
    root = write(tmp_path / "sample", {f"m{n}.py": module(f"old{n}") for n in range(9)})
    commit(root, time_s=100)
    write(root, {"newest.py": module("new")})
    commit(root, time_s=200)
    report = build([root], tmp_path / "out", dataclasses.replace(CHOICES, heldout_by=HeldoutBy.TIME))
    assert paths(tmp_path / "out", HELDOUT_FILE) == {"newest.py"}
    assert "1970-01-01T00:03:20" in report.repos[0].heldout


def test_same_command_again_does_nothing_and_a_changed_input_builds_anew(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = build([repo], out)
    [part] = list_parts(out / TRAIN_FILE)
    written_ns = part.stat().st_mtime_ns
    again = build([repo], out)
    assert again == dataclasses.replace(first, is_reused=True)
    assert part.stat().st_mtime_ns == written_ns
    write(repo, {"added.py": module("added")})
    assert not build([repo], out).is_reused
    assert not build([repo], out, dataclasses.replace(CHOICES, seed=1)).is_reused


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_damaged_build_is_not_trusted(repo: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    build([repo], out)
    [part], [heldout] = list_parts(out / TRAIN_FILE), list_parts(out / HELDOUT_FILE)
    whole = part.read_bytes()
    if damage == "truncate":
        os.truncate(part, len(whole) // 2)
    elif damage == "remove":
        heldout.unlink()
    else:
        (out / MANIFEST).write_text((out / MANIFEST).read_text()[:100])
    assert not build([repo], out).is_reused
    assert part.read_bytes() == whole


def test_failed_build_leaves_nothing_that_a_later_run_trusts(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build([repo], out)
    with pytest.raises(InputError, match="nothing left to train on: dropped 42 read/language; wanted rust"):
        build([repo], out, dataclasses.replace(CHOICES, languages=("rust",)))
    # Nothing of the earlier build either: one side of it beside one side of the next would be a leak.
    assert {path.name for path in out.iterdir()} == {STEPS_FOLDER, LEDGER_FILE}


def test_output_inside_the_repository_is_not_part_of_it(repo: Path) -> None:
    out = repo / "out"
    build([repo], out)
    write(out, {"notes.py": "x = 1\n"})
    assert build([repo], out).is_reused


def test_what_a_run_writes_beside_the_corpus_does_not_change_the_repository(repo: Path) -> None:
    run = repo / "run"
    build_corpus([repo], run / "corpus", CHOICES, exclude=run)
    write(run, {"model/notes.py": "x = 1\n", "log.json": "{}"})
    assert build_corpus([repo], run / "corpus", CHOICES, exclude=run).is_reused


def test_repositories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    roots = [write(tmp_path / name / "app", {f"m{n}.py": module(f"{name}{n}") for n in range(4)}) for name in "ab"]
    report = build(roots, tmp_path / "out")
    assert [count.repo for count in report.repos] == ["app", "app#2"]
    repos = {file.repo for file in read_records(tmp_path / "out" / TRAIN_FILE, SourceFile)}
    assert repos == {"app", "app#2"}


def test_another_repository_does_not_change_what_is_held_out_of_the_first(repo: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", {f"m{n}.py": module(f"other{n}") for n in range(4)})
    alone = build([repo], tmp_path / "alone")
    both = build([repo, other], tmp_path / "both")
    assert both.repos[0] == alone.repos[0]
    assert paths(tmp_path / "alone", HELDOUT_FILE) <= paths(tmp_path / "both", HELDOUT_FILE)


def test_single_file_is_trained_on_and_the_report_says_that_nothing_is_held_out(tmp_path: Path) -> None:
    report = build([write(tmp_path / "one", {"a.py": module("a")})], tmp_path / "out")
    assert (report.files_train, report.files_heldout) == (1, 0)
    assert report.notes == ("one: nothing could be held out, it has too few files",)


def test_unknown_language_is_a_wrong_choice_that_lists_the_known() -> None:
    with pytest.raises(ChoiceError, match="unknown: pyhton; wanted some of python, c,"):
        override(CHOICES, ["languages=python,pyhton"])


def test_build_that_was_killed_leaves_nothing_after_the_next(repo: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    write(out, {f"{TRAIN_FILE}/.part-00000.parquet.1.tmp": "half", f"{STEPS}/.texts-1.parquet.1.tmp": "half"})
    build([repo], out)
    build([repo], other)
    assert read_all(out) == read_all(other)


def test_build_that_was_cut_off_decides_no_side_and_the_next_is_as_if_it_had_not_been(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Dividing, "drop_leaks", cut_off)
        with pytest.raises(KeyboardInterrupt):
            build([repo], tmp_path / "out")
    assert build([repo], tmp_path / "out").repos == build([repo], tmp_path / "other").repos
    sides = (tmp_path / "out" / LEDGER_FILE).read_bytes()
    monkeypatch.setattr(Dividing, "drop_leaks", cut_off)
    with pytest.raises(KeyboardInterrupt):
        build([repo], tmp_path / "out", dataclasses.replace(CHOICES, seed=1))
    assert (tmp_path / "out" / LEDGER_FILE).read_bytes() == sides


def test_damaged_ledger_is_told_and_so_is_that_nothing_is_held_out_beside_other_notes(tmp_path: Path) -> None:
    files = {f"d{d}/m{m}.py": module(f"w{d}q{m}") for d in range(12) for m in range(2)}
    repos = [write(tmp_path / at, {path: f"{text}\nat = '{at}'\n" for path, text in files.items()}) for at in "ab"]
    choices, out = dataclasses.replace(CHOICES, near_duplicates=NearDuplicatePolicy.NONE), tmp_path / "out"
    (out / LEDGER_FILE).parent.mkdir()
    (out / LEDGER_FILE).write_bytes(b"half of one")
    notes = build(repos, out, choices).notes
    assert [note.partition(": ")[0] for note in notes] == [
        "b", "sides.parquet was damaged", "every held-out file was given away by a training file"
    ]  # fmt: skip


def test_unusable_arguments_are_errors_that_say_what_to_do(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given twice"):
        build([repo, repo / "d0" / ".."], tmp_path / "out")
    with pytest.raises(InputError, match="no repository given"):
        build([], tmp_path / "out")
    with pytest.raises(OutputError, match="is the repository itself"):
        build([repo], repo)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        build([repo], tmp_path / "file")


def test_manifest_is_plain_json_with_counts_and_times(repo: Path, tmp_path: Path) -> None:
    build([repo], tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert {"stage": "safety", "reason": "secret", "files": 1, "size_bytes": 51} in manifest["dropped"]
    assert {"read_wall_s", "leaks_wall_s", "safety_cpu_s", "quality_cpu_s"} <= manifest["seconds"].keys()


def test_progress_ends_at_the_number_of_files(repo: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    build_corpus([repo], tmp_path / "out", CHOICES, on_progress=lambda *step: seen.append(step))
    total = len(sample_files())
    assert ("read", total, total) in seen
    assert all(done <= (total or done) for _, done, total in seen)


def step_files(out: Path, step: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / STEPS).glob(f"{step}-*")}


def test_changed_threshold_makes_only_the_steps_anew_that_hang_on_it(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build([repo], out)
    texts, verdicts = step_files(out, "texts"), step_files(out, "quality")
    rules = tmp_path / "rules.toml"
    rules.write_text("[default]\nmax_line_chars = 40\n")
    build([repo], out, dataclasses.replace(CHOICES, quality_rules=str(rules)))
    assert step_files(out, "texts") == texts
    assert not step_files(out, "quality").keys() & verdicts.keys()
    build([repo], out, dataclasses.replace(CHOICES, replace_personal=False))
    assert not step_files(out, "texts").keys() & texts.keys()


def test_every_choice_belongs_to_a_step_or_is_asked_for_each_build() -> None:
    asked = {"licenses", "keep_unlicensed", "opt_out", "heldout_by", "heldout_share", "seed"}
    asked |= {"parquet_columns", "document_language", "quality_rules", "english"}
    asked |= {
        "exact_duplicates",
        "near_duplicates",
        "min_near_duplicate_jaccard",
        "forks",
        "decontaminate",
        "decontamination_allow_list",
    }
    named = [*INTAKE_CHOICES, *LEAK_CHOICES, *asked]
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(CorpusChoices))


def test_added_file_changes_the_shards_around_it_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegemma.corpus.partition.MIN_SHARD_BYTES", 1_000)
    files: dict[str, str | bytes] = {f"d{n % 7}/m{n:03d}.py": module(f"w{n}") for n in range(600)}
    root, out = write(tmp_path / "sample", files), tmp_path / "out"
    build([root], out)
    before = step_files(out, "texts")
    write(root, {"d3/added.py": module("added")})
    build([root], out)
    after = step_files(out, "texts")
    assert len(before) / 3 > 3
    assert 1 <= len(after.keys() - before.keys()) / 3 <= 2


@given(
    sizes=st.lists(st.integers(0, 3 * 2**20), max_size=60),
    max_file_bytes=st.integers(1, 2**21),
)
def test_shards_hold_every_file_once_in_order_and_are_not_large(sizes: list[int], max_file_bytes: int) -> None:
    entries = tuple(make_entry(f"{n:03d}.py", size, "", NoContent()) for n, size in enumerate(sizes))
    shards = list(cut_shards([Listing("r", None, entries)], max_file_bytes))
    assert [file.entry for shard in shards for file in shard] == list(entries)
    for shard in shards:
        assert shard
        weights = [file.entry.size_bytes for file in shard if file.entry.size_bytes <= max_file_bytes]
        assert sum(weights[:-1]) < MAX_SHARD_BYTES


def test_files_once_held_out_stay_held_out_and_trained_ones_never_are(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build([repo], out)
    train, heldout = paths(out, TRAIN_FILE), paths(out, HELDOUT_FILE)
    folder = min(heldout).partition("/")[0]
    files: dict[str, str | bytes] = {f"{folder}/more.py": module("more")}
    write(repo, files | {f"n{n}/m{m}.py": module(f"n{n}q{m}") for n in range(9) for m in range(3)})
    (repo / max(heldout)).unlink()
    report = build([repo], out)
    assert train <= paths(out, TRAIN_FILE)
    assert heldout - {max(heldout)} <= paths(out, HELDOUT_FILE)
    assert f"{folder}/more.py" in paths(out, HELDOUT_FILE)
    assert "held out before" in report.repos[0].heldout


def test_files_that_move_stay_on_their_side(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build([repo], out)
    train, heldout = max(paths(out, TRAIN_FILE)), max(paths(out, HELDOUT_FILE))
    moved = {train: f"{heldout.partition('/')[0]}/moved.py", heldout: f"{train.partition('/')[0]}/moved.py"}
    for before, after in moved.items():
        (repo / before).rename(repo / after)
    build([repo], out)
    assert moved[train] in paths(out, TRAIN_FILE)
    assert moved[heldout] in paths(out, HELDOUT_FILE)


def test_what_earlier_packs_give_away_is_not_held_out(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build([repo], out)
    train, heldout = max(paths(out, TRAIN_FILE)), max(paths(out, HELDOUT_FILE))
    build_packs(out, out, PackChoices())
    packs = tmp_path / "trained.parquet"
    write_records(packs, read_records(out / "packs-train.parquet", Pack), Pack)
    # Moved with an edit: no path and no digest tells what it was.
    text = (repo / train).read_text()
    (repo / train).unlink()
    write(repo, {f"{heldout.partition('/')[0]}/moved.py": text + "\nmore = 1\n"})
    build_corpus([repo], out, CHOICES, trained=[packs])
    [drop] = [drop for drop in read_records(out / DROPPED_FILE, DroppedFile) if drop.path.endswith("/moved.py")]
    assert drop.reason in {"near_duplicate_of_train", "contained_in_train"}
    assert f"{train}, trained on earlier" in drop.detail
    assert paths(out, HELDOUT_FILE)
