"""A team's own code: holes that other files explain, files that were trained on left out, its own tests run."""

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.evals.byte_completer import ByteCompleter
from tests.evals.subjects import make_subject
from tests.feed.packs import make_file

from codegemma.corpus.read import hash_blob
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import AbsentError, Answers, Examination
from codegemma.evals.repository import find_definition, make_cross_file_holes, read_repository, read_trained
from codegemma.evals.repository_suite import REPOSITORY, WITH, WITHOUT, run_repository
from codegemma.evals.repository_tests import PassingTests, RepositoryTests
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.evals.store import Store
from codegemma.records import Completion, InfillMode, Pack, Request, Split, StopReason
from codegemma.runner import ignore_progress
from codegemma.sandbox.box import Limits, Program, Ran, Sandbox
from codegemma.shards import write_records

SHAPES = '''"""Shapes."""


def find_area(width, height):
    """Multiply."""
    return width * height


MARGIN = 3
'''
APP = '''"""Uses shapes."""

from lib.shapes import (
    MARGIN,
    find_area,
)


def measure(width):
    grown = width + 1
    return find_area(grown, MARGIN)


def report(width):
    return str(measure(width))
'''
TEST = "from lib.app import measure\n\n\ndef test_measure():\n    assert measure(1) == 6\n"
MIDDLE = "find_area(grown, MARGIN)"
_LIMITS = Limits()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Two modules and a test; only one line of one module is explained by the other."""
    root = tmp_path / "repo"
    for path, text in {
        "lib/__init__.py": "",
        "lib/shapes.py": SHAPES,
        "lib/app.py": APP,
        "tests/test_app.py": TEST,
        "lib/unused.go": "package lib\n",
        # Those of this project's own environment take ten times as long to load as the test to run.
        "pytest.ini": "[pytest]\naddopts = --disable-plugin-autoload\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


class Reader(ByteCompleter):
    """Writes the hole's true line where another file is shown, and something else where none is."""

    asked: list[Request]

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked = [*getattr(self, "asked", []), *requests]
        return [
            Completion(MIDDLE if request.neighbors else "grown", (), StopReason.CONTROL_TOKEN, 9)
            for request in requests
        ]


def read_with() -> tuple[Reader, Subject]:
    subject = make_subject()
    reader = Reader(subject.completer.model)  # type: ignore[attr-defined]
    return reader, dataclasses.replace(subject, completer=reader, infill_modes=(InfillMode.PSM,))


def examine(subject: Subject, *data: Path) -> Answers:
    return run_repository(Examination(subject, data, EvalChoices(limit=4), ignore_progress))


def test_holes_begin_at_a_name_of_another_file_and_spare_imports_and_tests(repo: Path) -> None:
    repository = read_repository(repo)
    holes = make_cross_file_holes(repository, frozenset(), EvalChoices(), 9)
    assert [(h.hole.path, h.hole.middle, h.name, h.defined_in) for h in holes] == [
        ("lib/app.py", MIDDLE, "find_area", ("lib/shapes.py",))
    ]
    (hole,) = (h.hole for h in holes)
    assert hole.prefix + hole.middle + hole.suffix == APP
    assert (hole.line, hole.column) == (11, 12)
    assert make_cross_file_holes(repository, frozenset({"lib/app.py"}), EvalChoices(), 9) == []


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        (SHAPES, "find_area", "def find_area(width, height):"),
        (SHAPES, "MARGIN", "MARGIN = 3"),
        ("package a\n\nfunc (s *Set) Add(x int) {\n", "Add", "func (s *Set) Add(x int) {"),
        ("class A {\n  public static int addAll(int x) {\n", "addAll", "  public static int addAll(int x) {"),
    ],
)
def test_definitions_are_found_by_what_stands_before_them(text: str, name: str, line: str) -> None:
    start = find_definition(text, name)
    assert start is not None
    assert text[start:].startswith(line)
    assert find_definition(text, "nowhere") is None


