"""Runs a short program that stands in a conversation, in whichever language this machine can run.

**In**: a text and the name of its language, as a fenced block names it.
**Out**: `Ran` of `box.py`, within limits that suit somebody who waits for it.
**Not**: packages: a program finds its language's own library and nothing else, no network and no file of yours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from shutil import which

from codegemma.errors import InputError
from codegemma.sandbox.box import Limits, Program, Ran, Sandbox, name_python

LIMITS = Limits(wall_s=10.0, cpu_s=10, output_bytes=64 * 2**10, processes=64, file_bytes=16 * 2**20)
# V8 reserves room for its code and its heap far beyond what it uses.
_NODE_ADDRESS_BYTES = 128 * 2**30


@dataclass(frozen=True, slots=True)
class Runner:
    """How a language is run: the program that must be there, the file that is written, and the command."""

    needs: str
    file: str
    command: tuple[str, ...]
    address_bytes: int = LIMITS.address_bytes


RUNNERS: Mapping[str, Runner] = {
    "python": Runner("", "main.py", ()),
    "javascript": Runner("node", "main.mjs", ("node", "main.mjs"), _NODE_ADDRESS_BYTES),
    "shell": Runner("bash", "main.sh", ("bash", "main.sh")),
    "c": Runner("gcc", "main.c", ("sh", "-c", "gcc -O1 -w -o main main.c -lm && ./main")),
    "cpp": Runner("g++", "main.cpp", ("sh", "-c", "g++ -O1 -w -o main main.cpp && ./main")),
}
_ALIASES = {
    "py": "python", "python3": "python", "js": "javascript", "mjs": "javascript", "node": "javascript", "sh": "shell",
    "bash": "shell", "c++": "cpp", "cc": "cpp",
}  # fmt: skip


def name_runner(language: str) -> str | None:
    """Find the name under which a language is run, if it can be run at all.

    >>> name_runner("py"), name_runner("JavaScript"), name_runner("prolog")
    ('python', 'javascript', None)
    """
    name = language.strip().lower()
    name = _ALIASES.get(name, name)
    return name if name in RUNNERS else None


def list_runnable() -> tuple[str, ...]:
    """List the languages that this machine can run."""
    return tuple(name for name, runner in RUNNERS.items() if not runner.needs or which(runner.needs))


def run_snippet(sandbox: Sandbox, code: str, language: str, stdin: str = "", limits: Limits = LIMITS) -> Ran:
    """Run a text in a box; waits for a free one.

    Raises:
        InputError: a language that is not known here, whose program is not installed, or no room for a box.
    """
    name = name_runner(language)
    if name is None or name not in list_runnable():
        known = ", ".join(list_runnable())
        missing = f"{RUNNERS[name].needs} is not installed" if name else "no such language is run here"
        raise InputError(f"{language or 'a text without a language'} cannot be run: {missing}; can be run: {known}")
    runner = RUNNERS[name]
    files = {runner.file: code.encode("utf-8", "replace")}
    program = Program(runner.command, files, stdin.encode("utf-8", "replace"))
    if name == "python":
        command, shown = name_python()
        program = replace(program, command=(*command, runner.file), read_only=shown)
    limits = replace(limits, address_bytes=max(limits.address_bytes, runner.address_bytes))
    try:
        return sandbox.run(program, limits)
    except OSError as error:
        raise InputError(f"nothing can be run on this machine now: {error}") from error


def spell_ending(ran: Ran) -> str:
    """Say how a program ended, where there is something to say.

    >>> from codegemma.sandbox.box import Ended
    >>> spell_ending(Ran(Ended.TIME, None, b"", b"", 10.0)), spell_ending(Ran(Ended.EXITED, 0, b"", b"", 0.1))
    ('stopped after 10.0 s: it met its limit of time', '')
    """
    if ran.exit_code is None:
        return f"stopped after {ran.seconds:.1f} s: it met its limit of {ran.ended.value}"
    return f"ended with code {ran.exit_code}" if ran.exit_code else ""
