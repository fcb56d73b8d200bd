"""A whole server, from its start to a completion, where there is no network: nothing is asked of the outside."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.conftest import BASE

from codegemma.model.write import convert

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: make setup-dev")

ROOT = Path(__file__).parents[2]
# As root, or where a user may have a namespace of users.
WAYS = (("unshare", "--net"), ("unshare", "--net", "--map-root-user"))


def find_way() -> tuple[str, ...]:
    """Find how to leave the network behind, or skip."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("network namespaces are Linux's, and unshare is util-linux's")
    tried = [subprocess.run([*way, "true"], capture_output=True, text=True, check=False) for way in WAYS]
    way = next((way for way, done in zip(WAYS, tried, strict=True) if done.returncode == 0), None)
    if way is None:
        pytest.skip(f"network namespaces are forbidden here: {tried[-1].stderr.strip()}")
    return way


def test_a_server_without_a_network_starts_and_completes(tmp_path):
    way = find_way()
    convert(BASE, tmp_path / "base", "gguf", "f32")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    done = subprocess.run(
        [*way, sys.executable, "-m", "tests.serve.offline", str(tmp_path / "base/model.gguf"), "llama.cpp"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stop"] in ("control_token", "max_new_tokens", "scope_end", "suffix_repeated", "line_end")
    assert told["said"][-1] == "ready\n"
