"""VS Code as a server for browsers, with our extension and nothing else."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from tests.clients.conftest import CLIENTS, ROOT

ENTRY = CLIENTS / "code-server/package/out/node/entry.js"
EXTENSION = ROOT / "editors/vscode/codegemma.vsix"
SETTINGS = {
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "workbench.startupEditor": "none",
    "editor.quickSuggestions": {"other": "off"},
    "files.autoSave": "off",
}


class CodeServer:
    """One that runs. Each page that is opened is an editor of its own, with the settings of that moment."""

    def __init__(self, url: str, data: Path) -> None:
        self.url, self._data = url, data

    def set(self, settings: dict[str, Any]) -> None:
        for kind in ("User", "Machine"):  # what belongs to a machine is not read from the user's file in a browser
            (self._data / kind).mkdir(parents=True, exist_ok=True)
            (self._data / kind / "settings.json").write_text(json.dumps(SETTINGS | settings))


@contextmanager
def start_code_server(home: Path) -> Iterator[CodeServer]:
    """Start code-server until the block ends."""
    address = find_free_address()
    command = [
        "node", str(ENTRY), "--auth", "none", "--bind-addr", address, "--disable-telemetry", "--disable-update-check",
        "--user-data-dir", str(home / "data"), "--extensions-dir", str(home / "extensions"),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(home)}
    subprocess.run(
        [*command, "--install-extension", str(EXTENSION)], env=environment, check=True, capture_output=True, timeout=120
    )
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://{address}/healthz")
        yield CodeServer(f"http://{address}", home / "data")
    finally:
        process.terminate()
        process.wait(30)


def find_free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


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
