import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import commit, git, make_form, write

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.entries import escape_path
from codegemma.corpus.listing import list_repository
from codegemma.corpus.read import hash_blob, read_listing, read_repository
from codegemma.errors import InputError
from codegemma.records import DroppedFile, SourceFile

CHOICES = CorpusChoices(languages=("python",))


def read(root: Path, choices: CorpusChoices = CHOICES) -> tuple[dict[str, SourceFile], dict[str, DroppedFile]]:
    results = list(read_repository(root, choices))
    kept = {r.path: r for r in results if isinstance(r, SourceFile)}
    dropped = {r.path: r for r in results if isinstance(r, DroppedFile)}
    assert len(kept) + len(dropped) == len(results)
    return kept, dropped


TREE: dict[str, str | bytes] = {
    ".gitignore": "*.log\nbuild/\n/top.py\n!keep.log\n\\#odd.py\n",
    "a.py": "a = 1\n",
    "top.py": "ignored at the root only\n",
    "sub/top.py": "b = 2\r\n",
    "sub/.gitignore": "*_gen.py\n!good_gen.py\n",
    "sub/x_gen.py": "c = 3\n",
    "sub/good_gen.py": "d = 4\n",
    "sub/deep/y_gen.py": "e = 5\n",
    "sub/deep/.gitignore": "!y_gen.py\n",
    "build/out.py": "f = 6\n",
    "build/.gitignore": "!out.py\n",
    "x.log": "g\n",
    "sub.py": "h = 7\n",
    "sub-a/z.py": "i = 8\n",
    "#odd.py": "j = 9\n",
}
VISIBLE = ["a.py", "sub-a/z.py", "sub.py", "sub/deep/y_gen.py", "sub/good_gen.py", "sub/top.py"]


@pytest.mark.parametrize("kind", ["plain", "untracked", "tracked", "bare"])
def test_gitignore_holds_alike_in_every_kind_of_tree(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path / "tree", TREE)
    if kind == "untracked":
        git(root, "init", "-q")
    elif kind != "plain":
        commit(root)
    if kind == "bare":
        git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
        root = tmp_path / "bare.git"
    kept, dropped = read(root)
    assert list(kept) == VISIBLE
    assert set(dropped) == {".gitignore", "sub/.gitignore", "sub/deep/.gitignore"}


def test_plain_rules_agree_with_git_on_every_path(tmp_path: Path) -> None:
    root = write(tmp_path / "tree", TREE)
    plain = [entry.path for entry in list_repository(root).entries]
    git(root, "init", "-q")
    shown = git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")[:-1]
    assert sorted(plain) == sorted(shown)


