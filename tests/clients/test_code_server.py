"""VS Code in a browser with our extension: type, see ghost text, Tab, save; the file on disk is right."""

import json
import os
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import httpx2
import pytest
from tests.clients.code_server import find_free_address, start_code_server
from tests.clients.conftest import AFTER, BEFORE, LINE, MIDDLE, MODULES, ROOT, TYPED, find_program

HERE = Path(__file__).parent
NORMALIZE = """import numpy as np


def normalize(x, axis=-1):
    \"\"\"Give x a mean of 0 and a standard deviation of 1.\"\"\"
    mean = np.mean(x, axis=axis, keepdims=True)
    std =
    return (x - mean) / std
"""


def test_code_server_shows_ghost_text_and_tab_accepts_it(running, count_events, code_server, tmp_path):
    file = tmp_path / "work.py"
    file.write_text(BEFORE)
    code_server.set({"codegemma.server": running.url})
    told = edit(code_server.url, file, LINE, TYPED)
    assert told["shown"] == MIDDLE
    assert f"{len(MIDDLE)} characters" in told["after"]
    assert file.read_text() == AFTER
    assert count_events("shown") >= 1
    assert count_events("accepted") == 1


def test_a_word_that_is_accepted_alone_is_counted_with_its_characters(running, count_events, code_server, tmp_path):
    file = tmp_path / "work.py"
    file.write_text(BEFORE)
    code_server.set({"codegemma.server": running.url})
    edit(code_server.url, file, LINE, TYPED, accept="Control+ArrowRight")
    assert file.read_text() == AFTER.replace(TYPED + MIDDLE, TYPED + "st")
    assert count_events("accepted") == 1
    assert "codegemma_accepted_characters_total 2.0" in running.client.get("/metrics").text


@pytest.mark.slow
def test_the_extension_starts_a_server_says_so_and_takes_it_along(browser_editor, tmp_path):
    program, address = tmp_path / "codegemma", find_free_address()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}/src" exec "{sys.executable}" -m codegemma "$@"\n')
    program.chmod(0o755)
    settings = {
        "codegemma.server": f"http://{address}",
        "codegemma.command": str(program),
        "codegemma.model": str(resources.files("codegemma.bases").joinpath("tiny")),
    }
    file = tmp_path / "array.py"
    file.write_text(NORMALIZE)
    with start_code_server(tmp_path) as code_server:
        code_server.set(settings)
        told = edit(code_server.url, file, 7, " np.std(", tries=40)
    assert "server is starting" in told["before"] or "being loaded" in told["before"]
    assert told["shown"]
    assert told["shown"] in file.read_text()
    with pytest.raises(httpx2.HTTPError):
        wait_until_gone(f"http://{address}/health")


def edit(url: str, file: Path, line: int, typed: str, tries: int = 0, accept: str = "Tab") -> dict[str, str]:
    """Type as a person would, accept what is shown, and save."""
    ask = {
        "url": url, "folder": str(file.parent), "file": str(file), "line": line, "typed": typed, "tries": tries,
        "accept": accept,
        "browser": find_program("chromium"), "picture": os.environ.get("CODEGEMMA_TEST_PICTURE"),
    }  # fmt: skip
    done = subprocess.run(
        [find_program("node"), HERE / "browser.js", json.dumps(ask)],
        env={**os.environ, "NODE_PATH": str(MODULES)}, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    return told


def wait_until_gone(url: str, seconds: float = 30) -> None:
    """Ask until nobody answers, and raise what a client gets then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        httpx2.get(url, timeout=5)
        time.sleep(0.3)
