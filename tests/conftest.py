"""What holds for every test: the CPU, no hub, and shapes and types of every annotated function checked as it runs."""

import hashlib
import os
import subprocess
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

pytest_plugins = ["tests.boxes", "tests.clients.table", "tests.serve.fuzz_table"]

# Wrong shapes go on in silence (a broadcast is not an error), so every call is checked against its signature.
install_import_hook(["codegemma.model", "codegemma.train", "codegemma.engine"], "beartype.beartype")

# A machine that is busy with something else is no defect of the code. What decides whether a change lands tries the
# same examples each time, so that it fails for what the change did; `make test-all` searches anew.
settings.register_profile("project", deadline=None, derandomize=not os.environ.get("CODEGEMMA_TEST_ALL"))
settings.load_profile("project")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a tenth of the long suites, another one at each commit; `make test-all` keeps them whole."""
    if os.environ.get("CODEGEMMA_TEST_ALL"):
        return
    commit = _read_commit()
    left_out = [item for item in items if item.get_closest_marker("slow") and not _is_in_tenth(item.nodeid, commit)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_in_tenth(name: str, commit: str) -> bool:
    return hashlib.sha256(f"{commit} {name}".encode()).digest()[0] % 10 == 0


def _read_commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
