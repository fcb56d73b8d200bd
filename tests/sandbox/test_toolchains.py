"""Toolchains are found, are too old or are missing, and each is said with what to do."""

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from codegemma.cli.toolchains import command
from codegemma.errors import InputError
from codegemma.sandbox.toolchains import choose_toolchains, look_for, read_toolchains


def make_tool(folder: Path, name: str, says: str) -> None:
    tool = folder / name
    tool.write_text(f"#!/bin/sh\necho '{says}'\n")
    tool.chmod(0o755)


def test_missing_toolchain_names_its_packages(tmp_path: Path) -> None:
    found = look_for(read_toolchains()["csharp"], path=str(tmp_path))
    assert not found.is_ready
    assert found.problem == (
        "mcs, mono not found; apt-get install --no-install-recommends "
        "mono-mcs mono-runtime libmono-system-core4.0-cil libmono-system-numerics4.0-cil"
    )


@pytest.mark.parametrize(
    ("says", "is_ready"), [("go version go1.19.8", True), ("go version go1.2.1", False), ("no version", False)]
)
def test_version_decides(tmp_path: Path, says: str, is_ready: bool) -> None:
    make_tool(tmp_path, "go", says)
    found = look_for(read_toolchains()["go"], path=f"{tmp_path}:/bin")
    assert found.is_ready is is_ready
    assert is_ready or "older than 1.18" in str(found.problem)


def test_tool_that_fails_is_not_ready(tmp_path: Path) -> None:
    toolchain = dataclasses.replace(read_toolchains()["python"], tools=("false",), version=("false",))
    assert "fails" in str(look_for(toolchain, path="/bin:/usr/bin").problem)


def test_unknown_language_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="known: cpp, csharp, go"):
        choose_toolchains(["cobol"])


def test_command_line_checks_and_prints() -> None:
    checked = CliRunner().invoke(command, ["check", "python"])
    assert "Python" in checked.output
    printed = CliRunner().invoke(command, ["install", "--print", "python"])
    assert printed.exit_code == 0
    assert "apt-get install" in printed.output or "All of them are here" in printed.output
