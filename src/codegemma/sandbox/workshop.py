"""Compiles programs of one language and runs them, each in a box; what all share is compiled once.

**In**: a `Toolchain`, the prelude that programs of it share, sources.
**Out**: `Built` programs, or `BuildError` with what the compiler said; `Ran` of a run.
**Not**: any verdict, and no trust in a compiler: it reads what nobody has read, and works in a box as well.
"""

import contextlib
import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from codegemma.errors import InputError
from codegemma.sandbox.box import Ended, Limits, Program, Ran, Safety, Sandbox
from codegemma.sandbox.toolchains import Toolchain, look_for
from codegemma.sandbox.warm_compiler import BuildError, WarmCompiler

_GIB = 2**30
# Compilers take more of everything than programs, and a machine may be busy with something else.
COMPILE_LIMITS = Limits(
    wall_s=120, cpu_s=60, memory_bytes=2 * _GIB, file_bytes=512 * 2**20, processes=256, open_files=4096
)
PRELUDE_LIMITS = Limits(
    wall_s=600, cpu_s=300, memory_bytes=2 * _GIB, file_bytes=512 * 2**20, processes=256, open_files=4096
)
_SAID_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Built:
    """A program that can be run any number of times: the folder that holds it, and its name."""

    folder: Path
    package: str


class Workshop:
    """Programs of one language, made and run from any number of threads."""

    def __init__(self, sandbox: Sandbox, toolchain: Toolchain, prelude: Mapping[str, bytes]) -> None:
        """Compile the prelude.

        Raises:
            InputError: the toolchain is not there, is too old, or does not compile the prelude.
        """
        self.found = look_for(toolchain)
        if self.found.problem is not None:
            raise InputError(self.found.problem)
        self._sandbox, self._toolchain = sandbox, toolchain
        self._numbers = itertools.count()
        self._opened = contextlib.ExitStack()
        self._folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="codegemma-programs-")))
        self._prelude = self._folder / "prelude"
        self._programs = self._folder / "programs"
        self._programs.mkdir()
        try:
            self._make_prelude(prelude)
            self._warm = self._opened.enter_context(self._open_warm()) if toolchain.warm else None
        except BaseException:
            self._opened.close()
            raise

    def build(self, files: Mapping[str, str]) -> Built:
        """Compile a program.

        Raises:
            BuildError: it does not compile.
        """
        package = f"p{next(self._numbers)}"
        folder = self._programs / package
        _write(folder, {file: text.replace("@PACKAGE@", package) for file, text in files.items()})
        built = Built(folder, package)
        try:
            if self._warm is not None:
                self._warm.compile(package, list(files))
            elif self._toolchain.compile:
                self._compile(built, list(files))
        except BuildError:
            self.discard(built)
            raise
        return built

    def run(self, built: Built, stdin: bytes, limits: Limits) -> Ran:
        """Run a program with nothing around it but itself and the prelude."""
        toolchain = self._toolchain
        command = [
            self._place(Template(part).substitute(package=built.package), built.folder) for part in toolchain.run
        ]
        shown = self._show({built.folder: "/program", self._prelude: "/prelude"})
        program = Program(command, stdin=stdin, read_only=shown, environment=toolchain.environment)
        return self._sandbox.run(program, _widen(limits, toolchain))

    def discard(self, built: Built) -> None:
        """Remove a program."""
        shutil.rmtree(built.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        self._opened.close()

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_prelude(self, prelude: Mapping[str, bytes]) -> None:
        _write(self._prelude, {name: content.decode() for name, content in prelude.items()})
        toolchain = self._toolchain
        if not toolchain.prelude:
            return
        program = Program(
            toolchain.prelude, read_only=self._show({}), job=self._prelude, environment=toolchain.environment
        )
        try:
            ran = self._sandbox.run(program, _widen(PRELUDE_LIMITS, toolchain))
        except OSError as error:
            raise InputError(f"{toolchain.name}: no box for its compiler: {error}") from error
        if ran.exit_code != 0:
            raise InputError(f"{toolchain.name} {self.found.version} does not compile its prelude: {_tell(ran)}")

    def _compile(self, built: Built, sources: list[str]) -> None:
        toolchain = self._toolchain
        command: list[str] = []
        for part in toolchain.compile:
            if part == "$sources":
                command += sources
            else:
                command.append(self._place(Template(part).safe_substitute(sources=" ".join(sources)), built.folder))
        shown = self._show({self._prelude: "/prelude"})
        program = Program(command, read_only=shown, job=built.folder, environment=toolchain.environment)
        ran = self._sandbox.run(program, _widen(COMPILE_LIMITS, toolchain))
        if ran.exit_code != 0:
            raise BuildError(_tell(ran))

    def _open_warm(self) -> WarmCompiler:
        kind = self._toolchain.warm or ""
        shown = self._show({self._prelude: "/prelude"})
        where = {"prelude": str(self._prelude), "job": str(self._programs)} if self._is_unsafe else {}
        return WarmCompiler(kind, self._sandbox.safety, self._programs, shown, where)

    @property
    def _is_unsafe(self) -> bool:
        return self._sandbox.safety is Safety.UNSAFE

    def _show(self, folders: Mapping[Path, str]) -> dict[Path, str]:
        system = {Path(place): place for place in self._toolchain.system if Path(place).exists()}
        return {**folders, **system}

    def _place(self, text: str, program: Path) -> str:
        """Without a box, the places in it, of which commands speak, are those on this machine."""
        if not self._is_unsafe:
            return text
        return text.replace("/prelude", str(self._prelude)).replace("/program", str(program))


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))


def _widen(limits: Limits, toolchain: Toolchain) -> Limits:
    return dataclasses.replace(limits, address_bytes=toolchain.address_gib * _GIB)


def _tell(ran: Ran) -> str:
    if ran.ended is not Ended.EXITED:
        return f"the compiler met its limit of {ran.ended.value}"
    said = (ran.stderr + ran.stdout).decode("utf-8", "replace").strip()
    return said[:_SAID_CHARS] or f"the compiler ended with {ran.exit_code}"
