import ast
import sysconfig
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.pack.imports import Edge, Import, extract_imports, resolve_imports

STDLIB = Path(sysconfig.get_path("stdlib"))


def read(text: str) -> list[tuple[str, tuple[str, ...], int]]:
    return [(i.module, i.names, i.level) for i in extract_imports(text, "python")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("import os\n", [("os", (), 0)]),
        ("import os, a.b.c as d  # why\n", [("os", (), 0), ("a.b.c", (), 0)]),
        ("import a;x\n", [("a", (), 0)]),
        ("import a, \\\n    b\n", [("a", (), 0), ("b", (), 0)]),
        ("import a\r\nimport b", [("a", (), 0), ("b", (), 0)]),
        ("from a import b, c as d\n", [("a", ("b", "c"), 0)]),
        ("from a import (\r\n  b,  # not (c, d)\r\n  e,\r\n)\r\n", [("a", ("b", "e"), 0)]),
        ("from a import b, \\\n  c\n", [("a", ("b", "c"), 0)]),
        ("from . import x\n", [("", ("x",), 1)]),
        ("from .import x\n", [("", ("x",), 1)]),
        ("from ...a.b import *\n", [("a.b", ("*",), 3)]),
        ("if x:\n\tfrom a import b\n", [("a", ("b",), 0)]),
        ("# import a\nx = 'import b'\nimportant = 1\nfrom_ = 2\n", []),
        ("from the start to the end\nimport of goods is taxed!\n", []),
    ],
)
def test_import_statements_are_read_in_all_their_spellings(
    text: str, wanted: list[tuple[str, tuple[str, ...], int]]
) -> None:
    assert read(text) == wanted


@pytest.mark.parametrize(
    "name", ["argparse.py", "asyncio/__init__.py", "json/__init__.py", "unittest/case.py", "ast.py"]
)
def test_real_files_have_the_imports_that_python_sees(name: str) -> None:
    """The reference is CPython's parser, for the whole file."""
    text = (STDLIB / name).read_text(encoding="utf-8")
    wanted = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            wanted |= {Import(alias.name, (), 0, node.lineno) for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            wanted.add(Import(node.module or "", tuple(a.name for a in node.names), node.level, node.lineno))
    found = set(extract_imports(text, "python", top_lines=100_000))
    assert wanted <= found | {i for i in wanted if "; import" in text.splitlines()[i.line - 1]}
    assert len(found - wanted) <= 1  # prose in a docstring may look like an import


def test_only_the_top_lines_are_read() -> None:
    text = "x\n" * 199 + "import a\nimport b\n"
    assert [i.module for i in extract_imports(text, "python")] == ["a"]
    assert [i.module for i in extract_imports(text, "python", top_lines=0)] == []


@given(st.text(alphabet="import fromabc.,()\\\n\t #;*as", max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for found in extract_imports(text, "python"):
        assert found.module or found.level


def test_hostile_text_takes_linear_time() -> None:
    started = time.process_time()
    for text in (
        "from x import (\n" * 60_000,
        "from " + " " * 100_000,
        "import " + "a, " * 50_000,
        "from " + ". " * 50_000,
    ):
        extract_imports(text, "python")
    assert time.process_time() - started < 2.0


def test_language_without_a_rule_has_no_imports() -> None:
    assert extract_imports("#import <a>\n", "cobol") == ()


def edges(files: dict[str, str], repo: str = "repo") -> list[tuple[str, str, int]]:
    found = resolve_imports({path: extract_imports(text, "python") for path, text in files.items()}, repo)
    return [(edge.importer, edge.imported, edge.weight) for edge in found]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"a.py": "import b", "b.py": ""}, [("a.py", "b.py", 1)]),
        ({"a.py": "import p.m", "p/m.py": ""}, [("a.py", "p/m.py", 1)]),
        ({"a.py": "from p.m import x, y\nimport p.m", "p/m.py": ""}, [("a.py", "p/m.py", 3)]),
        ({"a.py": "from p import m", "p/m.py": "", "p/__init__.py": ""}, [("a.py", "p/m.py", 1)]),
        ({"a.py": "from p import x", "p/m.py": "", "p/__init__.py": ""}, [("a.py", "p/__init__.py", 1)]),
        ({"src/p/a.py": "import p.b", "src/p/b.py": ""}, [("src/p/a.py", "src/p/b.py", 1)]),
        ({"p/s/a.py": "from ..b import x", "p/b.py": "", "b.py": ""}, [("p/s/a.py", "p/b.py", 1)]),
        ({"p/__init__.py": "from .a import x", "p/a.py": ""}, [("p/__init__.py", "p/a.py", 1)]),
        ({"p/__init__.py": "", "p/a.py": "from . import x"}, [("p/a.py", "p/__init__.py", 1)]),
        ({"a.py": "from ....x import y", "x.py": ""}, []),
        ({"a/b/c.py": "from .....x import y", "a/x.py": "", "x.py": ""}, []),
        ({"p/a.py": "from .gone import x", "p/__init__.py": ""}, []),
        ({"a.py": "import a"}, []),
    ],
    ids=["sibling", "folder", "names", "module", "name", "src", "parent", "package", "dot", "above", "above all",
         "gone", "self"],
)  # fmt: skip
def test_imports_are_resolved_as_python_would(files: dict[str, str], wanted: list[tuple[str, str, int]]) -> None:
    assert edges(files) == wanted


def test_the_repository_itself_may_be_the_package() -> None:
    files = {"core/a.py": "from numpy.core.b import x", "core/b.py": "", "__init__.py": ""}
    assert edges(files, repo="numpy") == [("core/a.py", "core/b.py", 1)]
    assert edges(files, repo="hub/numpy.git") == [("core/a.py", "core/b.py", 1)]
    assert edges(files, repo="other") == []


def test_a_module_of_the_standard_library_is_not_a_file_of_that_name_in_a_package() -> None:
    assert edges({"p/a.py": "import json", "p/json.py": "", "p/__init__.py": ""}) == []
    assert edges({"p/a.py": "import json", "p/json.py": ""}) == []
    assert edges({"a.py": "import json", "json.py": ""}) == [("a.py", "json.py", 1)]


def test_the_nearest_of_several_files_is_meant_and_then_the_first_by_name() -> None:
    files = {"x/t/a.py": "import util", "x/t/util.py": "", "x/util.py": "", "y/util.py": ""}
    assert edges(files) == [("x/t/a.py", "x/t/util.py", 1)]
    assert edges({"a.py": "import util", "z/util.py": "", "y/util.py": ""}) == [("a.py", "y/util.py", 1)]


@given(st.permutations(["a.py", "b.py", "p/a.py", "p/b.py", "p/__init__.py"]))
def test_edges_do_not_depend_on_the_order_of_the_files(paths: list[str]) -> None:
    statements = [Import("b", ("x",), 0, 1), Import("p", ("b",), 0, 2), Import("", ("a",), 1, 3)]
    assert resolve_imports(dict.fromkeys(paths, statements), "repo") == resolve_imports(
        dict.fromkeys(sorted(paths), statements), "repo"
    )


def test_edges_sort_by_path() -> None:
    assert sorted([Edge("b", "a", 1), Edge("a", "b", 2)])[0].importer == "a"
