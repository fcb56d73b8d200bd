"""The compilers and interpreters of eight languages: which there are on this machine, and what would install the rest.

**In**: `toolchains.toml`.
**Out**: `Toolchain`s; for each what was found, with its version, or why programs of its language cannot be run.
**Not**: installing without being asked, and no other systems than Debian and those made from it.
"""

import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from shutil import which
from types import MappingProxyType
from typing import Any

from codegemma.errors import InputError

# Where a box looks for programs.
BOX_PATH = "/usr/local/bin:/usr/bin:/bin"
_VERSION_S = 120


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One table of `toolchains.toml`, which explains the fields."""

    key: str
    name: str
    packages: tuple[str, ...]
    tools: tuple[str, ...]
    version: tuple[str, ...]
    minimum: str
    run: tuple[str, ...]
    compile: tuple[str, ...] = ()
    prelude: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    warm: str | None = None
    address_gib: int = 4


@dataclass(frozen=True, slots=True)
class Found:
    """A toolchain as it is on this machine: its version, or why it cannot be used."""

    toolchain: Toolchain
    version: str | None
    problem: str | None

    @property
    def is_ready(self) -> bool:
        """Tell whether programs can be compiled and run."""
        return self.problem is None


def read_toolchains() -> Mapping[str, Toolchain]:
    """Read the table."""
    text = resources.files("codegemma.sandbox").joinpath("toolchains.toml").read_text(encoding="utf-8")
    found = {}
    for key, row in tomllib.loads(text).items():
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
        }
        found[key] = Toolchain(key=key, **values)
    return MappingProxyType(found)


def look_for(toolchain: Toolchain, path: str = BOX_PATH) -> Found:
    """Find out whether a toolchain is there, and of which version."""
    missing = [tool for tool in toolchain.tools if which(tool, path=path) is None]
    if missing:
        return Found(toolchain, None, f"{', '.join(missing)} not found; {spell_install([toolchain])}")
    tool, *arguments = toolchain.version
    command = [which(tool, path=path) or tool, *arguments]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=_VERSION_S, check=True, env={"PATH": path, "HOME": "/"}
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Found(toolchain, None, f"{' '.join(toolchain.version)} fails ({error})")
    told = re.search(r"\d+(?:\.\d+)+", ran.stdout + ran.stderr)
    version = told[0] if told else None
    if version is None or _compare(version) < _compare(toolchain.minimum):
        problem = f"{toolchain.name} {version or 'of no version'} is older than {toolchain.minimum}"
        return Found(toolchain, version, f"{problem}; {spell_install([toolchain])}")
    return Found(toolchain, version, None)


def spell_install(toolchains: Sequence[Toolchain]) -> str:
    """Spell what installs toolchains.

    >>> spell_install([read_toolchains()["go"], read_toolchains()["cpp"]])
    'apt-get install --no-install-recommends golang-go g++'
    """
    packages = dict.fromkeys(package for toolchain in toolchains for package in toolchain.packages)
    return f"apt-get install --no-install-recommends {' '.join(packages)}"


def choose_toolchains(names: Sequence[str]) -> list[Toolchain]:
    """Take the named ones, all where none is.

    Raises:
        InputError: an unknown name; the message lists those that are known.
    """
    known = read_toolchains()
    for name in names:
        if name not in known:
            raise InputError(f"no toolchain {name!r}; known: {', '.join(known)}")
    return [known[name] for name in names or known]


def _compare(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