def test_exclude_file_of_the_repository_counts_and_a_gitignore_lifts_it(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.py": "a = 1\n", "b.py": "b = 1\n", "sub/a.py": "a = 1\n", "sub/.gitignore": "!a.py\n"})
    git(root, "init", "-q")
    write(root, {".git/info/exclude": "a.py\n"})
    assert list(read(root)[0]) == ["b.py", "sub/a.py"]


def test_tracked_files_are_read_although_a_rule_ignores_them(tmp_path: Path) -> None:
    root = write(tmp_path / "tree", {"gen/a.py": "a = 1\n", "gen/b.py": "b = 1\n"})
    git(root, "init", "-q")
    git(root, "add", "gen/a.py")
    write(root, {".gitignore": "gen/\n"})
    assert list(read(root)[0]) == ["gen/a.py"]


def test_working_tree_is_read_as_it_is_on_disk_with_its_commit(tmp_path: Path) -> None:
    root = write(tmp_path / "tree", {"a.py": "a = 1\n", "gone.py": "x = 1\n"})
    commit(root)
    write(root, {"a.py": "a = 2\n", "new.py": "n = 1\n"})
    (root / "gone.py").unlink()
    kept, _ = read(root)
    assert {path: file.text for path, file in kept.items()} == {"a.py": "a = 2\n", "new.py": "n = 1\n"}
    assert {file.commit for file in kept.values()} == {git(root, "rev-parse", "HEAD").strip()}


def test_blob_is_what_git_says(tmp_path: Path) -> None:
    content = "\ufeffx = 'é'\r\n".encode()
    root = write(tmp_path, {"a.py": content})
    kept, _ = read(root)
    git(root, "init", "-q")
    assert kept["a.py"].blob == git(root, "hash-object", "a.py").strip() == hash_blob(content)


def test_text_keeps_line_ends_and_loses_only_the_byte_order_mark(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.py": "\ufeffx = '𝄞'\r\n\ty = 2\rz".encode()})
    assert read(root)[0]["a.py"].text == "x = '𝄞'\r\n\ty = 2\rz"


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("nul.py", b"x = 1\0", "binary"),
    ("latin.py", b"# caf\xe9\n", "undecodable"),
    ("surrogate.py", b"x = '\xed\xa0\x80'\n", "undecodable"),
    ("utf16.py", "x = 1".encode("utf-16"), "undecodable"),
    ("empty.py", b"", "empty"),
    ("blank.py", b"\xef\xbb\xbf \n\t\n", "empty"),
    ("big.py", b"x = 1\n" * 200_000, "too_big"),
    ("lfs.py", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "lfs_pointer"),
    ("a.md", b"# hello\n", "language"),
    ("App.java", b"class App {}\n", "language"),
    ("tool", b"#!/bin/sh\n", "language"),
    ("node_modules/a.py", b"x = 1\n", "vendored"),
    ("sub/site-packages/a.py", b"x = 1\n", "vendored"),
    (".venv/a.py", b"x = 1\n", "environment"),
    ("a.ipynb", b"{", "notebook"),
    ("lfs.ipynb", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "lfs_pointer"),
]


@pytest.mark.parametrize("form", ["folder", "bare.git", "repo.zip", "repo.tar"])
@pytest.mark.parametrize(("path", "content", "reason"), BAD_FILES)
def test_unusable_file_is_dropped_with_its_reason(
    tmp_path: Path, path: str, content: bytes, reason: str, form: str
) -> None:
    kept, dropped = read(make_form(tmp_path, form, {path: content, "good.py": "x = 1\n"}))
    assert list(kept) == ["good.py"]
    [drop] = dropped.values()
    assert (drop.stage, drop.reason) == ("read", reason)
    assert drop.detail
    if not drop.path.endswith("/"):
        assert (drop.path, drop.size_bytes) == (path, len(content))


def test_wanted_language_without_its_grammar_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegemma.corpus.read.has_grammar", lambda _language: False)
    root = write(tmp_path, {"a.kt": "val a = 1\n"})
    _, dropped = read(root, CorpusChoices(languages=("python", "kotlin")))
    assert (dropped["a.kt"].reason, dropped["a.kt"].detail) == (
        "no_grammar",
        "kotlin needs tree-sitter-kotlin installed",
    )


def test_header_is_read_as_the_language_that_it_is_in(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.h": "int f(void);\n", "b.h": "namespace b {\nint f();\n}\n", "c.cc": "int c;\n"})
    kept, _ = read(root, CorpusChoices(languages=("c", "cpp")))
    assert {path: file.language for path, file in kept.items()} == {"a.h": "c", "b.h": "cpp", "c.cc": "cpp"}
    kept, dropped = read(root, CorpusChoices(languages=("cpp",)))
    assert list(kept) == ["b.h", "c.cc"]
    assert (dropped["a.h"].reason, dropped["a.h"].detail) == ("language", "c is not among the wanted languages")
    _, dropped = read(root, CHOICES)
    assert dropped["b.h"].detail == "c and cpp are not among the wanted languages"


def test_file_of_200_megabytes_is_never_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.py").open("wb") as file:
        file.truncate(200_000_000)
    [entry] = list_repository(tmp_path).entries
    refused = [r for r in read_repository(tmp_path, CHOICES) if isinstance(r, DroppedFile)]
    assert entry.size_bytes == 200_000_000
    assert [r.reason for r in refused] == ["too_big"]


def test_file_that_grew_since_it_was_listed_is_too_big(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x = 1\n"})
    listing = list_repository(tmp_path)
    write(tmp_path, {"a.py": b"x = 1\n" * 200_000})
    [dropped] = read_listing(listing, CHOICES)
    assert isinstance(dropped, DroppedFile)
    assert dropped.reason == "too_big"


def test_file_that_vanished_since_it_was_listed_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x = 1\n"})
    listing = list_repository(tmp_path)
    (tmp_path / "a.py").unlink()
    [dropped] = read_listing(listing, CHOICES)
    assert isinstance(dropped, DroppedFile)
    assert dropped.reason == "unreadable"


def test_links_pipes_and_sockets_neither_loop_nor_block(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"secret.py": "x = 1\n"})
    root = write(tmp_path / "tree", {"sub/a.py": "a = 1\n"})
    (root / "sub/loop").symlink_to(root)
    (root / "out").symlink_to(outside)
    (root / "self.py").symlink_to("self.py")
    (root / "b.py").symlink_to("sub/a.py")
    os.mkfifo(root / "pipe.py")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s.py"))
        results: list[tuple[dict[str, SourceFile], dict[str, DroppedFile]]] = []
        reader = threading.Thread(target=lambda: results.append(read(root)), daemon=True)
        reader.start()
        reader.join(timeout=10)
    kept, dropped = results[0]
    assert list(kept) == ["sub/a.py"]
    assert {path: drop.reason for path, drop in dropped.items()} == {
        "sub/loop": "symlink",
        "out": "symlink",
        "self.py": "symlink",
        "b.py": "symlink",
        "pipe.py": "not_regular",
        "s.py": "not_regular",
    }


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    user = os.geteuid()
    try:
        yield root
    finally:
        os.seteuid(user)
        shutil.rmtree(root)


def test_unreadable_files_and_folders_are_dropped(as_ordinary_user: Path) -> None:
    root = write(as_ordinary_user, {"a.py": "a = 1\n", "b.py": "b = 1\n", "sub/c.py": "c = 1\n"})
    (root / "b.py").chmod(0)
    (root / "sub").chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may read everything
    kept, dropped = read(root)
    assert list(kept) == ["a.py"]
    assert {path: drop.reason for path, drop in dropped.items()} == {"b.py": "unreadable", "sub/": "unreadable"}


def test_submodules_and_nested_repositories_are_dropped_whole(tmp_path: Path) -> None:
    inner = write(tmp_path / "inner", {"i.py": "i = 1\n"})
    commit(inner)
    root = write(tmp_path / "tree", {"a.py": "a = 1\n"})
    git(root, "init", "-q")
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "mod")
    commit(root)
    for tree in (root, root / ".git"):
        kept, dropped = read(tree)
        assert list(kept) == ["a.py"]
        assert dropped["mod/"].reason == "submodule"


def test_root_may_lie_in_site_packages(tmp_path: Path) -> None:
    root = write(tmp_path / "site-packages/node_modules", {"a.py": "a = 1\n"})
    assert list(read(root)[0]) == ["a.py"]


def test_environment_is_known_by_its_mark_and_a_package_named_venv_is_read(tmp_path: Path) -> None:
    root = write(tmp_path, {"venv/a.py": "a = 1\n", "env3/pyvenv.cfg": "", "env3/lib/b.py": "b = 1\n"})
    kept, dropped = read(root)
    assert list(kept) == ["venv/a.py"]
    assert dropped["env3/"].reason == "environment"


def test_odd_paths_are_dropped_escaped(tmp_path: Path) -> None:
    write(tmp_path, {os.fsdecode(b"b\xff.py"): "x = 1\n", "a\n[red].py": "x = 1\n", "é [1].py": "x = 1\n"})
    kept, dropped = read(tmp_path)
    assert list(kept) == ["é [1].py"]
    assert {path: drop.reason for path, drop in dropped.items()} == {r"a\x0a[red].py": "path", r"b\udcff.py": "path"}


@given(st.text(st.characters()))
def test_escaped_path_is_printable_and_encodable(path: str) -> None:
    escaped = escape_path(path)
    assert escaped.isprintable()
    assert escaped.encode().decode() == escaped
    assert escape_path(escaped) == escaped


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://user:token@host.example/owner/project.git", "owner/project"),
        ("git@host.example:owner/project.git", "owner/project"),
        ("ssh://git@host.example:2222/group/owner/project/", "owner/project"),
        ("/srv/git/project.git", "tree"),
        ("../project", "tree"),
    ],
)
def test_repository_is_named_after_its_remote_without_credentials(tmp_path: Path, url: str, name: str) -> None:
    root = write(tmp_path / "tree", {"a.py": "a = 1\n"})
    git(root, "init", "-q")
    git(root, "remote", "add", "origin", url)
    assert list_repository(root).repo == name


