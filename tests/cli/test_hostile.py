"""What a hostile or clumsy user gets: a message and an exit code, never a traceback, and nothing that is not theirs.

Nothing here computes with a model: refusals come before that.
"""

import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.cli.running import Ran

from codegemma.errors import InputError, OutputError
from codegemma.folders import claim_folder, hold_folder
from codegemma.model.config import GemmaConfig, from_hf_dict
from codegemma.model.weights import load_model
from codegemma.recipe import ChoiceError
from codegemma.recipes import load_recipe
from codegemma.text.cursor import read_cursor
from codegemma.text.tokenizer import Tokenizer, train_tokenizer


def make_repository(folder: Path) -> Path:
    folder.mkdir()
    for name in ("first", "second", "third"):
        text = f"def {name}(value):\n    other = value + len('{name}')\n    return other\n\n\nclass {name.title()}:\n"
        (folder / f"{name}.py").write_text(text + f"    name = '{name}'\n")
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "", "--out", "data"],
        ["build", "code", "--out", ""],
        ["build", "code", "--out="],
        ["complete", "", "a:1:1"],
    ],
)
def test_an_empty_argument_never_means_the_working_folder(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    make_repository(tmp_path / "code")
    monkeypatch.chdir(tmp_path)
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "is empty" in ran.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["code"]


def test_a_folder_with_other_peoples_files_is_refused_and_left_alone(run: Callable[..., Ran], tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "code")
    out = tmp_path / "out"
    out.mkdir()
    (out / "corpus.json").write_text("mine")
    ran = run("build", repository, "--out", out, "--workers", 1)
    assert (ran.code, ran.out) == (4, "")
    assert "holds something else (corpus.json)" in ran.err
    assert {file.name: file.read_text() for file in out.iterdir()} == {"corpus.json": "mine"}


def test_a_build_into_a_folder_in_use_is_refused_and_runs_afterwards(run: Callable[..., Ran], tmp_path: Path) -> None:
    repository, out = make_repository(tmp_path / "code"), tmp_path / "out"
    arguments = ["build", repository, "--out", out, "--workers", 1, "--json"]
    with hold_folder(out):
        ran = run(*arguments)
        assert (ran.code, ran.out) == (4, "")
        assert "another process works in" in ran.err
        assert [file.name for file in out.iterdir()] == [".lock"]
    for _ in range(2):
        ran = run(*arguments)
        assert ran.code == 0
        assert "corpus" in json.loads(ran.out)


def test_folders_of_earlier_jobs_may_be_claimed_from_above(tmp_path: Path) -> None:
    claim_folder(tmp_path / "job" / "data")
    claim_folder(tmp_path / "job")
    (tmp_path / "job" / "notes.txt").write_text("added later")
    claim_folder(tmp_path / "job")
    (tmp_path / "mixed" / "sub").mkdir(parents=True)
    (tmp_path / "mixed" / "sub" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds something else \(sub\)"):
        claim_folder(tmp_path / "mixed")


def test_a_repository_that_ignores_all_its_files_says_so(run: Callable[..., Ran], tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "code")
    (repository / ".gitignore").write_text("*\n")
    ran = run("build", repository, "--out", tmp_path / "out")
    assert ran.code == 3
    assert ".gitignore leaves out all of it" in ran.err


def test_a_history_with_a_lost_commit_is_named(run: Callable[..., Ran], tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "code")
    git(repository, "init", "-q")
    for number in range(3):
        (repository / f"more_{number}.py").write_text(f"def more_{number}():\n    return {number}\n")
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", str(number))
    lost = git(repository, "rev-parse", "HEAD~1")
    (repository / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    ran = run("build", repository, "--out", tmp_path / "out", "--workers", 1, "--set", "corpus.heldout_by=time")
    assert ran.code == 3
    assert "history cannot be read" in ran.err


@pytest.mark.parametrize("text", ["RECIPE = (", "raise KeyError('x')", "import no_such_module", "\0", "RECIPE = 3"])
def test_a_recipe_file_that_fails_is_a_bad_choice(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(ChoiceError, match=r"own\.py"):
        load_recipe(str(tmp_path / "own.py"))


def test_a_cursor_in_a_pipe_or_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    raised: list[BaseException] = []

    def ask() -> None:
        for file in (tmp_path / "pipe.py", Path("/dev/zero")):
            try:
                read_cursor(f"{file}:1:1")
            except InputError as error:
                raised.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout=20)
    assert ["pipe, socket or device" in str(error) for error in raised] == [True, True]


def test_a_file_name_that_is_not_utf8_is_spelled_in_text(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    file = tmp_path / os.fsdecode(b"bad\xff.py")
    file.write_text("x = 1\n")
    assert read_cursor(f"{file}:1:2").path == r"bad\udcff.py"


def damage_vocab(model: dict[str, Any]) -> None:
    model["vocab"] = {}


def damage_ids(model: dict[str, Any]) -> None:
    model["vocab"] = {piece: str(number) for piece, number in model["vocab"].items()}


def damage_merges(model: dict[str, Any]) -> None:
    model["merges"].append("no such pieces")


def remove_vocab(model: dict[str, Any]) -> None:
    del model["vocab"]


@pytest.mark.parametrize("damage", [damage_vocab, damage_ids, damage_merges, remove_vocab])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    definition = json.loads(train_tokenizer(["def add(a, b):\n    return a + b\n"] * 9, 400).to_json())
    damage(definition["model"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_json_nested_beyond_reason_is_named(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("[" * 200_000)
    save_file({"model.norm.weight": np.zeros(16, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 16.5}, "whole number"),
        ({"hidden_size": "16"}, "whole number"),
        ({"rms_norm_eps": float("nan")}, "above 0"),
    ],
)
def test_a_config_with_impossible_sizes_is_refused(change: dict[str, Any], message: str) -> None:
    plain = GemmaConfig(512, 16, 1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=32).to_hf_dict()
    with pytest.raises(InputError, match=message):
        from_hf_dict(plain | change)


def test_a_config_that_asks_for_more_than_memory_is_refused(tmp_path: Path) -> None:
    config = GemmaConfig(10**15, 16, 1, num_heads=1, num_kv_heads=1, head_dim=16, mlp_dim=32)
    (tmp_path / "config.json").write_text(json.dumps(config.to_hf_dict()))
    save_file({"model.embed_tokens.weight": np.zeros((512, 16), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="1000000000000000"):
        load_model(tmp_path)
