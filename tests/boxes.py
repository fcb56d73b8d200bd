"""Boxes for the tests; `make setup-system` installs what they need, so they do not skip where CI runs."""

import shutil
from collections.abc import Iterator

import pytest

from codegemma.sandbox.box import Sandbox
from codegemma.sandbox.judge import PythonJudge


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: make setup-system")
    with Sandbox() as made:
        yield made


@pytest.fixture(scope="session")
def sandbox_of_two() -> Iterator[Sandbox]:
    """Two boxes however many processors there are: a shell and the service that it speaks to."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: make setup-system")
    with Sandbox(2) as made:
        yield made


@pytest.fixture(scope="session")
def judge(sandbox: Sandbox) -> Iterator[PythonJudge]:
    with PythonJudge(sandbox) as made:
        yield made
