import dataclasses
import json
from pathlib import Path

from tests.corpus.near_copies import read_library
from tests.corpus.repositories import write

from codegemma.build import build_data
from codegemma.corpus.choices import CorpusChoices, ForkPolicy, NearDuplicatePolicy
from codegemma.corpus.pipeline import DROPPED_FILE, STEPS, TRAIN_FILE, build_corpus
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.records import DroppedFile, SourceFile
from codegemma.runner import LocalRunner
from codegemma.shards import read_records

CHOICES = CorpusChoices(heldout_share=0.0)
TEXTS = list(read_library(24).values())


def drops(out: Path) -> dict[tuple[str, str], DroppedFile]:
    return {(drop.repo, drop.path): drop for drop in read_records(out / DROPPED_FILE, DroppedFile)}


def kept(out: Path) -> set[tuple[str, str]]:
    return {(file.repo, file.path) for file in read_records(out / TRAIN_FILE, SourceFile)}


def near(text: str) -> str:
    return text + "\nadded = 1\n"


def test_near_duplicate_in_another_repository_goes_and_one_in_the_same_stays(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"a.py": TEXTS[0], "again.py": near(TEXTS[0]), "b.py": TEXTS[1]})
    two = write(tmp_path / "two", {"c.py": near(near(TEXTS[0])), "d.py": TEXTS[2], "e.py": TEXTS[3]})
    build_corpus([one, two], tmp_path / "out", CHOICES)
    dropped = drops(tmp_path / "out")
    assert dropped.keys() == {("two", "c.py")}
    assert (dropped["two", "c.py"].stage, dropped["two", "c.py"].reason) == ("dedup", "near_duplicate")
    assert "with one: a" in dropped["two", "c.py"].detail
    everywhere = dataclasses.replace(CHOICES, near_duplicates=NearDuplicatePolicy.EVERYWHERE)
    build_corpus([one, two], tmp_path / "out", everywhere)
    assert drops(tmp_path / "out").keys() == {("two", "c.py"), ("one", "again.py")}
    build_corpus([one, two], tmp_path / "out", dataclasses.replace(CHOICES, near_duplicates=NearDuplicatePolicy.NONE))
    assert not drops(tmp_path / "out")


def test_fork_is_reported_or_dropped_whole(tmp_path: Path) -> None:
    files = {f"m{n:02d}.py": text for n, text in enumerate(TEXTS[:12])}
    origin = write(tmp_path / "origin", {**files})
    fork = write(tmp_path / "the-fork", {**{name: near(text) for name, text in files.items()}, "own.py": "own = 1\n"})
    keep = dataclasses.replace(CHOICES, near_duplicates=NearDuplicatePolicy.NONE)
    report = build_corpus([origin, fork], tmp_path / "out", keep)
    assert any(note.startswith("the-fork: almost the same as origin") for note in report.notes)
    assert len(kept(tmp_path / "out")) == 25
    build_corpus([origin, fork], tmp_path / "out", dataclasses.replace(keep, forks=ForkPolicy.DROP))
    assert {repo for repo, _ in kept(tmp_path / "out")} == {"origin"}
    assert {drop.reason for drop in drops(tmp_path / "out").values()} == {"fork"}


def write_benchmark(path: Path) -> Path:
    item = {
        "task_id": "Made/1",
        "prompt": 'def count_ripe_plums(orchard, season):\n    """Count the plums that are ripe in this season."""\n',
        "canonical_solution": "    return sum(tree.plums for tree in orchard if tree.ripens_in(season) and tree.old)\n",
        "test": "assert count_ripe_plums([], 3) == 0",
        "entry_point": "count_ripe_plums",
    }
    path.write_text(json.dumps(item) + "\n")
    return path


