"""A repository's history becomes conversations: what was seen is said, what is unsafe or held out is not told."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.repositories import git, write

from codegemma.align.chats import read_chats
from codegemma.cli.main import cli
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.pipeline import HELDOUT_FILE
from codegemma.errors import InputError
from codegemma.instruct.examples import Example
from codegemma.instruct.history.changes import (
    CUT_OFF,
    UNREADABLE,
    Change,
    ChangedFile,
    ChangeReader,
    HistoryChoices,
    open_history,
    walk_commits,
)
from codegemma.instruct.history.heldout import HELDOUT, LIKE_HELDOUT
from codegemma.instruct.history.read import HistoryJob, read_history
from codegemma.instruct.history.statements import Statements
from codegemma.instruct.history.telling import spell_diff
from codegemma.instruct.history.trial import Failed, Trials
from codegemma.records import SourceFile
from codegemma.sandbox.box import Sandbox
from codegemma.shards import write_records
from codegemma.text.markdown import fence

MIT = "SPDX-License-Identifier: MIT\n"
OLD = '"""Sums."""\n\n\ndef add(first, second):\n    return first - second\n'
NEW = OLD.replace("first - second", "first + second")
TEST = "from calc import add\n\n\ndef test_sum():\n    assert add(2, 3) == 5\n"
FIXTURE = "import pytest\n\n\n@pytest.fixture\ndef two():\n    return 2\n"
WITH_FIXTURE = "from calc import add\n\n\ndef test_sum(two):\n    assert add(two, 3) == 5\n"
CASE = """import unittest

from calc import add