def test_repository_s_own_tests_tell_answers_with_and_without_other_files_apart(repo: Path) -> None:
    reader, subject = read_with()
    answers = examine(subject, repo)
    results = [r for r in answers.results if isinstance(r, HoleResult)]
    assert {(r.system, r.generated_match, r.tests_passed) for r in results} == {
        (WITH, True, True),
        (WITHOUT, False, False),
    }
    assert any(re.match(r"tests were run for 1 of 1 written holes \(pytest of ", note) for note in answers.notes)
    assert any("is not known: no file was left out" in note for note in answers.notes)
    gains = {m.metric: m.interval.mean for m in answers.measurements or () if m.system == f"{WITH} - {WITHOUT}"}
    assert gains["tests_passed"] == gains["generated_match"] == 1.0
    shown = [request.neighbors for request in reader.asked if request.neighbors]
    assert [neighbor.path for neighbor in shown[0]] == ["lib/shapes.py"]
    assert "def find_area" in shown[0][0].text


def test_hole_that_no_test_notices_is_compared_by_text_alone(repo: Path) -> None:
    """Of a Go file beside it, whose tests are not run, the reason is said."""
    (repo / "tests/test_app.py").write_text("import lib.app\n\n\ndef test_nothing():\n    assert lib.app\n")
    repository = read_repository(repo)
    (hole,) = (h.hole for h in make_cross_file_holes(repository, frozenset(), EvalChoices(), 9))
    with (
        Store() as store,
        Sandbox(boxes=1) as sandbox,
        contextlib.closing(RepositoryTests(repository, sandbox, store)) as tests,
    ):
        known = tests.find_tests(hole.path)
        assert known == PassingTests(("tests/test_app.py",), 1)
        assert tests.submit(known, hole.path, hole.prefix + "0" + hole.suffix).result()
        assert tests.find_tests("lib/unused.go") is None
        assert tests.reasons == {"lib/unused.go": "tests of go are not run, those of Python are"}


def test_tests_that_were_run_are_not_run_again_unless_a_file_changed(repo: Path) -> None:
    repository = read_repository(repo)
    ran: list[Program] = []

    class Counting(Sandbox):
        def run(self, program: Program, limits: Limits = _LIMITS) -> Ran:
            if "pytest" in program.command:
                ran.append(program)
            return super().run(program, limits)

    with Store() as store, Counting(boxes=1) as sandbox:
        for _ in range(2):
            with contextlib.closing(RepositoryTests(repository, sandbox, store)) as tests:
                known = tests.find_tests("lib/app.py")
                assert known is not None
                assert not tests.submit(known, "lib/app.py", APP.replace("grown, MARGIN", "0, 0")).result()
        assert len(ran) == 2
        (repo / "data.txt").write_text("a test may read it")
        with contextlib.closing(RepositoryTests(repository, sandbox, store)) as tests:
            assert tests.find_tests("lib/app.py") == known
        assert len(ran) == 3


def test_files_that_were_trained_on_are_left_out_and_counted(repo: Path, tmp_path: Path) -> None:
    data, text = tmp_path / "data", APP
    file = dataclasses.replace(make_file("lib/app.py", text), blob=hash_blob(text.encode()))
    write_records(data / "packs-train.parquet", [Pack("p", "elsewhere", None, Split.TRAIN, (file,))])
    trained = read_trained([repo, data])
    repository = read_repository(repo)
    assert [path for path, found in repository.files.items() if trained.has(found)] == ["lib/app.py"]
    with pytest.raises(AbsentError, match=r"no place in 4 files .*; 1 files were trained on and are left out"):
        examine(read_with()[1], repo, data)


def test_folder_of_benchmarks_or_of_a_build_is_no_repository(repo: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_records(data / "packs-train.parquet", [])
    exam = Examination(make_subject(), (data,), EvalChoices(), ignore_progress)
    with pytest.raises(AbsentError, match="no repository in --data"):
        REPOSITORY.check(exam)
    REPOSITORY.check(dataclasses.replace(exam, data=(data, repo)))
