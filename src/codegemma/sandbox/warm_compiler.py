"""A compiler that stays in memory, in a box of its own, and takes what waits for it together.

**In**: the folder that holds a folder for each program, and their names.
**Out**: classes beside the sources, or `BuildError`.
**Not**: running what was compiled: programs never share a machine with the compiler.

Kotlin compiles twenty programs in hardly more time than one, but one that does not compile fails all: the files that
its messages name are told so, and the rest is compiled again.
"""

import contextlib
import os
import queue
import re
import selectors
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from importlib import resources
from pathlib import Path

from codegemma.sandbox.box import Limits, Program, Safety, Sandbox
from codegemma.sandbox.process import BoxError

_GIB = 2**30
_LIMITS = Limits(
    wall_s=10**9, cpu_s=10**9, memory_bytes=3 * _GIB, address_bytes=32 * _GIB, processes=512, open_files=4096,
    file_bytes=512 * 2**20,
)  # fmt: skip
_JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx1g", "-Xss8m")
# Of one question; the first of Kotlin takes seconds, and a machine may be busy with something else.
_PATIENCE_S = 300.0
_KOTLIN_JARS = "/usr/share/kotlin/kotlinc/lib/*"
_AT_ONCE = {"java": 1, "kotlin": 24}
_EMPTY_FOLDER = "empty"
_EMPTY = {"java": ("Empty.java", "class Empty {}\n"), "kotlin": ("Empty.kt", "fun main() {}\n")}


class BuildError(Exception):
    """A program does not compile; the message is what the compiler said, or the limit that it met."""


class WarmCompiler:
    """Answers any number of threads, in turn."""

    def __init__(
        self, kind: str, safety: Safety, programs: Path, shown: Mapping[Path, str], places: Mapping[str, str]
    ) -> None:
        """Say what is compiled; the compiler starts with the first program."""
        self._kind, self._programs, self._shown = kind, programs, dict(shown)
        self._job, self._prelude = places.get("job", "/job"), places.get("prelude", "/prelude")
        self._sandbox = Sandbox(1, safety)
        self._waiting: queue.SimpleQueue[tuple[str, Sequence[str], Future[None]] | None] = queue.SimpleQueue()
        self._running = contextlib.ExitStack()
        self._pipes: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def compile(self, package: str, sources: Sequence[str]) -> None:
        """Compile the program in a folder; waits for its turn.

        Raises:
            BuildError: it does not compile.
        """
        future: Future[None] = Future()
        self._waiting.put((package, sources, future))
        future.result()

    def close(self) -> None:
        """End the compiler."""
        self._waiting.put(None)
        self._thread.join()
        self._running.close()
        self._sandbox.close()

    def __enter__(self) -> "WarmCompiler":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < _AT_ONCE[self._kind] and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
            try:
                self._compile_all(batch)
            except Exception as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)

    def _compile_all(self, batch: list[tuple[str, Sequence[str], Future[None]]]) -> None:
        while batch:
            folder = batch[0][0] if len(batch) == 1 else _name_folder([package for package, _, _ in batch])
            sources = [f"{self._job}/{package}/{source}" for package, files, _ in batch for source in files]
            is_compiled, said = self._ask("\t".join([f"{self._job}/{folder}", *sources]))
            if is_compiled:
                for package, _, future in batch:
                    self._hand_out(folder, package)
                    future.set_result(None)
                return
            blamed = set(re.findall(r"(?:^|/)(p\d+)/", said, re.MULTILINE))
            left = [item for item in batch if item[0] not in blamed]
            for package, _, future in batch:
                if package in blamed or len(left) == len(batch) == 1:
                    future.set_exception(BuildError(_keep_about(said, package)))
            if len(left) == len(batch) > 1:
                # It says of no file that it is at fault: each for itself.
                for item in left:
                    self._compile_all([item])
                return
            batch = [item for item in left if not item[2].done()]

    def _hand_out(self, folder: str, package: str) -> None:
        """Move a program's classes from the folder of all to its own; of those compiled alone they are there."""
        made = self._programs / folder / package
        if folder != package and made.exists():
            made.rename(self._programs / package / package)

    def _ask(self, question: str) -> tuple[bool, str]:
        """Ask, and once more where the compiler goes down: a program may be too much for it.

        Raises:
            BoxError: it goes down with an empty program too, so that none is to blame.
        """
        for _ in range(2):
            answer = self._ask_once(question)
            if answer is not None:
                return answer
        if self._ask_once(self._spell_empty()) is None:
            raise BoxError(f"the compiler of {self._kind} goes down with whatever it is given")
        return False, "the compiler went down or met its limit of time"

    def _ask_once(self, question: str) -> tuple[bool, str] | None:
        to, back = self._pipes or self._start()  # where no box comes about, no program is to blame
        try:
            os.write(to, f"{question}\n".encode())
            verdict, _, said = _read_line(back).partition(" ")
            return verdict == "ok", said.replace("\\n", "\n").replace("\\\\", "\\")
        except (OSError, EOFError):
            self._running.close()
            self._pipes = None
            return None

    def _spell_empty(self) -> str:
        source, text = _EMPTY[self._kind]
        folder = self._programs / _EMPTY_FOLDER
        folder.mkdir(exist_ok=True)
        (folder / source).write_text(text, encoding="utf-8")
        return f"{self._job}/{_EMPTY_FOLDER}\t{self._job}/{_EMPTY_FOLDER}/{source}"

    def _start(self) -> tuple[int, int]:
        self._running = contextlib.ExitStack()
        theirs, to = os.pipe()
        back, their_answers = os.pipe()
        for number in (to, back):
            self._running.callback(os.close, number)
        warm = Path(str(resources.files("codegemma.sandbox").joinpath("warm")))
        source = "/warm/WarmCompiler.java" if self._job == "/job" else str(warm / "WarmCompiler.java")
        path = ["-cp", _KOTLIN_JARS] if self._kind == "kotlin" else []
        command = [*_JAVA, f"-Dprelude={self._prelude}", *path, source, self._kind, str(theirs), str(their_answers)]
        program = Program(
            command, read_only={**self._shown, warm: "/warm"}, job=self._programs, descriptors=(theirs, their_answers)
        )
        try:
            self._running.enter_context(self._sandbox.start(program, _LIMITS))
        finally:
            os.close(theirs)
            os.close(their_answers)
        self._pipes = (to, back)
        return self._pipes


def _name_folder(packages: Sequence[str]) -> str:
    return f"of-{packages[0]}-{len(packages)}"


def _keep_about(said: str, package: str) -> str:
    about = [line for line in said.splitlines() if f"/{package}/" in line]
    return "\n".join(about or said.splitlines())[:2000]


def _read_line(number: int) -> str:
    """Read an answer, which comes within the time or not at all."""
    line = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(number, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(_PATIENCE_S):
                raise EOFError("no answer in time")
            piece = os.read(number, 65536)
            if not piece:
                raise EOFError("the compiler is gone")
            line += piece
    return line.decode("utf-8", "replace").rstrip("\n")
