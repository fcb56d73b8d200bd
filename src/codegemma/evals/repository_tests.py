"""Runs a repository's own tests with one file changed, in a box: Python's, by pytest.

**In**: a repository on disk, the tests of a file, the file's text with an answer in it.
**Out**: whether they passed as the untouched repository's do.
**Not**: other languages, tests that want the network or write into the repository (it is read-only), and no proof
against a line that imitates pytest's last one: the tests run where the answer does.

The interpreter is the repository's own environment (`.venv`, `venv`), else the one that runs this. The untouched
repository must pass first, and a hole counts only where its tests notice that it is empty. What runs found is kept for
a later run, as long as no file of the repository has another size or time and the environment no other packages.
"""

import os
import re
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from codegemma.evals.repository import Repository
from codegemma.evals.store import Store, hash_parts
from codegemma.sandbox.box import Ended, Limits, Program, Ran, Safety, Sandbox

# A test run of one or a few files; its libraries may be large, and the machine busy.
TEST_LIMITS = Limits(
    wall_s=600.0, cpu_s=120, memory_bytes=3 * 2**30, address_bytes=32 * 2**30, processes=128, open_files=1024
)
_MAX_TEST_FILES = 4
_PASSED = re.compile(rb"(\d+) passed")
_ENVIRONMENTS = (".venv", "venv")
_SHOWN_CHARS = 200
_UNREAD_FOLDERS = frozenset({".git", *_ENVIRONMENTS, "__pycache__", ".pytest_cache"})


@dataclass(frozen=True, slots=True)
class PassingTests:
    """The tests of one file that pass when nothing is changed: so many of them."""

    files: tuple[str, ...]
    passed: int


class RepositoryTests:
    """Runs tests, several at once; `reasons` tells for files why their tests could not be used."""

    def __init__(self, repository: Repository, sandbox: Sandbox, store: Store) -> None:
        """Find the interpreter; nothing is run yet."""
        self._repository, self._sandbox, self._store = repository, sandbox, store
        self._python, self._shown = find_python(repository.root)
        self._state = hash_parts(
            str(self._python.resolve()), _stamp_files(repository.root), stamp_environment(self._python)
        ).hex()
        self._pool = ThreadPoolExecutor(sandbox.boxes)
        self._known: dict[str, PassingTests | None] = {}
        self.reasons: dict[str, str] = {}

    def describe(self) -> str:
        """Name the interpreter."""
        return f"pytest of {self._python}"

    def find_tests(self, path: str) -> PassingTests | None:
        """Find the tests of a file, and run them once without a change; `None` where they cannot be used."""
        if path not in self._known:
            self._known[path] = self._try_out(path)
        return self._known[path]

    def submit(self, tests: PassingTests, path: str, text: str) -> "Future[bool]":
        """Run tests with another text of a file, as soon as a box is free; true where as many pass as before."""
        return self._pool.submit(self._examine, tests, path, text)

    def close(self) -> None:
        """Let go of runs that nobody waits for."""
        self._pool.shutdown(cancel_futures=True)

    def _try_out(self, path: str) -> PassingTests | None:
        if self._sandbox.safety is not Safety.BOXED:
            self.reasons[path] = "tests of a repository run in a box only"
            return None
        if self._repository.files[path].language != "python":
            self.reasons[path] = f"tests of {self._repository.files[path].language} are not run, those of Python are"
            return None
        files = [t for t in self._repository.list_tests(path) if t.endswith(".py")][:_MAX_TEST_FILES]
        if not files:
            self.reasons[path] = "no test is named for it or imports it"
            return None
        passed, reason = self._count(tuple(files), path, None)
        if passed is None:
            self.reasons[path] = f"its tests do not pass here without a change: {reason}"
            return None
        return PassingTests(tuple(files), passed)

    def _examine(self, tests: PassingTests, path: str, text: str) -> bool:
        return self._count(tests.files, path, text)[0] == tests.passed

    def _count(self, files: tuple[str, ...], path: str, text: str | None) -> tuple[int | None, str]:
        """Count the tests that pass with another text of a file, or with its own; where one fails, say which."""
        key = hash_parts("tests of a repository", self._state, files, path, text)
        kept = self._store.find(key)
        if kept is None:
            with tempfile.TemporaryDirectory() as folder:
                changed = Path(folder) / "changed"
                # Bytes: line ends stay what they are. Half a character, which no file holds, is read as it would be.
                changed.write_bytes((text or "").encode("utf-8", "replace"))
                ran = self._run(files, None if text is None else (changed, path))
            kept = [count_passed(ran), _explain(ran)]
            if ran.ended is Ended.EXITED:  # a limit may be met for the machine's sake
                self._store.keep(key, kept)
        return kept[0], kept[1]

    def _run(self, files: tuple[str, ...], change: tuple[Path, str] | None) -> Ran:
        root = self._repository.root
        shown = {root: str(root), **self._shown}
        if change is not None:
            shown[change[0]] = str(root / change[1])
        command = [str(self._python), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--", *files]
        environment = {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{root}:{root / 'src'}",
            "PYTHONHASHSEED": "0",
        }
        start = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(root), *command]
        return self._sandbox.run(Program(start, read_only=shown, environment=environment), TEST_LIMITS)


def find_python(root: Path) -> tuple[Path, dict[Path, str]]:
    """Find an interpreter, and what a box must see of it."""
    found = next((root / name for name in _ENVIRONMENTS if (root / name / "bin/python").exists()), Path(sys.prefix))
    python = found / "bin/python" if (found / "bin/python").exists() else Path(sys.executable)
    binary = python.resolve()
    prefixes = [found, binary.parent.parent]
    outside = [p for p in dict.fromkeys(prefixes) if not p.is_relative_to("/usr") or p.is_relative_to("/usr/local")]
    return python, {prefix: str(prefix) for prefix in outside}


def _stamp_files(root: Path) -> list[list[str | int]]:
    """List all files with their sizes and times: tests may read any of them."""
    stamped: list[list[str | int]] = []
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(set(inner) - _UNREAD_FOLDERS)
        for file in sorted(files):
            about = (Path(folder) / file).lstat()
            stamped.append([str((Path(folder) / file).relative_to(root)), about.st_size, about.st_mtime_ns])
    return stamped


def stamp_environment(python: Path) -> list[str]:
    """List an environment's packages with their versions, by the names of their folders."""
    return sorted(str(found.name) for found in python.parent.parent.glob("lib/python*/site-packages/*.dist-info"))


def count_passed(ran: Ran) -> int | None:
    """Count the tests that passed; `None` where one failed, or the run met a limit."""
    found = _PASSED.findall(ran.stdout)
    return int(found[-1]) if ran.ended is Ended.EXITED and ran.exit_code == 0 and found else None


def _explain(ran: Ran) -> str:
    if ran.ended is not Ended.EXITED:
        return f"met the limit of {ran.ended}"
    lines = (ran.stdout + ran.stderr).decode("utf-8", "replace").strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "E ")) or "No module named" in line]
    return ([*failed, *lines[-1:]] or [f"ended with code {ran.exit_code}"])[0][:_SHOWN_CHARS]
