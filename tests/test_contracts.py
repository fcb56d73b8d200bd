"""The import contracts hold, and each is seen to fail on a planted wrong import."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")

pytestmark = pytest.mark.skipif(not LINT.exists(), reason="import-linter is not installed: pip install --group check")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(
        [LINT, "--config", "pyproject.toml", "--no-cache"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("contracts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "bases"))
    return folder


def test_the_contracts_hold(copy):
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "planted", "broken"),
    [
        ("records.py", "import codegemma.text.tokenizer", "the river flows one way"),
        ("corpus/read.py", "import codegemma.pack.graph", "the river flows one way"),
        ("evals/heldout.py", "import codegemma.engine.engine", "handed a Completer"),
        ("feed/rows.py", "import jax", "never load"),
        ("model/config.py", "import jax.numpy", "never load"),
        ("engine/sample.py", "import codegemma.feed.cut", "does not reach back"),
    ],
)
def test_a_planted_wrong_import_breaks_its_contract(copy, module, planted, broken):
    file = copy / "src/codegemma" / module
    text = file.read_text()
    # After the docstring and whatever stands on top, at the end, where no order of imports matters.
    file.write_text(f"{text}\n{planted}\n")
    try:
        result = lint(copy)
    finally:
        file.write_text(text)
    assert result.returncode == 1
    # Long names of contracts are told in several lines.
    told = " ".join(result.stdout.split())
    assert re.search(f"{broken}(?:(?!KEPT|BROKEN).)* BROKEN", told), result.stdout