def test_unusable_root_is_an_input_error(tmp_path: Path) -> None:
    write(tmp_path, {"file.py": "x = 1\n"})
    (tmp_path / "empty").mkdir()
    (tmp_path / "unborn").mkdir()
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    git(tmp_path / "unborn", "init", "-q")
    write(tmp_path / "broken/.git", {"HEAD": "nonsense"})
    commit(write(tmp_path / "index", {"a.py": "a = 1\n"}))
    write(tmp_path / "index/.git", {"index": "DIRC nonsense"})
    wanted = {
        "none": "nothing there",
        "file.py": "a file; wanted the folder",
        "empty": "an empty repository",
        "unborn": "an empty repository",
        "bare.git": "no commit",
        "broken": "damaged git repository",
        "index": "damaged git repository",
    }
    for name, message in wanted.items():
        with pytest.raises(InputError, match=message):
            list(read_repository(tmp_path / name, CHOICES))


def test_unreadable_root_is_an_input_error(as_ordinary_user: Path) -> None:
    root = write(as_ordinary_user, {"sub/a.py": "a = 1\n"}) / "sub"
    root.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(InputError, match="cannot be read"):
        list_repository(root)


def test_path_that_is_not_utf8_is_dropped_from_a_bare_repository_too(tmp_path: Path) -> None:
    commit(write(tmp_path, {os.fsdecode(b"b\xff/a.py"): "x = 1\n", "a.py": "a = 1\n"}))
    kept, dropped = read(tmp_path / ".git")
    assert list(kept) == ["a.py"]
    assert dropped[r"b\udcff/a.py"].reason == "path"


