"""VS Code in a browser with our extension: type, see ghost text, Tab, save; the file on disk is right."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import httpx2
import pytest
from tests.clients.conftest import AFTER, BEFORE, CLIENTS, LINE, MIDDLE, MODULES, ROOT, TYPED, find_module, find_program

HERE = Path(__file__).parent
ENTRY = CLIENTS / "code-server/package/out/node/entry.js"
EXTENSION = ROOT / "editors/vscode/codegemma.vsix"
SETTINGS = {
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "workbench.startupEditor": "none",
    "editor.quickSuggestions": {"other": "off"},
}
NORMALIZE = """import numpy as np


def normalize(x, axis=-1):
    \"\"\"Give x a mean of 0 and a standard deviation of 1.\"\"\"
    mean = np.mean(x, axis=axis, keepdims=True)
    std =
    return (x - mean) / std
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    find_program("chromium")
    find_module("playwright-core")
    if not ENTRY.exists():
        pytest.skip(f"code-server is not in {CLIENTS}: make setup-clients")
    if not EXTENSION.exists():
        pytest.skip("the extension is not built: make vscode")
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def test_code_server_shows_ghost_text_and_tab_accepts_it(running, count_events, project):
    file = project / "work.py"
    file.write_text(BEFORE)
    with start_code_server(project.parent, {"codegemma.server": running.url}) as url:
        told = edit(url, file, LINE, TYPED)
    assert told["shown"] == MIDDLE
    assert f"{len(MIDDLE)} characters" in told["after"]
    assert file.read_text() == AFTER
    assert count_events("shown") >= 1
    assert count_events("accepted") == 1


def test_a_word_that_is_accepted_alone_is_counted_with_its_characters(running, count_events, project):
    file = project / "work.py"
    file.write_text(BEFORE)
    with start_code_server(project.parent, {"codegemma.server": running.url}) as url:
        edit(url, file, LINE, TYPED, accept="Control+ArrowRight")
    assert file.read_text() == AFTER.replace(TYPED + MIDDLE, TYPED + "st")
    assert count_events("accepted") == 1
    assert "codegemma_accepted_characters_total 2.0" in running.client.get("/metrics").text


@pytest.mark.slow
def test_the_extension_starts_a_server_says_so_and_takes_it_along(project):
    program, address = project.parent / "codegemma", find_free_address()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}/src" exec "{sys.executable}" -m codegemma "$@"\n')
    program.chmod(0o755)
    settings = {
        "codegemma.server": f"http://{address}",
        "codegemma.command": str(program),
        "codegemma.model": str(resources.files("codegemma.bases").joinpath("tiny")),
    }
    file = project / "array.py"
    file.write_text(NORMALIZE)
    with start_code_server(project.parent, settings) as url:
        told = edit(url, file, 7, " np.std(", tries=40)
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


@contextmanager
def start_code_server(home: Path, settings: dict[str, str]) -> Iterator[str]:
    """Start code-server with our extension and nothing else, until the block ends."""
    data, extensions = home / "data", home / "extensions"
    (data / "User").mkdir(parents=True)
    (data / "Machine").mkdir()
    for kind in ("User", "Machine"):  # what belongs to a machine is not read from the user's file in a browser
        (data / kind / "settings.json").write_text(json.dumps(SETTINGS | settings))
    address = find_free_address()
    command = [
        "node", str(ENTRY), "--auth", "none", "--bind-addr", address, "--disable-telemetry", "--disable-update-check",
        "--user-data-dir", str(data), "--extensions-dir", str(extensions),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(home)}
    subprocess.run(
        [*command, "--install-extension", str(EXTENSION)], env=environment, check=True, capture_output=True, timeout=120
    )
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://{address}/healthz")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def find_free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def wait_until_gone(url: str, seconds: float = 30) -> None:
    """Ask until nobody answers, and raise what a client gets then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        httpx2.get(url, timeout=5)
        time.sleep(0.3)


def wait_for(url: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            httpx2.get(url, timeout=5).raise_for_status()
        except httpx2.HTTPError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError(f"{url} never answered")
