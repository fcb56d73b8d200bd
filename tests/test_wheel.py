"""The wheel holds everything: it adapts the shipped base outside the checkout."""

import email
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, built from the repository and unpacked as an installer would."""
    pytest.importorskip("hatchling")
    folder: Path = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "codegemma", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=400)


def test_the_base_in_the_wheel_is_small_and_says_where_it_comes_from(installed):
    base = installed / "codegemma/bases/tiny"
    assert sum(file.stat().st_size for file in base.iterdir()) <= 8 * 2**20
    assert {file.name for file in base.iterdir()} >= {
        "README.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip


def test_the_wheel_adapts_its_base_outside_the_checkout(installed, tmp_path):
    repo = str(Path(str(email.__file__)).parent)
    settings = ["train.steps=3", "train.batch_rows=2", "evals.max_holes_per_kind=8", "evals.generated_holes=4"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    result = run(installed, tmp_path, "adapt", repo, "--out", "out", "--control", "none", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["steps"] == 3
    assert Path(summary["base"]).is_relative_to(installed)
    assert (tmp_path / "out/model/model.safetensors").is_file()
    assert (tmp_path / "out/report.html").is_file()
    completed = run(installed, tmp_path, "complete", "out/model", f"{repo}/message.py:30:5", "--max-new-tokens", "8")
    assert completed.returncode == 0, completed.stderr
