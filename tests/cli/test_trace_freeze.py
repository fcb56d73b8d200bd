"""`trace` and `freeze` on a real run: built from files, trained, and asked where its tokens come from."""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.running import Ran

from codegemma.cli.trace import make_visible
from codegemma.feed.frozen import read_frozen
from codegemma.text.tokenizer import Tokenizer

from .test_train_complete import RECIPE

PROGRAM = "def {name}(value):\r\n    mail = 'jane.doe2@corp.com'  # 𝒳\r\n    return value + len(mail)\r\n\r\n\r\n"
LICENSE = "# SPDX-License-Identifier: MIT\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of CRLF files with an address in every function, its data, and a run of them in adapt's layout."""
    folder = tmp_path_factory.mktemp("trace")
    (folder / "code").mkdir()
    for number in range(6):
        functions = "".join(PROGRAM.format(name=f"f_{number}_{i}") for i in range(8))
        (folder / f"code/m{number}.py").write_bytes((LICENSE + functions).encode())
    (folder / "own.py").write_text(RECIPE)
    command = [sys.executable, "-m", "codegemma"]
    build = [*command, "build", folder / "code", "--out", folder / "run/data", "--set", "corpus.heldout_share=0"]
    train = [*command, "train", "--data", folder / "run/data", "--out", folder / "run", "--recipe", folder / "own.py"]
    for arguments in (build, train):
        subprocess.run(list(map(str, arguments)), check=True, capture_output=True)
    return folder


def test_every_token_of_a_row_is_traced_to_its_place_in_the_repository(run: Callable[..., Ran], folder: Path) -> None:
    tokenizer = Tokenizer.load(folder / "run")
    places = set()
    for step, row, token in itertools.product((1, 4, 6), (0, 1), range(0, 64, 7)):
        ran = run("trace", folder / "run", "--step", step, "--row", row, "--token", token, "--json")
        origin: dict[str, Any] = json.loads(ran.out)
        assert (ran.code, origin["step"], origin["row"], origin["token"]) == (0, step, row, token)
        assert origin["is_checked"]
        span, piece = origin["span"], origin["piece"]
        if span is None or origin["part"] == "path":
            continue
        text = (folder / "code" / piece["path"]).read_bytes().decode()
        lines = text.split("\n")
        assert tokenizer.decode([origin["token_id"]]) in (span["text"], "�")
        # A token may begin with a line end. A pseudonym stands in the line of the address, and it is said so.
        touched = range(span["line"], span["line"] + span["text"][:-1].count("\n") + 1)
        redacted = [number for number in touched if "jane.doe2" in lines[number - 1]]
        assert origin["redactions"] == [f"email:{number}" for number in redacted]
        if not redacted:
            here = "\n".join(lines[span["line"] - 1 :])
            assert here[span["column"] - 1 :].startswith(span["text"])
        assert (piece["license"], piece["repo"], piece["commit"]) == ("MIT", "code", None)
        places.add((piece["path"], span["line"]))
    assert len(places) > 5


def test_text_for_people_names_everything(run: Callable[..., Ran], folder: Path) -> None:
    told = ""
    for token in range(1, 64):
        ran = run("trace", folder / "run/model", "--step", 1, "--row", 0, "--token", token)
        told = ran.out
        if "email:" in told:
            break
    words = ("token ", "loss weight", "repo      code, a plain folder", "licence   MIT", "pack ", "email:", "»")
    filters = ("read, block_list, safety, license, quality", "syntax", "opt-out list: none given")
    for word in (*words, *filters, "the one that the run read"):
        assert word in told, told
    assert "8 in the file" in told


