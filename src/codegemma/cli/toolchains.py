"""`codegemma toolchains`: the compilers that BabelCode's programs need: which are here, and what installs the rest.

**In**: names of languages, or none for all.
**Out**: a table of versions; or packages installed by apt-get.
**Not**: other systems than Debian and those made from it: there the packages are named, and installed by hand.
"""

import os
import subprocess
from collections.abc import Sequence
from shutil import which

import click
from rich.console import Console
from rich.table import Table

from codegemma.errors import InputError


@click.group(
    name="toolchains",
    epilog="""\b
Examples:
  codegemma toolchains check
  codegemma toolchains install go rust
  codegemma toolchains install --print""",
)
def command() -> None:
    """Find or install the compilers of the languages that suites of programs ask for."""


@command.command()
@click.argument("languages", nargs=-1)
def check(languages: Sequence[str]) -> None:
    """Tell which toolchains are here, and of which version; ends with an error where one is missing or too old."""
    from codegemma.sandbox.toolchains import choose_toolchains, look_for, spell_install

    found = [look_for(toolchain) for toolchain in choose_toolchains(languages)]
    table = Table("language", "version", "at least", "state", box=None, pad_edge=False)
    for one in found:
        state = "ready" if one.is_ready else (one.problem or "").partition(";")[0]
        table.add_row(one.toolchain.name, one.version or "-", one.toolchain.minimum, state)
    Console().print(table)
    missing = [one.toolchain for one in found if not one.is_ready]
    if missing:
        raise InputError(f"{len(missing)} of {len(found)} cannot be used; {spell_install(missing)}")


@command.command()
@click.argument("languages", nargs=-1)
@click.option("--print", "is_printed", is_flag=True, help="Only print the command.")
def install(languages: Sequence[str], is_printed: bool) -> None:
    """Install what is missing, through apt-get; as another user than root the command is printed."""
    from codegemma.sandbox.toolchains import choose_toolchains, look_for, spell_install

    missing = [one for one in choose_toolchains(languages) if not look_for(one).is_ready]
    if not missing:
        click.echo("All of them are here.")
        return
    line = spell_install(missing)
    if is_printed:
        click.echo(line)
        return
    if which("apt-get") is None or os.geteuid() != 0:
        raise InputError(f"installing needs apt-get and root; run: sudo {line}")
    words = line.split()
    ran = subprocess.run([*words[:2], "--yes", *words[2:]], check=False)
    still = [one.name for one in missing if not look_for(one).is_ready]
    if ran.returncode != 0 or still:
        raise InputError(f"apt-get ended with {ran.returncode}; still missing: {', '.join(still) or 'nothing'}")
