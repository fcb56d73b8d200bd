"""Editors and plugins that people use, as programs of their own; those that are not installed are skipped, and told.

`make setup-clients` installs what npm and Debian have, into `build/clients` or where CODEGEMMA_TEST_CLIENTS says.
llama.vim is not ours to bring: CODEGEMMA_TEST_LLAMA_VIM names its folder.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import SOURCE, Running, serve
from tests.serve.parrot import Parrot

from codegemma.text.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("CODEGEMMA_TEST_CLIENTS") or ROOT / "build/clients")
MODULES = CLIENTS / "npm" / "node_modules"

# A file as it is while somebody works on it: what they type, and what the model would write then.
LINE, TYPED, MIDDLE = 10, "total = fir", "st - second"
BEFORE = SOURCE.replace("    total = first - second\n", "    \n")
AFTER = SOURCE


def find_program(name: str) -> str:
    """Find a program of the system, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make setup-clients")
    return found


def find_module(name: str) -> Path:
    """Find a client from npm, or skip."""
    find_program("node")
    if not (MODULES / name).exists():
        pytest.skip(f"{name} is not in {MODULES}: make setup-clients")
    return MODULES / name


@pytest.fixture(scope="session")
def browser_editor() -> None:
    """Skip where VS Code cannot be driven in a browser."""
    from tests.clients.code_server import ENTRY, EXTENSION

    find_program("chromium")
    find_module("playwright-core")
    if not ENTRY.exists():
        pytest.skip(f"code-server is not in {CLIENTS}: make setup-clients")
    if not EXTENSION.exists():
        pytest.skip("the extension is not built: make vscode")


@pytest.fixture(scope="session")
def code_server(browser_editor: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A `tests.clients.code_server.CodeServer` for all: starting one takes longer than using it."""
    from tests.clients.code_server import start_code_server

    with start_code_server(tmp_path_factory.mktemp("code-server")) as started:
        yield started


@pytest.fixture
def running() -> Iterator[Running]:
    with serve(Parrot(train_tokenizer([SOURCE] * 9, vocab_size=480), SOURCE)) as server:
        yield server


@pytest.fixture
def count_events(running: Running) -> Callable[[str], float]:
    def count(event: str) -> float:
        found = running.client.get("/metrics").text.splitlines()
        start = f'codegemma_completions_total{{event="{event}"'
        return sum(float(line.rpartition(" ")[2]) for line in found if line.startswith(start))

    return count
