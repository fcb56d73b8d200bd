"""What a hostile or damaged input does to `codegemma build`: it is named, the rest goes on, nothing waits for ever."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.running import Ran
from tests.corpus.repositories import commit, make_form, write

from codegemma.corpus.ignore import ignore_by_files
from codegemma.folders import walk_visible
from codegemma.records import DroppedFile, SourceFile
from codegemma.shards import read_records

Run = Callable[..., Ran]


def module(name: str) -> str:
    return "".join(f"def {name}_{n}({name}_x):\n    return {name}_x * {n} - len('{name}')\n\n\n" for n in range(8))


def read_drops(out: Path) -> dict[str, str]:
    return {drop.path: f"{drop.stage}/{drop.reason}" for drop in read_records(out / "dropped.parquet", DroppedFile)}


def read_kept(out: Path) -> set[str]:
    sides = ("files-train.parquet", "files-heldout.parquet")
    return {file.path for side in sides for file in read_records(out / side, SourceFile)}


@pytest.fixture
def deep_path(tmp_path: Path) -> Iterator[Path]:
    """A folder for trees deeper than Python's own removal can go."""
    yield tmp_path
    subprocess.run(["/bin/rm", "-rf", *tmp_path.iterdir()], check=True)


def make_deep(root: Path, name: str, depth: int) -> None:
    """Nest folders deeper than a path may be long, with a file in the deepest."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with os.fdopen(os.open("deep.py", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w", encoding="utf-8") as file:
        file.write(module(f"deep_{name[0]}"))
    os.close(here)


def test_a_tree_of_all_oddities_is_built_and_each_is_named(run: Run, deep_path: Path) -> None:
    root = write(deep_path / "repo", {f"p{n}/good.py": module(f"good{n}") for n in range(6)})
    write(
        root,
        {
            "new\nline.py": module("a"), "esc\x1b[2J.py": module("b"), os.fsdecode(b"caf\xe9.py"): module("c"),
            "Case.py": module("upper"), "case.py": module("lower"), "x" * 251 + ".py": module("long"),
            "line.py": b"x = '" + b"a" * 2_000_000 + b"'\n", "brackets.js": b"[" * 400_000, "braces.c": b"{" * 900_000,
            "generic.cs": b"A<" * 400_000, "template.ts": b"`${" * 300_000, "inner.zip": b"PK\x03\x04", "nul.py": b"\0",
            "lfs.py": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "half.py": b"# \xed\xa0\x80\n",
            "tokens.py": module("tokens") + "# <|fim_prefix|> <|file_separator|> <bos>\n", "bidi.py": "# \u202e\n",
            "sub/.git": "gitdir: /nowhere\n", "sub/a.py": module("d"), "notebook.ipynb": b"[" * 200_000,
            "package.json": b"[" * 100_000, "pom.xml": b"<a>" * 200_000, "setup.cfg": b"[" * 1_000,
            ".gitignore": b"\xff\n[z-a]\n!\n\\\n" + b"q*" * 5_000 + b"\n",
        },
    )  # fmt: skip
    for name, target in (("loop", "loop"), ("self", "."), ("p1/up", "../.."), ("passwd.py", "/etc/passwd")):
        (root / name).symlink_to(target)
    for name in ("pipe.py", "LICENSE", "pyproject.toml"):
        os.mkfifo(root / name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "s.py"))
    with (root / "sparse.py").open("wb") as file:
        file.truncate(10 * 2**30)
    make_deep(root, "d", 1_000)
    make_deep(root, "n" * 200, 30)
    ran = run("build", root, "--out", deep_path / "out", "--workers", 1)
    assert ran.code == 0, ran.err
    listener.close()
    kept, drops = read_kept(deep_path / "out"), read_drops(deep_path / "out")
    good = {f"p{n}/good.py" for n in range(6)} | {"Case.py", "case.py", "tokens.py", "x" * 251 + ".py"}
    assert good | {"d/" * 1_000 + "deep.py"} == kept - {"bidi.py"}
    wanted = {
        r"new\x0aline.py": "read/path", r"esc\x1b[2J.py": "read/path", r"caf\udce9.py": "read/path",
        "loop": "read/symlink", "self": "read/symlink", "p1/up": "read/symlink", "passwd.py": "read/symlink",
        "pipe.py": "read/not_regular", "LICENSE": "read/not_regular", "s.py": "read/not_regular",
        "sparse.py": "read/too_big", "line.py": "read/too_big", "nul.py": "read/binary", "half.py": "read/undecodable",
        "lfs.py": "read/lfs_pointer", "sub/": "read/submodule", "notebook.ipynb": "read/notebook",
        "brackets.js": "quality/minified", "braces.c": "quality/minified", "generic.cs": "quality/minified",
        "template.ts": "quality/minified", "inner.zip": "read/language",
    }  # fmt: skip
    assert {path: drops.get(path) for path in wanted} == wanted
    assert any(reason == "read/unreadable" and path.startswith("nnn") for path, reason in drops.items())
    assert not any(char in (deep_path / "out/report.html").read_text() for char in ("\x1b", "\ud800"))


def damage_index(git: Path) -> None:
    (git / "index").write_bytes(b"DIRC" + b"\xff" * 500)


def damage_head(git: Path) -> None:
    (git / "refs/heads/main").write_text("ref: refs/heads/main\n")
    (git / "HEAD").write_text("ref: refs/heads/main\n")


def damage_config(git: Path) -> None:
    (git / "config").write_bytes(b"[core\n bare = \xff\n")


def lose_objects(git: Path) -> None:
    for folder in (git / "objects").iterdir():
        if len(folder.name) == 2:
            shutil.rmtree(folder)


def put_pipe_for_index(git: Path) -> None:
    (git / "index").unlink()
    os.mkfifo(git / "index")


def put_pipe_for_config(git: Path) -> None:
    os.mkfifo(git / "more")
    (git / "config").write_text("[include]\n path = more\n")


@pytest.mark.parametrize(
    "damage", [damage_index, damage_head, damage_config, lose_objects, put_pipe_for_index, put_pipe_for_config]
)
def test_a_damaged_git_repository_is_named_with_what_to_do(
    run: Run, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    root = write(tmp_path / "repo", {"a.py": module("a"), "b.py": module("b")})
    commit(root)
    damage(root / ".git")
    ran = run("build", root, "--out", tmp_path / "out", "--workers", 1)
    assert (ran.code, ran.out) == (3, "")
    assert f"{root}: a damaged git repository" in ran.err
    assert "clone it again or move .git away" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["loop", "pipe", "pipe.zip", "pipe.parquet", "pipe.jsonl", "empty", "none", "e.zip"])
def test_what_is_no_input_is_named_and_leaves_no_folder(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    (tmp_path / "e.zip").touch()
    if name.startswith("pipe"):
        os.mkfifo(tmp_path / name)
    ran = run("build", tmp_path / name, "--out", tmp_path / "new/out", "--workers", 1)
    assert (ran.code, ran.out) == (3, "")
    assert name in ran.err
    assert not (tmp_path / "new").exists()


def test_rules_that_would_take_years_are_matched_at_once(tmp_path: Path) -> None:
    lines = ["*a*a*a*a*a*a*a*c", "*[ab]*[ab]*[ab]*[ab]*c", "*[]a]*[]a]*[]a]*[]a]*c", "*?*?*?*?*?*cc", "**a**a**a**a**c"]
    lines += ["**/d/**/d/**/d/**/d/**/e", "*.py[co]*x*y", "a*b*c"]
    write(tmp_path, {".gitignore": "\n".join(lines)})
    is_ignored = ignore_by_files(tmp_path)
    hard = ["a" * 250, "ab" * 125, "]a" * 120, "d/" * 1_000 + "b"]
    assert [is_ignored(path, False) for path in hard] == [False] * 4
    # What they mean stays what git means by them.
    told = {
        "zz.pyc_x_y": True,
        "zz.pyd_x_y": False,
        "a1b2c": True,
        "1a2b3c": False,
        "s/ab123c": True,
        "s/a1c2b": False,
        "s/qx": False,
        "x.d": False,
    }
    told |= {"a" * 7 + "c": True, "1a2a3a4a5a6a7a8c": True, "12345cc": True, "1234cc": False}
    assert {path: is_ignored(path, False) for path in told} == told


def test_files_of_a_data_set_are_walked_however_deep_they_lie(deep_path: Path) -> None:
    write(deep_path, {"b.py": "", "a/z.py": "", "a/.hidden/x.py": "", ".h.py": "", "a-b.py": ""})
    (deep_path / "link").symlink_to("a")
    (deep_path / "loop").symlink_to("loop")
    make_deep(deep_path, "d", 1_500)
    names = [name for name, _ in walk_visible(deep_path)]
    assert names == ["a-b.py", "b.py", "loop", "a/z.py", "d/" * 1_500 + "deep.py"]


def test_what_was_damaged_is_named_and_taken_in_by_a_rerun_when_it_is_whole(run: Run, tmp_path: Path) -> None:
    good: dict[str, str | bytes] = {f"p{n}/good.py": module(f"good{n}") for n in range(6)}
    root = write(tmp_path / "app", good)
    whole = {f"q{n}/packed.py": module(f"packed{n}") for n in range(6)}
    (tmp_path / "in").mkdir()
    archive = make_form(tmp_path / "in", "app.tar", dict(whole))
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    (tmp_path / "tables").mkdir()
    for name in ("one", "two"):
        rows = {"path": [f"{name}/{n}.py" for n in range(4)], "content": [module(f"{name}{n}") for n in range(4)]}
        pq.write_table(pa.table(rows), tmp_path / f"tables/{name}.parquet")
    table = tmp_path / "tables/two.parquet"
    rows_of_two = table.read_bytes()
    table.write_bytes(rows_of_two[:-20])
    arguments = ("build", root, archive, tmp_path / "tables", "--out", tmp_path / "out", "--workers", 1)
    assert run(*arguments).code == 0
    drops, kept = read_drops(tmp_path / "out"), read_kept(tmp_path / "out")
    assert drops["(the rest of the archive)"] == "read/truncated"
    assert drops["two.parquet"] == "read/corrupt_table"
    assert {"one/0.py", "p0/good.py"} <= kept
    assert set(whole) - kept
    page = (tmp_path / "out/report.html").read_text()
    assert "read: truncated" in page
    assert "read: corrupt_table" in page
    archive.write_bytes(content)
    table.write_bytes(rows_of_two)
    assert run(*arguments).code == 0
    assert read_drops(tmp_path / "out") == {}
    assert read_kept(tmp_path / "out") >= {*good, *whole, "one/0.py", "two/0.py"}
    names = {file.repo for file in read_records(tmp_path / "out/files-train.parquet", SourceFile)}
    assert names == {"app", "app#2", "tables"}, "two repositories of one name are told apart"


def test_damaged_input_beside_others_is_left_out_named_and_taken_up_when_mended(tmp_path: Path, run: Run) -> None:
    root = write(tmp_path / "app", {f"p{n}/good.py": module(f"good{n}") for n in range(6)})
    archive = make_form(tmp_path / "packed", "lib.tar.gz", {f"q{n}/packed.py": module(f"packed{n}") for n in range(6)})
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"path": ["one.py"], "content": [module("one")]}), table)
    whole = {path: path.read_bytes() for path in (archive, table)}
    (tmp_path / "empty").mkdir()
    arguments = ("build", root, archive, table, tmp_path / "empty", "--out", tmp_path / "out", "--workers", 1)
    for path, content in whole.items():
        path.write_bytes(content[:9])
    told = run(*arguments)
    assert told.code == 0
    for name in ("lib.tar.gz", "rows.parquet", "empty"):
        assert f"note    {name}: left out: " in told.out
        assert read_drops(tmp_path / "out")[name] == "read/damaged"
        assert f"{name}: left out: " in (tmp_path / "out/report.html").read_text()
    assert run("build", archive, table, "--out", tmp_path / "alone").err.startswith(f"codegemma: {archive}: ")
    for path, content in whole.items():
        path.write_bytes(content)
    assert run(*arguments).code == 0
    assert read_drops(tmp_path / "out") == {"empty": "read/damaged"}
    assert {"one.py", "q0/packed.py"} <= read_kept(tmp_path / "out")


def test_a_rule_file_with_a_broken_expression_is_named_with_the_rule(run: Run, tmp_path: Path) -> None:
    root = write(tmp_path / "repo", {f"p{n}/good.py": module(f"good{n}") for n in range(6)})
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rules]]\nid = 'ours'\nregex = '''acme-([0-9'''\n")
    arguments = ("build", root, "--out", tmp_path / "out", "--workers", 1, "--set", f"corpus.secret_rules={rules}")
    ran = run(*arguments)
    assert (ran.code, ran.out) == (3, "")
    assert str(rules) in ran.err
    assert "ours" in ran.err
    assert not (tmp_path / "out").exists()
    rules.write_text("[[rules]]\nid = 'ours'\nregex = '''acme-([0-9]+)'''\n")
    assert run(*arguments).code == 0
