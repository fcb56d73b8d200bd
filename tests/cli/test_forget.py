"""`codegemma forget` at the command line: what is shown, as text and as JSON, and what a clumsy user gets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.running import Ran

from codegemma.build import build_data
from codegemma.recipes import load_recipe


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for repo in ("service", "library"):
        for folder in "abcd":
            (tmp_path / repo / folder).mkdir(parents=True)
            text = "".join(f"def {repo}_{folder}_{n}(x):\n    return x + {n}\n\n\n" for n in range(5))
            (tmp_path / repo / folder / "main.py").write_text(text)
    build_data([tmp_path / "service", tmp_path / "library"], tmp_path / "data", load_recipe("tiny"))
    return tmp_path / "data"


def test_dry_run_then_removal_then_nothing_left(run: Callable[..., Ran], data: Path) -> None:
    plan = run("forget", data, "--repo", "service", "--dry-run")
    assert plan.code == 0
    assert "would go" in plan.out
    assert "packs-train.parquet/part-00000.parquet" in plan.out
    done = run("forget", data, "--repo", "service")
    assert done.code == 0
    assert "are removed" in done.out
    assert "a model cannot forget" in done.out
    assert 'has "data": "' in done.out
    assert str(data / "forgotten.json") in done.out
    again = run("forget", data, "--repo", "service")
    assert (again.code, "nothing of it is in" in again.out) == (0, True)


def test_json_is_one_object(run: Callable[..., Ran], data: Path) -> None:
    plain = json.loads(run("forget", data, "--repo", "library", "--path", "a/*", "--path", "b/main.py", "--json").out)
    assert (plain["repo"], plain["patterns"], plain["is_done"]) == ("library", ["a/*", "b/main.py"], True)
    assert sum(plain["files"].values()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--repo", "servce"), 3, "known: library, service"),
        (("--repo", "service", "--path", "*.rs"), 3, "no file of service"),
        (("--repo", "service", "--path", ""), 3, "names no files"),
        (("--repo", ""), 2, "--repo is empty"),
        (("--path", "a/*"), 2, "need --repo"),
        (("--dry-run",), 2, "need --repo"),
        ((), 3, "name what to remove with --repo"),
    ],
)
def test_wrong_requests_change_nothing_and_say_why(
    run: Callable[..., Ran], data: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    ran = run("forget", data, *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()} == before


def test_what_is_no_data_folder_is_left_alone(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt", tmp_path / "nowhere"):
        ran = run("forget", place, "--repo", "service")
        assert (ran.code, "wanted the folder that `codegemma build` wrote" in ran.err) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
