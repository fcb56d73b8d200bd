"""Huge pages: the command starts again once, as itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codegemma.cli.huge_pages import TUNABLES

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")

PROGRAM = """
import os, sys
from codegemma.cli.huge_pages import restart_with_huge_pages
print("start", os.getpid())
restart_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES", ""), sys.argv[1:], os.getpid())
"""


@pytest.mark.skipif(not SETTING.exists() or "[never]" in SETTING.read_text(), reason="no transparent huge pages here")
def test_the_same_command_starts_again_once_with_the_tunable(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {k: v for k, v in os.environ.items() if k != TUNABLES}
    command = [sys.executable, str(script), "a b", "--x"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0] == lines[1]
    assert lines[2] == f"glibc.malloc.hugetlb=1 ['a b', '--x'] {lines[0].split()[1]}"


def test_a_choice_of_the_user_is_kept(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, TUNABLES: "glibc.malloc.hugetlb=0"}
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.splitlines()[1].startswith("glibc.malloc.hugetlb=0 ")