def test_benchmark_item_never_reaches_the_corpus_and_the_report_says_what_was_guarded(tmp_path: Path) -> None:
    benchmark = write_benchmark(tmp_path / "made.jsonl")
    item = json.loads(benchmark.read_text())
    planted = TEXTS[0] + "\n\n" + item["prompt"] + item["canonical_solution"].replace("    ", "\t")
    repo = write(tmp_path / "repo", {"planted.py": planted, "clean.py": TEXTS[1], "more.py": TEXTS[2]})
    out = tmp_path / "out"
    build_corpus([repo], out, CHOICES)
    assert ("repo", "planted.py") in kept(out)
    before = {path.name for path in (out / STEPS).glob("texts-*")}
    report = build_corpus([repo], out, dataclasses.replace(CHOICES, decontaminate=(str(benchmark),)))
    [drop] = drops(out).values()
    assert (drop.path, drop.stage, drop.reason) == ("planted.py", "decontaminate", "benchmark")
    assert "made/Made/1 by ten_words in line" in drop.detail
    assert any(line.startswith("benchmarks: made (1 items)") for line in report.lists)
    assert {path.name for path in (out / STEPS).glob("texts-*")} == before
    benchmark.write_text(benchmark.read_text().replace("plums", "pears"))
    assert not build_corpus([repo], out, dataclasses.replace(CHOICES, decontaminate=(str(benchmark),))).is_reused


def test_near_duplicates_may_be_asked_for_after_benchmarks_were(tmp_path: Path) -> None:
    choices = dataclasses.replace(CHOICES, decontaminate=(str(write_benchmark(tmp_path / "made.jsonl")),))
    repos = [
        write(tmp_path / name, {f"{name}.py": near(TEXTS[0]), "b.py": TEXTS[n]}) for n, name in enumerate("xyz", 1)
    ]
    without = dataclasses.replace(choices, near_duplicates=NearDuplicatePolicy.NONE, forks=ForkPolicy.KEEP)
    build_corpus(repos, tmp_path / "out", without)
    build_corpus(repos, tmp_path / "out", choices)
    build_corpus(repos, tmp_path / "fresh", choices)
    assert kept(tmp_path / "out") == kept(tmp_path / "fresh")


def test_every_item_in_a_file_is_told_with_its_rules_and_lines(tmp_path: Path) -> None:
    benchmark = write_benchmark(tmp_path / "made.jsonl")
    item = json.loads(benchmark.read_text())
    second = json.loads(
        benchmark.read_text().replace("Made/1", "Made/2").replace("plums", "pears").replace("tree", "bush")
    )
    benchmark.write_text(json.dumps(item) + "\n" + json.dumps(second) + "\n")
    programs = [each["prompt"] + each["canonical_solution"] for each in (item, second)]
    repo = write(tmp_path / "repo", {"both.py": f"{TEXTS[0]}\n\n" + "\n\n".join(programs), "clean.py": TEXTS[1]})
    recipe = override(load_recipe("tiny"), [f"corpus.decontaminate={benchmark}", "corpus.heldout_share=0"])
    build_data([repo], tmp_path / "out", recipe)
    [drop] = drops(tmp_path / "out").values()
    start = TEXTS[0].count("\n") + 3
    told = [line.strip() for line in drop.detail.split(";")]
    assert {line.partition(" ")[0] for line in told} == {"made/Made/1", "made/Made/2"}
    assert {line.split()[2] for line in told} == {"ten_words", "whole_text"}
    assert {int(line.rpartition(" ")[2]) for line in told} == {start, start + 5}
    page = (tmp_path / "out/report.html").read_text()
    assert "repo: both.py" in page
    assert drop.detail in page


def test_any_number_of_workers_finds_the_same_near_duplicates(tmp_path: Path) -> None:
    repos = [
        write(tmp_path / f"repo{r}", {f"m{n}.py": TEXTS[n] + f"\nextra{r} = {r}\n" for n in range(r, 12)})
        for r in range(3)
    ]
    found = []
    for workers in (1, 2, 3):
        build_corpus(repos, tmp_path / f"out{workers}", CHOICES, LocalRunner(workers))
        found.append(
            [path.read_bytes() for path in sorted((tmp_path / f"out{workers}").rglob("*.parquet")) if path.is_file()]
        )
    assert found[0] == found[1] == found[2]
    assert any(drop.reason == "near_duplicate" for drop in drops(tmp_path / "out1").values())