def test_excluded_folder_is_not_part_of_the_repository(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "a = 1\n", "out/b.py": "b = 1\n"})
    assert [entry.path for entry in list_repository(tmp_path, exclude=tmp_path / "out").entries] == ["a.py"]


def test_tree_of_a_bare_repository_that_git_would_not_make_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.py": "a = 1\n", "b.py": "b = 1\n"})
    commit(root)
    blobs = {name: git(root, "hash-object", name).strip() for name in ("a.py", "b.py")}
    rows = [("a.py", "a.py"), ("..", "b.py"), ("a.py", "b.py"), ("b.py", "b.py")]
    raw = b"".join(b"100644 %s\0%s" % (name.encode(), bytes.fromhex(blobs[of])) for name, of in rows)
    (root / "raw").write_bytes(raw)
    tree = git(root, "hash-object", "-t", "tree", "-w", "--literally", "raw").strip()
    git(root, "update-ref", "HEAD", git(root, "commit-tree", "-m", "x", tree).strip())
    results = list(read_repository(root / ".git", CHOICES))
    assert {r.path: r.text for r in results if isinstance(r, SourceFile)} == {"a.py": "a = 1\n", "b.py": "b = 1\n"}
    assert [(r.path, r.reason) for r in results if isinstance(r, DroppedFile)] == [
        ("..", "unsafe_path"),
        ("a.py", "unsafe_path"),
    ]


def test_folder_whose_object_is_missing_is_dropped_and_the_rest_is_read(tmp_path: Path) -> None:
    commit(write(tmp_path, {"a.py": "a = 1\n", "sub/b.py": "b = 1\n"}))
    tree = git(tmp_path, "rev-parse", "HEAD:sub").strip()
    (tmp_path / ".git/objects" / tree[:2] / tree[2:]).unlink()
    kept, dropped = read(tmp_path / ".git")
    assert list(kept) == ["a.py"]
    assert {path: drop.reason for path, drop in dropped.items()} == {"sub/": "unreadable"}
