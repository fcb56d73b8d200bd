"""Runs the tests of a change in a box: on the code before it, where they are to fail, and after it, to pass.

**In**: a repository, a `Change` with Python tests and Python code.
**Out**: `Failed`: what the tests said of the old code; or why that could not be seen.
**Not**: other languages, tests that need the network, a build, or packages that the interpreter does not have, and no
proof against tests that imitate the last line of a test run. Nothing runs outside a box.

The files of the commit are written to a folder from git's objects, without checking out: no hook or filter runs, links
are left out. The next commit changes only what differs. After the old code the new one is tested once more: a test that
passes by chance is no evidence. What is seen of one commit does not hang on those before it.
"""

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pygit2

from codegemma.corpus.contents import GitBlob
from codegemma.corpus.listing import walk_git_tree
from codegemma.evals.repository_tests import TEST_LIMITS, count_passed, find_python, stamp_environment
from codegemma.instruct.history.changes import Change
from codegemma.sandbox.box import Ended, Program, Ran, Safety, Sandbox
from codegemma.text.languages import find_tested_stem

_MAX_FILES = 20_000
_MAX_BYTES = 256 * 2**20
_MAX_SHOWN_CHARS = 3_000
_ROOT = "/repository"
_FAILED_CODES = (1, 2)  # pytest: a test failed; a test could not be collected
# What differs from run to run: times, and addresses of objects.
_PASSING = re.compile(r"(?: in |\t|Ran \d+ tests? in )\d+\.\d+s\b|(?<= at 0x)[0-9a-f]{6,}")
_LIMITS = dataclasses.replace(TEST_LIMITS, cpu_s=60)
_RAN = re.compile(rb"^Ran (\d+) tests? in ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Failed:
    """What tests said of the old code; of the new one so many pass."""

    output: str
    tests: tuple[str, ...]
    passed: int


class Trials:
    """A folder in which one commit after another is tried."""

    has_met_limit = False

    def __init__(self, root: Path, repository: pygit2.Repository, sandbox: Sandbox, runner: str | None = None) -> None:
        """Find the interpreter. `runner` is pytest where it has it, else unittest, unless it is named."""
        self._repository, self._sandbox = repository, sandbox
        self._python, self._shown = find_python(root)
        # Libraries that speak TLS look for them when they are imported.
        self._shown |= {place: str(place) for place in (Path("/etc/ssl/certs"),) if place.is_dir()}
        self._folder = Path(tempfile.mkdtemp(prefix="codegemma-trials-"))
        self._blobs: dict[str, str] = {}
        self._is_as_configured = False
        try:
            self.runner = runner or ("pytest" if self._start(["-c", "import pytest"]).exit_code == 0 else "unittest")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def describe(self) -> str:
        """Name what runs the tests."""
        return f"{self.runner} of {self._python}"

    def stamp(self) -> list[str]:
        """Tell what decides, beside the commit, what its tests say: interpreter and packages."""
        return [str(self._python.resolve()), *stamp_environment(self._python)]

    def run(self, change: Change) -> Failed | str:
        """Try a change, or say why it was not seen to mend a test."""
        self.has_met_limit = self._is_as_configured = False
        tests = tuple(file.path for file in change.tests if file.after and find_tested_stem(file.path, file.language))
        if self._sandbox.safety is not Safety.BOXED:
            return "tests run in a box only"
        if {file.language for file in change.files} != {"python"}:
            return "tests of Python alone are run"
        if not tests or not any(file.before for file in change.code):
            return "no test file that stays, or no old code"
        try:
            return self._write(change.commit) or self._compare(change, tests)
        except (OSError, UnicodeError) as error:
            self.has_met_limit = True
            return f"its files cannot be written here ({type(error).__name__})"

    def _compare(self, change: Change, tests: tuple[str, ...]) -> Failed | str:
        after = {file.path: file.after and file.after.blob for file in change.code}
        before = dict.fromkeys(after) | {file.old_path: file.before and file.before.blob for file in change.code}
        new = self._test_new(tests)
        passed = self._count(new)
        if passed is None:
            return f"the tests do not pass on the new code here ({_describe(new)})"
        self._put(before)
        old = self._test(tests)
        self._put(dict.fromkeys(before) | after)
        if old.ended is not Ended.EXITED or old.exit_code not in _FAILED_CODES:
            return f"the tests do not fail on the old code ({_describe(old)})"
        if self._count(self._test(tests)) != passed:
            return "the tests do not say the same twice"
        return Failed(self._show(old), tests, passed)

    def _test_new(self, tests: tuple[str, ...]) -> Ran:
        """Test the new code without the plugins that are installed, which may take ten times as long to load as the
        tests, and without the repository's options for them; with both where that is not enough."""
        ran = self._test(tests)
        if self._count(ran) is None and self.runner == "pytest":
            self._is_as_configured = True
            ran = self._test(tests)
        return ran

    def _test(self, tests: tuple[str, ...]) -> Ran:
        if self.runner == "unittest":
            return self._start(["-m", "unittest", *tests])
        options = ["-q", "-p", "no:cacheprovider", "--tb=short", "--color=no", f"--rootdir={_ROOT}"]
        own = [] if self._is_as_configured else ["-o", "addopts="]
        return self._start(["-m", "pytest", *options, *own, "--", *tests])

    def _start(self, arguments: list[str]) -> Ran:
        environment = {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{_ROOT}:{_ROOT}/src",
            "PYTHONHASHSEED": "0",
            "COLUMNS": "100",
            **({} if self._is_as_configured else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        }
        command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', _ROOT, str(self._python), *arguments]
        shown = {self._folder: _ROOT, **self._shown}
        ran = self._sandbox.run(Program(command, read_only=shown, environment=environment), _LIMITS)
        self.has_met_limit |= ran.ended is not Ended.EXITED
        return ran

    def _count(self, ran: Ran) -> int | None:
        if self.runner == "pytest":
            return count_passed(ran)
        found = _RAN.findall(ran.stderr)
        return int(found[-1]) if ran.exit_code == 0 and found and int(found[-1]) else None

    def _show(self, ran: Ran) -> str:
        """Show what is said of the failure: nothing of this machine, no times, and the end where it is long."""
        text = (ran.stdout + ran.stderr).decode("utf-8", "replace")
        for prefix in sorted(map(str, self._shown), key=len, reverse=True):
            text = text.replace(prefix, "/python")
        text = "".join(sign for sign in text.replace(f"{_ROOT}/", "") if sign.isprintable() or sign in "\n\t")
        text = _PASSING.sub("", text).strip()
        return text if len(text) <= _MAX_SHOWN_CHARS else f"...\n{text[-_MAX_SHOWN_CHARS:].partition(chr(10))[2]}"

    # --- files --------------------------------------------------------------------------------------------------------

    def _write(self, commit: str) -> str | None:
        """Make the folder hold the files of a commit; says so if they are too many."""
        wanted: dict[str, str] = {}
        size_bytes = 0
        for entry in walk_git_tree(self._repository, commit):
            if entry.refusal is None and isinstance(entry.content, GitBlob):
                wanted[entry.path] = entry.content.blob
                size_bytes += entry.size_bytes
            if len(wanted) > _MAX_FILES or size_bytes > _MAX_BYTES:
                return "a tree too large to be tried"
        # What goes goes first: a file may be a folder in another commit.
        self._put({path: None for path in self._blobs if path not in wanted})
        self._put({path: blob for path, blob in wanted.items() if self._blobs.get(path) != blob})
        return None

    def _put(self, blobs: Mapping[str, str | None]) -> None:
        """Write files by their blobs; `None` takes one away, and folders that it leaves empty."""
        for path, blob in sorted(blobs.items(), key=lambda item: item[1] is not None):
            place = self._folder / path
            if blob is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(GitBlob(self._repository.path, blob).read(_MAX_BYTES))
                self._blobs[path] = blob
            elif self._blobs.pop(path, None) is not None:
                place.unlink()
                for folder in place.parents:
                    if folder == self._folder or any(folder.iterdir()):
                        break
                    folder.rmdir()


def _describe(ran: Ran) -> str:
    return f"exit code {ran.exit_code}" if ran.ended is Ended.EXITED else f"limit of {ran.ended}"
