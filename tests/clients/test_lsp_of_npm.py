"""VS Code's own LSP library, of before and after inline completion became part of the protocol, asks our server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.conftest import AFTER, MIDDLE, MODULES, ROOT, TYPED, find_module, find_program

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("module", "kinds"), [("vscode-languageserver-protocol", [0, 1]), ("lsp318", [1, 2])], ids=["3.17", "3.18"]
)
def test_ghost_text_menu_cancellation_and_acceptance(module, kinds):
    find_module(module)
    at = AFTER.index(TYPED) + len(TYPED)
    ask = {
        "module": module,
        "server": [sys.executable, "-m", "tests.serve.lsp_parrot", "0"],
        "before": AFTER[:at],
        "after": AFTER[at + len(MIDDLE) :],
    }
    environment = {
        **os.environ,
        "NODE_PATH": str(MODULES),
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
    }
    done = subprocess.run(
        [find_program("node"), HERE / "lsp_client.js", json.dumps(ask)],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kinds"] == kinds
    assert told["inline"] == [MIDDLE, MIDDLE]
    assert told["menu"].endswith(MIDDLE)
    assert told["accepted"] == 1
