"""The two verbs on a real run: packs of this project's own source, a recipe in a file of the user's own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from codegemma.cli.main import main
from codegemma.records import Pack, PackedFile, Split
from codegemma.shards import write_records

SOURCES = sorted((Path(__file__).parents[2] / "src/codegemma/text").glob("*.py"))
RECIPE = """
from codegemma.feed.choices import FeedChoices
from codegemma.model.config import GemmaConfig
from codegemma.recipes import Recipe
from codegemma.train.choices import TrainChoices

RECIPE = Recipe(
    name="own",
    model=GemmaConfig(512, 32, 1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64),
    feed=FeedChoices(packing_bins=2),
    train=TrainChoices(batch_rows=2, row_tokens=64, steps=6, log_every_steps=2),
)
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Run":
    return Run(capsys, monkeypatch)


class Run:
    """Call the command line in this process, as the installed script does."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> Ran:
        self.monkeypatch.setattr(sys, "argv", ["codegemma", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(int(ended.value.code or 0), captured.out, captured.err)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs, a recipe, and a run of it."""
    folder = tmp_path_factory.mktemp("cli")
    none = np.zeros(0, np.int32)
    packs = [
        Pack(str(n), "own", None, Split.TRAIN, (PackedFile(p.name, "python", p.read_text(), p.name, None, none, none),))
        for n, p in enumerate(SOURCES)
    ]
    write_records(folder / "data/packs-train.parquet", packs)
    write_records(folder / "data/packs-heldout.parquet", packs[-1:])
    (folder / ".git").mkdir()
    (folder / "own.py").write_text(RECIPE)
    (folder / "code.py").write_text("def add(a, b):\n    return a\n")
    return folder


def train_arguments(folder: Path, *more: object) -> list[object]:
    return ["train", "--data", folder / "data", "--out", folder / "run", "--recipe", folder / "own.py", *more]


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    command = [sys.executable, "-m", "codegemma", *map(str, train_arguments(folder, "--json"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["steps"] == 6
    assert "Traceback" not in done.stderr
    return Path(result["model"])


def test_train_writes_a_run_and_the_same_command_again_tells_the_same(run: Run, folder: Path, model: Path) -> None:
    again = run(*train_arguments(folder))
    assert again.code == 0
    assert again.out.startswith("6 steps, ")
    assert f"model    {model}" in again.out
    assert [json.loads(line)["step"] for line in (folder / "run/metrics.jsonl").read_text().splitlines()] == [2, 4, 6]
    assert (folder / "run/tokenizer.json").is_file()
    assert (folder / "run/samples.jsonl").read_text()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--set", "train.seed=4"], 4, "train.seed was 0, now 4"),
        (["--set", "train.sed=4"], 2, "did you mean 'seed'"),
        (["--set", "train.steps=none"], 2, "--minutes N"),
        (["--set", "train.steps=0"], 2, "steps is at least 1"),
        (["--base", "nowhere"], 3, "no model folder 'nowhere'"),
        (["--data", "nowhere"], 3, "nowhere"),
        (["--minutes", "0"], 2, "minutes"),
    ],
)
def test_train_refuses_what_cannot_be_without_a_traceback(
    run: Run, folder: Path, model: Path, more: list[str], code: int, message: str
) -> None:
    ran = run(*train_arguments(folder, *more))
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_interrupted_train_exits_130_and_says_how_to_go_on(folder: Path, model: Path, tmp_path: Path) -> None:
    arguments = map(str, train_arguments(folder, "--out", tmp_path / "run", "--set", "train.steps=100000"))
    with subprocess.Popen(
        [sys.executable, "-m", "codegemma", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "run/metrics.jsonl").exists() or not (tmp_path / "run/metrics.jsonl").read_text():
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == 130
    assert "of 100000; the same command goes on from there" in told
    assert "Traceback" not in told


def test_completion_is_all_that_is_printed_and_equals_the_json(run: Run, folder: Path, model: Path) -> None:
    place = f"{folder / 'code.py'}:2:12"
    plain = run("complete", model, place, "--max-new-tokens", "12")
    answer = json.loads(run("complete", model, place, "--max-new-tokens", 12, "--json").out)
    assert plain == Ran(0, answer["text"], "")
    assert answer["tokens"] <= 12
    assert answer["mode"] == "spm"
    assert answer["stop_reason"] in ("control_token", "max_new_tokens", "context_full")
    assert 0 < answer["prompt_tokens"] < 64


def test_sampling_is_fixed_by_its_seed_and_mode_and_context_reach_the_prompt(
    run: Run, folder: Path, model: Path
) -> None:
    def ask(*more: object) -> dict[str, object]:
        place = f"{folder / 'code.py'}:2:12"
        answer: dict[str, object] = json.loads(
            run("complete", model, place, "--max-new-tokens", 9, "--json", *more).out
        )
        return answer

    hot = ["--temperature", 5, "--top-k", 300, "--top-p", 0.99]
    assert ask(*hot, "--seed", 1)["text"] == ask(*hot, "--seed", 1)["text"] != ask(*hot, "--seed", 2)["text"]
    assert ask("--mode", "psm")["mode"] == "psm"
    (folder / "other.py").write_text("x\n")
    assert int(str(ask("--context", folder / "other.py")["prompt_tokens"])) > int(str(ask()["prompt_tokens"]))


@pytest.mark.parametrize(
    ("place", "more", "code", "message"),
    [
        ("code.py:900:1", [], 3, "line 900 is past the end"),
        ("code.py:1:99", [], 3, "columns 1 to 15"),
        ("missing.py:1:1", [], 3, "no such file"),
        ("code.py", [], 3, "FILE:LINE:COLUMN"),
        ("code.py:1:1", ["--context", "nothing.py"], 3, "no such file"),
        ("code.py:1:1", ["--temperature", "-1"], 3, "temperature -1.0 is out of range"),
        ("code.py:1:1", ["--top-p", "1.5"], 3, "top_p 1.5"),
        ("code.py:1:1", ["--mode", "fim"], 2, "'psm', 'spm', 'spm1'"),
    ],
)
def test_complete_says_what_is_allowed(
    run: Run, folder: Path, model: Path, place: str, more: list[str], code: int, message: str
) -> None:
    ran = run("complete", model, folder / place, *more)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_model_folder_that_is_not_whole_is_named(run: Run, folder: Path, model: Path, tmp_path: Path) -> None:
    place = f"{folder / 'code.py'}:1:1"
    assert run("complete", tmp_path / "none", place).code == 3
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        broken = tmp_path / name.partition(".")[0]
        broken.mkdir()
        for file in model.iterdir():
            content = file.read_bytes()
            (broken / file.name).write_bytes(content[: len(content) // 2] if file.name == name else content)
        ran = run("complete", broken, place)
        assert (ran.code, ran.out) == (3, "")
        assert str(broken) in ran.err
        (broken / name).unlink()
        ran = run("complete", broken, place)
        assert (ran.code, ran.out) == (3, "")
        assert name in ran.err


@pytest.mark.parametrize("verb", ["train", "complete"])
def test_help_shows_an_example_and_loads_no_jax(verb: str) -> None:
    script = f"import sys; sys.argv = ['codegemma', '{verb}', '--help']\nfrom codegemma.cli.main import main\n"
    script += "try: main()\nexcept SystemExit: pass\nassert 'jax' not in sys.modules, 'jax'\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Example:" in done.stdout
    assert f"codegemma {verb} " in done.stdout