def test_a_step_alone_lists_every_file_that_it_read(run: Callable[..., Ran], folder: Path) -> None:
    ran = run("trace", "--data", folder / "run/data", "--step", 5)
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert {line["row"] for line in lines} == {0, 1}
    assert all(line["step"] == 5 and 1 <= line["first_line"] <= line["last_line"] for line in lines)
    assert all((folder / "code" / line["path"]).is_file() for line in lines)
    row = run("trace", "--data", folder / "run/data", "--step", 5, "--row", 1)
    assert [json.loads(line) for line in row.out.splitlines()] == [line for line in lines if line["row"] == 1]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--step", 7], 3, "steps 1 to 6"),
        (["--step", 0], 3, "steps 1 to 6"),
        (["--step", 2, "--row", 2], 3, "rows 0 to 1"),
        (["--step", 2, "--row", 0, "--token", 64], 3, "tokens 0 to 63"),
        (["--step", 2, "--token", 3], 2, "--row"),
        (["--step", 2, "--data", "nowhere"], 3, "nowhere"),
        (["--step", 2, "--tokenizer", "nowhere.json"], 3, "nowhere.json"),
        ([], 2, "--step"),
    ],
)
def test_trace_says_what_there_is(
    run: Callable[..., Ran], folder: Path, more: list[object], code: int, message: str
) -> None:
    ran = run("trace", folder / "run", *more)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_data_that_was_built_again_otherwise_is_not_traced(run: Callable[..., Ran], folder: Path) -> None:
    built = run("build", folder / "code", "--out", folder / "other", "--set", "corpus.replace_personal=false")
    assert built.code == 0
    ran = run("trace", folder / "run", "--data", folder / "other", "--step", 2)
    assert (ran.code, ran.out) == (3, "")
    assert "is not what the run in" in ran.err


def test_a_run_and_its_recipe_freeze_the_same_rows(run: Callable[..., Ran], folder: Path, tmp_path: Path) -> None:
    ran = run("freeze", folder / "run", "--out", tmp_path / "of-run", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["steps"], told["rows"], told["shards"]) == (0, 6, 12, 1)
    batches = list(read_frozen(tmp_path / "of-run"))
    assert told["tokens"] == sum(np.count_nonzero(batch.segments) for batch in batches)
    data = ("--data", folder / "run/data", "--recipe", folder / "own.py", "--workers", 2)
    ran = run("freeze", *data, "--out", tmp_path / "of-recipe")
    assert ran.code == 0
    assert ran.out.startswith("6 steps of 2 rows, ")
    shard = "rows-000000001.parquet"
    assert (tmp_path / "of-run" / shard).read_bytes() == (tmp_path / "of-recipe" / shard).read_bytes()
    # The same command again does nothing, another one is refused.
    before = (tmp_path / "of-recipe" / shard).stat().st_mtime_ns
    assert run("freeze", *data, "--out", tmp_path / "of-recipe").code == 0
    assert (tmp_path / "of-recipe" / shard).stat().st_mtime_ns == before
    ran = run("freeze", *data, "--out", tmp_path / "of-recipe", "--set", "feed.infill_share=0.5")
    assert (ran.code, ran.out) == (4, "")
    assert "holds other rows" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{run}", "--recipe", "tiny"], 2, "leave out --recipe"),
        (["{run}", "--set", "feed.infill_share=0.5"], 2, "leave out --recipe"),
        ([], 2, "wanted a RUN"),
        (["--data", "{run}/data"], 2, "give --steps"),
        (["--data", "nowhere", "--steps", "3"], 3, "nowhere"),
        (["{run}", "--steps", "0"], 2, "--steps"),
        (["{run}", "--steps", "7"], 3, "steps 1 to 6"),
        (["{run}", "--out", "{run}"], 4, "another job's folder"),
        (["{run}", "--out", "{run}/data"], 4, "another job's folder"),
        (["{code}"], 3, "holds no run.json"),
    ],
)
def test_freeze_refuses_what_cannot_be_and_leaves_folders_alone(
    run: Callable[..., Ran], folder: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    spelled = [argument.format(run=folder / "run", code=folder / "code") for argument in arguments]
    ran = run("freeze", "--out", tmp_path / "rows", *spelled)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")} == before


def test_a_run_without_marks_is_told_to_be_unchecked(run: Callable[..., Ran], folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(folder / "run", copy)
    checked = run("trace", copy, "--step", 3, "--row", 0, "--token", 5, "--json")
    assert run("freeze", copy, "--out", tmp_path / "checked").err.count("not checked") == 0
    (copy / "rows.jsonl").unlink()
    unchecked = run("trace", copy, "--step", 3, "--row", 0, "--token", 5, "--json")
    assert json.loads(checked.out) | {"is_checked": False} == json.loads(unchecked.out)
    assert "so the versions here are trusted" in run("trace", copy, "--step", 3).err
    assert "not checked" in run("freeze", copy, "--out", tmp_path / "unchecked").err


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    hostile = "a\x1b]0;title\x07\x7f\x9b31m\u202etxt\u2066\r\tb"
    assert make_visible(hostile) == "a␛]0;title␇␡\\u009b31m\\u202etxt\\u2066␍\tb"
