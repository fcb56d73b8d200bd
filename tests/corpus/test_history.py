import os
from pathlib import Path

import pytest
from tests.corpus.repositories import commit, git, write

from codegemma.corpus.history import find_birth_times_s
from codegemma.errors import InputError

LONG = "".join(f"def function_{n}():\n    return {n}\n" for n in range(20))


def test_file_is_born_with_its_first_commit_and_keeps_its_birth_when_renamed(tmp_path: Path) -> None:
    root = write(tmp_path, {"old.py": LONG, "a.py": "a = 1\n"})
    commit(root, time_s=100)
    write(root, {"a.py": "a = 2\n", "b.py": "b = 1\n"})
    commit(root, time_s=200)
    git(root, "mv", "old.py", "renamed.py")
    write(root, {"c.py": "c = 1\n"})
    commit(root, time_s=300)
    births_s = find_birth_times_s(root)
    assert {path: births_s[path] for path in ("renamed.py", "a.py", "b.py", "c.py")} == {
        "renamed.py": 100,
        "a.py": 100,
        "b.py": 200,
        "c.py": 300,
    }


def test_file_of_a_merged_branch_is_born_on_the_branch(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.py": "a = 1\n"})
    commit(root, time_s=100)
    git(root, "checkout", "-q", "-b", "side")
    write(root, {"side.py": "s = 1\n"})
    commit(root, time_s=200)
    git(root, "checkout", "-q", "-")
    write(root, {"main.py": "m = 1\n"})
    commit(root, time_s=300)
    git(root, "merge", "-q", "--no-edit", "side", time_s=400)
    assert find_birth_times_s(root) == {"a.py": 100, "side.py": 200, "main.py": 300}


def test_path_that_is_not_utf8_does_not_stop_the_walk(tmp_path: Path) -> None:
    commit(write(tmp_path, {os.fsdecode(b"b\xff.py"): "x = 1\n", "é.py": "a = 1\n"}), time_s=100)
    assert find_birth_times_s(tmp_path)["é.py"] == 100


def test_history_of_what_has_none_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a git repository"):
        find_birth_times_s(tmp_path)
    git(tmp_path, "init", "-q")
    with pytest.raises(InputError, match="no commit yet"):
        find_birth_times_s(tmp_path)
