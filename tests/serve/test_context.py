"""Which other files are shown: by imports and tests, and never one that looks like a secret."""

import threading
import weakref
from pathlib import Path

import pytest

from codegemma.records import Neighbor
from codegemma.serve.asks import InfillAsk
from codegemma.serve.context import ContextSource
from codegemma.serve.secret_files import has_secret, has_secret_name
from codegemma.serve.workspace import Workspace

FILES = {
    "src/lib/store.py": "def save(x):\n    return x\n",
    "src/lib/shape.py": "from lib.store import save\n\n\ndef area(r):\n    return save(r * r)\n",
    "src/lib/app.py": "from lib.shape import area\n\n\nprint(area(2))\n",
    "src/lib/other.py": "x = 1\n",
    "tests/test_shape.py": "from lib.shape import area\n\n\ndef test_area():\n    assert area(1)\n",
    "node_modules/a.py": "from lib.shape import area\n",
    ".env": "KEY=1\n",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    workspace = Workspace(tmp_path)
    workspace.refresh()
    return workspace


def list_paths(workspace: Workspace, path: str, text: str | None = None) -> list[str]:
    return [n.path for n in workspace.list_neighbors(path, FILES[path] if text is None else text)]


def test_dependencies_stand_before_what_imports_them(workspace):
    assert list_paths(workspace, "src/lib/app.py") == ["src/lib/store.py", "src/lib/shape.py"]


def test_a_test_is_shown_what_it_tests_last_and_an_implementation_its_tests_first(workspace):
    assert list_paths(workspace, "tests/test_shape.py")[-1] == "src/lib/shape.py"
    assert list_paths(workspace, "src/lib/shape.py") == ["tests/test_shape.py", "src/lib/store.py"]


def test_an_import_that_is_only_in_the_editor_counts(workspace):
    assert list_paths(workspace, "src/lib/other.py", "from lib.store import save\n") == ["src/lib/store.py"]


def test_a_path_is_found_however_the_client_spells_it(workspace):
    root = workspace.root
    for path in (f"{root}/src/lib/app.py", f"file://{root}/src/lib/app.py", "lib/app.py"):
        assert workspace.find_path(path) == "src/lib/app.py"
    assert workspace.find_path("/elsewhere/app.py") is None


def test_a_changed_file_is_read_again(workspace):
    file = workspace.root / "src/lib/other.py"
    file.write_text("from lib.store import save\n")
    workspace.refresh()
    assert list_paths(workspace, "src/lib/other.py", file.read_text()) == ["src/lib/store.py"]


@pytest.mark.parametrize(
    "path", [".env", "a/.env.local", "id_rsa", "deploy/server.pem", "home/.aws/config", "x/secrets.yaml", ".ssh/config"]
)
def test_a_secret_name_is_never_shown(workspace, path):
    assert has_secret_name(path)
    ask = InfillAsk("x", "", "src/lib/app.py", context=(Neighbor(path, "harmless\n"),))
    assert path not in [n.path for n in ContextSource(workspace).choose(ask)]


def test_a_secret_in_a_text_is_never_shown(workspace):
    text = "token = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'\n"
    assert has_secret("settings.py", text)
    ask = InfillAsk("x", "", None, context=(Neighbor("settings.py", text), Neighbor("", "y = 2\n")))
    assert [n.text for n in ContextSource(workspace).choose(ask)] == ["y = 2\n"]


def test_texts_that_were_looked_through_are_not_kept():
    class Text(str):
        """A text that can be watched."""

    text = Text("x = 1\n" * 1000)
    kept = weakref.ref(text)
    assert not has_secret("a.py", text)
    assert has_secret(Text("a" * 10_000 + "/.env"), "")
    del text
    assert kept() is None


def test_ordinary_names_are_shown(workspace):
    for path in ("src/env.py", "keys.py", "tokenizer.json", ".env.example", "docs/secret_rules.md", "package.json"):
        assert not has_secret_name(path), path


def test_a_closed_workspace_is_looked_at_no_more(workspace):
    before = set(threading.enumerate())
    workspace.start()
    [watching] = set(threading.enumerate()) - before
    ContextSource(workspace).close()
    watching.join(timeout=120)
    assert not watching.is_alive()
