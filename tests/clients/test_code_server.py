"""VS Code in a browser with our extension: type, see ghost text, Tab, save; the file on disk is right."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


def test_code_server_shows_ghost_text_and_tab_accepts_it(running, count_events, tmp_path):
    browser = find_program("chromium")
    find_module("playwright-core")
    if not ENTRY.exists():
        pytest.skip(f"code-server is not in {CLIENTS}: make setup-clients")
    if not EXTENSION.exists():
        pytest.skip("the extension is not built: make vscode")
    folder = tmp_path / "project"
    folder.mkdir()
    file = folder / "work.py"
    file.write_text(BEFORE)
    with start_code_server(tmp_path, running.url) as url:
        ask = {
            "url": url, "folder": str(folder), "file": str(file), "line": LINE, "typed": TYPED, "browser": browser,
            "picture": os.environ.get("CODEGEMMA_TEST_PICTURE"),
        }  # fmt: skip
        done = subprocess.run(
            [find_program("node"), HERE / "browser.js", json.dumps(ask)],
            env={**os.environ, "NODE_PATH": str(MODULES)}, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert MIDDLE in "".join(json.loads(done.stdout))
    assert file.read_text() == AFTER
    assert count_events("shown") >= 1
    assert count_events("accepted") == 1


@contextmanager
def start_code_server(home: Path, server_url: str) -> Iterator[str]:
    """Start code-server with our extension and nothing else, until the block ends."""
    data, extensions = home / "data", home / "extensions"
    (data / "User").mkdir(parents=True)
    (data / "User/settings.json").write_text(json.dumps(SETTINGS | {"codegemma.server": server_url}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
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