class Sums(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(add(2, 3), 5)
"""
# Long enough to be told from others by its runs of words.
SECRET_SAUCE = "def blend(pepper, salt, sugar):\n" + "".join(
    f"    stir_{word} = pepper * {n} + salt - sugar // {n + 2}\n" for n, word in enumerate("abcdefghijkl")
)


def make_repository(folder: Path, *states: tuple[str, Mapping[str, str | bytes | None]]) -> Path:
    """Commit one state after another: a message, and files to write, or with `None` to remove."""
    root = folder / "shop"
    root.mkdir()
    git(root, "init", "-q")
    for number, (message, files) in enumerate(states):
        write(root, {path: content for path, content in files.items() if content is not None})
        for path in (path for path, content in files.items() if content is None):
            (root / path).unlink()
        git(root, "add", "-A")
        git(root, "commit", "-q", "--allow-empty", "-m", message, time_s=1_600_000_000 + 60 * number)
    return root


BEGIN = ("Begin the calculator here", {"LICENSE": MIT, "calc.py": OLD})
MEND = ("Mend the sum of two numbers\n\nIt took them apart.", {"calc.py": NEW, "test_calc.py": TEST})


def tell(
    root: Path, sandbox: Sandbox | None = None, corpus: CorpusChoices | None = None, **options: object
) -> tuple[dict[str, Example], list[str]]:
    """Read a history: its conversations, the last of each kind, and the reasons."""
    found = list(read_history(HistoryJob((root,), corpus or CorpusChoices(), **options), sandbox, []))  # type: ignore[arg-type]
    examples = {example.origin["kind"]: example for example in found if isinstance(example, Example)}
    return examples, [reason for reason in found if isinstance(reason, str)]


def test_a_test_that_failed_before_is_shown_with_what_it_said(tmp_path: Path, sandbox: Sandbox) -> None:
    root = make_repository(tmp_path, BEGIN, MEND)
    out = tmp_path / "history.jsonl"
    ran = CliRunner().invoke(cli, ["instruct", "history", str(root), "--out", str(out)], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "2 conversations, 1 dropped" in ran.stdout
    assert "shop: tests by pytest of" in ran.stdout
    review, (asked, answered) = (chat for chat in read_chats(out) if not isinstance(chat, str))
    assert review[1].text == "Mend the sum of two numbers\n\nIt took them apart."
    assert "These tests, changed here, fail" in asked.text
    assert "assert -1 == 5" in asked.text
    assert OLD in asked.text
    assert "first + second" not in asked.text
    assert answered.text == f"{review[1].text}\n\n`calc.py`:\n\n```python\n{NEW}```"
    assert not re.search(rf"{tmp_path}|{sys.prefix}|/repository|\d\.\d+s", asked.text), "nothing of this machine"
    origin = json.loads(out.read_text().splitlines()[1])["origin"]
    assert origin["verified"] is True
    assert (origin["tests"], origin["passed"], origin["license"]) == (["test_calc.py"], 1, "MIT")
    assert origin["commit"] == git(root, "rev-parse", "HEAD").strip()


def test_a_bare_repository_tells_the_same(tmp_path: Path) -> None:
    root = make_repository(tmp_path, BEGIN, MEND)
    git(tmp_path, "clone", "-q", "--bare", str(root), "shop.git")
    assert [e.turns for e in tell(root)[0].values()] == [e.turns for e in tell(tmp_path / "shop.git")[0].values()]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"calc.py": NEW, "test_calc.py": CASE.replace("2, 3", "5, 0")}, "do not fail on the old code (exit code 0)"),
        ({"calc.py": NEW, "test_calc.py": CASE.replace("5", "6")}, "do not pass on the new code here (exit code 1)"),
        ({"calc.py": NEW, "tests/data.py": "ROWS = [1, 2, 3]\n"}, "no test file that stays"),
        (
            {"calc.go": "package calc\n\nfunc Two() int { return 2 }\n", "calc_test.go": "package calc\n"},
            "Python alone",
        ),
    ],
)
def test_what_was_not_seen_is_not_said(
    tmp_path: Path, sandbox: Sandbox, files: dict[str, str | bytes | None], said: str
) -> None:
    begin = ("Begin the calculator here", {"calc.py": OLD, "calc.go": "package calc\n", "test_calc.py": "X = 1\n"})
    root = make_repository(tmp_path, begin, ("Mend the sum of two", files))
    repair = tell(root, sandbox, test_runner="unittest")[0]["repair"]
    assert repair.origin["verified"] is False
    assert said in repair.origin["not_verified"]
    assert "fail" not in repair.turns[0].text
    assert tell(root, only_verified=True, kinds=("repair",))[0] == {}


@pytest.mark.slow
def test_tests_that_want_the_options_of_their_repository_get_them(tmp_path: Path, sandbox: Sandbox) -> None:
    own = {"pytest.ini": "[pytest]\naddopts = --import-mode=importlib -p own\n", "own.py": FIXTURE, "calc.py": OLD}
    mend = ("Mend the sum of two", {"calc.py": NEW, "test_calc.py": WITH_FIXTURE})
    root = make_repository(tmp_path, ("Begin with a fixture", own), mend)
    assert tell(root, sandbox)[0]["repair"].origin["verified"] is True


def test_a_folder_follows_commits_that_put_files_where_folders_were(tmp_path: Path, sandbox: Sandbox) -> None:
    states = (
        BEGIN, ("Mend the sum of two", {"calc.py": NEW, "test_calc.py": CASE}),
        ("Make a package of it", {"calc.py": None, "calc/__init__.py": OLD}),
        ("Mend the sum in the package", {"calc/__init__.py": NEW, "test_calc.py": CASE + "\n\nTWO = 2\n"}),
    )  # fmt: skip
    root = make_repository(tmp_path, *states)
    repository = open_history(root)
    reader = ChangeReader(repository, "shop", Statements(repository), CorpusChoices(), HistoryChoices())
    newest, _, oldest, _ = (reader.read(commit) for commit in walk_commits(repository))
    with Trials(root, repository, sandbox, runner="unittest") as trials:
        for change in (newest, oldest, newest):
            assert isinstance(change, Change)
            tried = trials.run(change)
            assert isinstance(tried, Failed)
            assert (tried.tests, tried.passed) == (("test_calc.py",), 1)
            assert "AssertionError: -1 != 5" in tried.output


def test_without_tests_the_author_asks_and_without_a_box_nothing_runs(tmp_path: Path) -> None:
    root = make_repository(
        tmp_path, BEGIN, ("Mend the sum (#12)\n\nSigned-off-by: A B <a@b.c>", {"calc.py": NEW}), MEND
    )
    repair = tell(root)[0]["repair"]
    assert repair.origin["not_verified"] == "no test, or no code, was changed"
    assert repair.turns[0].text.startswith("Mend the sum\n\nChange this code accordingly.")
    assert "a@b.c" not in "".join(turn.text for turn in repair.turns)


KEY = "token = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'\n"


@pytest.mark.parametrize(
    ("message", "files", "reason"),
    [
        ("Mend it all", {"calc.py": NEW + KEY}, "safety: secret"),
        ("Mend it with " + KEY, {"calc.py": NEW}, "safety: secret"),
        ("Mend it all", {"vendor/calc.py": NEW}, "vendored"),
        ("Mend it all", {"calc.py": "# Code generated by protoc. DO NOT EDIT.\n" + NEW}, "quality: generated"),
        ("Mend it all", {"calc.py": b"x = '\xff'\n"}, "read: undecodable"),
        ("Mend it all", {"calc.py": b"x = '\0'\n"}, "read: binary"),
        ("Mend it all", {"calc.py": "# " + "a" * 2_000_000}, "read: too_big"),
        ("Mend it all", {"a\nb.py": NEW}, "read: path"),
        ("Mend it all", {f"f{n}.py": NEW for n in range(13)}, "more than 12 files"),
        ("Mend it all", {"calc.py": OLD + "value = 1\n" * 301}, "more than 300 changed lines"),
        ("Mend it all", {"notes.txt": "Nothing of code."}, "no change of code in a wanted language"),
        ("Mend it", {"calc.py": NEW}, "a message of fewer than 3 words"),
        ("Bump calc from 1 to 2", {"calc.py": NEW}, "a message that says nothing of the change"),
        ("Mend \x1b[31mit all", {"calc.py": NEW}, "a message with control characters"),
    ],
)
def test_what_is_not_told_has_a_reason(
    tmp_path: Path, message: str, files: dict[str, str | bytes | None], reason: str
) -> None:
    examples, reasons = tell(make_repository(tmp_path, BEGIN, (message, files)))
    assert examples == {}
    assert reasons == [reason, "a first commit"]


def test_merges_programs_and_messages_of_no_text_are_left_out(tmp_path: Path) -> None:
    root = make_repository(tmp_path, BEGIN)
    git(root, "checkout", "-q", "-b", "side")
    write(root, {"calc.py": NEW})
    git(root, "commit", "-qam", "Mend the sum of two", "--author", "dependabot[bot] <x@y.z>")
    git(root, "checkout", "-q", "-")
    write(root, {"other.py": NEW})
    git(root, "add", "-A")
    # git itself mends such messages; other programs do not.
    who = "A <a@b.c> 1600000000 +0000"
    head = f"tree {git(root, 'write-tree')}parent {git(root, 'rev-parse', 'HEAD')}author {who}\ncommitter {who}\n\n"
    write(tmp_path, {"raw": head.encode() + b"Mend caf\xe9 at once"})
    git(root, "reset", "-q", "--hard", git(root, "hash-object", "-t", "commit", "-w", str(tmp_path / "raw")).strip())
    git(root, "merge", "-q", "--no-ff", "-m", "Bring both together", "side")
    _, reasons = tell(root)
    assert sorted(reasons) == ["a first commit", "a merge", "a message that is not UTF-8", "written by a program"]


def test_links_and_submodules_of_a_change_are_passed_over(tmp_path: Path) -> None:
    root = make_repository(tmp_path, BEGIN)
    (root / "link.py").symlink_to("/etc/passwd")
    write(root, {"calc.py": NEW})
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module.py")
    git(root, "add", "calc.py", "link.py")
    git(root, "commit", "-qm", "Mend the sum of two")
    examples, _ = tell(root)
    assert examples["review"].origin["paths"] == ["calc.py"]


@pytest.mark.parametrize("name", [b"..", b"."])
def test_a_path_that_leads_out_of_the_repository_is_not_told(tmp_path: Path, name: bytes) -> None:
    root = make_repository(tmp_path, BEGIN)
    licence, blob, folder = (
        bytes.fromhex(git(root, "rev-parse", f"HEAD{place}").strip()) for place in (":LICENSE", ":calc.py", "^{tree}")
    )
    entries = ((b"100644 LICENSE", licence), (b"100644 a.py", blob), (b"40000 " + name, folder))
    (root / "raw").write_bytes(b"".join(head + b"\0" + oid for head, oid in entries))
    tree = git(root, "hash-object", "-t", "tree", "-w", "--literally", "raw").strip()
    commit = git(root, "commit-tree", tree, "-p", "HEAD", "-m", "Mend the sum of two").strip()
    git(root, "update-ref", "HEAD", commit)
    examples, reasons = tell(root)
    assert not examples
    assert "read: unsafe_path" in reasons


def test_a_shallow_clone_says_what_it_lacks(tmp_path: Path) -> None:
    root = make_repository(tmp_path, BEGIN, MEND, ("Say two at last", {"calc.py": OLD}))
    git(tmp_path, "clone", "-q", "--depth", "2", f"file://{root}", "shallow")
    examples, reasons = tell(tmp_path / "shallow")
    assert set(examples) == {"review", "repair"}
    assert len(reasons) == 1


def test_a_licence_that_is_not_accepted_at_the_commit_is_refused(tmp_path: Path) -> None:
    root = make_repository(
        tmp_path, ("Begin the calculator", {"LICENSE": MIT.replace("MIT", "GPL-3.0-only"), "calc.py": OLD}), MEND,
        ("Let everybody use it", {"LICENSE": MIT, "calc.py": NEW + "\nTWO = 2\n"}),
        ("Give them three of it", {"calc.py": NEW + "\nTWO = 2\nTHREE = 3\n"}),
    )  # fmt: skip
    examples, reasons = tell(root, corpus=CorpusChoices(licenses=("permissive",)))
    assert reasons == [*["license: not_accepted"] * 2, "a first commit"], "both sides of a change count"
    assert examples["review"].turns[1].text == "Give them three of it"


def test_who_opts_out_today_is_not_told_from_yesterday(tmp_path: Path) -> None:
    root = make_repository(
        tmp_path, ("Begin the calculator", {"own/calc.py": OLD}), ("Mend the sum of two", {"own/calc.py": NEW}),
        ("Keep this to ourselves", {"own/.noai": ""}),
    )  # fmt: skip
    assert tell(root)[1] == ["no change of code in a wanted language", "opted out", "a first commit"]
    listed = tmp_path / "opt-out"
    listed.write_text("shop:own/**\n")
    (root / "own/.noai").unlink()
    assert "opted out" in tell(root, corpus=CorpusChoices(opt_out=str(listed)))[1]


def test_a_person_has_one_pseudonym_in_message_and_code(tmp_path: Path) -> None:
    mail = "jane.doe2@corp.com"
    root = make_repository(
        tmp_path, BEGIN, (f"Mend the sum, as {mail} asked", {"calc.py": NEW + f"\n# Ask {mail} why.\n"})
    )
    examples, _ = tell(root)
    said = "".join(turn.text for example in examples.values() for turn in example.turns)
    assert mail not in said
    assert len(set(re.findall(r"[\w.]+@[\w.]+\w", said))) == 1


def test_held_out_files_are_not_told_under_any_name(tmp_path: Path) -> None:
    root = make_repository(
        tmp_path,
        ("Begin the kitchen of ours", {"first.py": SECRET_SAUCE, "copy.py": OLD}),
        ("Season it before its name", {"first.py": SECRET_SAUCE + "\nHOT = 1\n"}),
        ("Name it as it should", {"first.py": None, "second.py": SECRET_SAUCE + "\nHOT = 1\n"}),
        ("Season it under its name", {"second.py": SECRET_SAUCE + "\nHOT = 2\n"}),
        ("Copy it to another place", {"copy.py": OLD + "\n\n" + SECRET_SAUCE}),
        ("Mend the sum of two", {"copy.py": NEW}),
    )  # fmt: skip
    data = tmp_path / "data"
    data.mkdir()
    held = SourceFile("shop", "second.py", "python", SECRET_SAUCE + "\nHOT = 3\n", "0" * 40)
    write_records(data / HELDOUT_FILE, [held], SourceFile)
    examples, reasons = tell(root, data=(data,))
    assert examples == {}
    assert reasons == [
        LIKE_HELDOUT,
        LIKE_HELDOUT,
        HELDOUT,
        "no change of code in a wanted language",
        HELDOUT,
        "a first commit",
    ]
    with pytest.raises(InputError, match="no files-heldout"):
        tell(root, data=(tmp_path,))


def test_of_a_long_file_what_surrounds_the_change_is_shown(tmp_path: Path) -> None:
    lines = [f"value_{n} = compute({n})\n" for n in range(400)]
    after = [*lines[:200], "value_200 = repair(200)\n", *lines[201:]]
    root = make_repository(
        tmp_path,
        ("Begin with many values", {"calc.py": "".join(lines)}),
        ("Repair one of them", {"calc.py": "".join(after)}),
    )
    asked, answered = tell(root)[0]["repair"].turns
    assert "`calc.py`, lines 176 to 226:" in asked.text
    assert "".join(lines[175:226]) in asked.text
    assert lines[174] not in asked.text
    assert "+value_200 = repair(200)" in answered.text


@settings(max_examples=25)
@given(*[st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "+d\n", "\n", "-- e", "@@ f"]), min_size=1, max_size=8)] * 2)
def test_a_told_diff_makes_the_new_code_of_the_old(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str]
) -> None:
    old, new = "".join(before), "".join(after)
    if old == new:
        return
    sides = [SourceFile("r", "x.py", "python", text, "") for text in (old, new)]
    diff = spell_diff([ChangedFile("x.py", "python", sides[0], sides[1], "x.py")])
    folder = tmp_path_factory.mktemp("apply")
    (folder / "x.py").write_bytes(old.encode())
    write(folder, {"diff": diff})
    git(folder, "apply", "diff")
    assert (folder / "x.py").read_bytes().decode() == new


@given(st.text(alphabet="`~ \nx", max_size=40))
def test_no_text_ends_its_fence(text: str) -> None:
    first, *lines, last = fence(text, "x").split("\n")
    assert first == f"{last}x"
    assert not any(re.fullmatch(rf"\s*`{{{len(last)},}}\s*", line) for line in lines)


def test_what_is_no_repository_or_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(NEW)
    with pytest.raises(InputError, match="not a git repository"):
        tell(tmp_path)
    with pytest.raises(InputError, match="known: repair, review"):
        HistoryJob((tmp_path,), CorpusChoices(), kinds=("praise",))


def test_a_damaged_history_is_told_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    root = make_repository(tmp_path, BEGIN, MEND, ("Say two at last", {"calc.py": OLD}))
    gone = git(root, "rev-parse", "HEAD~2").strip()
    (root / ".git/objects" / gone[:2] / gone[2:]).unlink()
    examples, reasons = tell(root)
    assert CUT_OFF in reasons or UNREADABLE in reasons, reasons
    assert examples["review"].turns[1].text == "Say two at last"


def test_what_tests_said_is_kept_and_not_asked_again(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil = ("Take the two numbers apart", {"calc.py": OLD, "test_calc.py": CASE.replace("5", "-1")})
    root = make_repository(tmp_path, BEGIN, ("Mend the sum of two", {"calc.py": NEW, "test_calc.py": CASE}), spoil)
    job = HistoryJob((root,), CorpusChoices(), test_runner="unittest", kept=tmp_path / "kept")
    bars: list[tuple[int, int | None]] = []
    found = list(read_history(job, sandbox, [], lambda _, done, total: bars.append((done, total))))
    verified = [e.origin["verified"] for e in found if isinstance(e, Example) and e.origin["kind"] == "repair"]
    assert verified == [True, True]
    assert bars == [(1, 3), (2, 3), (3, 3), (3, 3)]
    monkeypatch.setattr(Sandbox, "run", None)
    assert list(read_history(job, sandbox, [])) == found
