"""A conversation in a terminal: answers, attachments, running code, and what a model must not do to a terminal."""

import io
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pexpect
import pytest
from click.testing import CliRunner
from rich.console import Console
from tests.serve.conftest import serve
from tests.serve.parrot import Parrot

from codegemma.cli.main import cli
from codegemma.records import Sampling, Turn
from codegemma.sandbox.box import Sandbox
from codegemma.serve.terminal.screen import Screen, strip_controls
from codegemma.serve.terminal.speakers import LocalSpeaker, RemoteSpeaker, Said
from codegemma.serve.terminal.talk import Talk
from codegemma.text.markdown import split_finished
from codegemma.text.tokenizer import Tokenizer
from codegemma.wire import ServerError

ANSWER = "Add them:\n\n```python\nprint(2 + 3)\n```\n\nDone."
SCRIPT = f"model\n{ANSWER}"


class Scripted:
    """Says what it is told to say, and keeps what it was asked."""

    name = "scripted"

    def __init__(self, text: str = ANSWER) -> None:
        self.text, self.asked = text, list[list[Turn]]()

    def answer(self, turns: Sequence[Turn]) -> Generator[Said, None, None]:
        self.asked.append(list(turns))
        for start in range(0, len(self.text), 5):
            yield Said(self.text[start : start + 5])
        yield Said("", "a note")


@pytest.fixture
def talk(tmp_path: Path, sandbox: Sandbox) -> Talk:
    return Talk(Scripted(), Screen(Console(file=io.StringIO(), width=100)), lambda: sandbox, tmp_path)


def read(talk: Talk) -> str:
    file = talk._screen.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_an_answer_is_shown_and_its_block_runs(talk):
    assert talk.take("How do I add?")
    assert "Add them" in read(talk)
    assert "a note" in read(talk)
    assert talk.take("/run")
    assert "5" in read(talk).partition("sandbox")[2]
    assert talk.take("Why?")
    asked = talk._speaker.asked[-1]
    assert [turn.role for turn in asked] == ["user", "model", "user"]
    assert "```text\n5\n```" in asked[-1].text


def test_files_lines_and_changes_are_attached_and_secrets_are_not(talk, tmp_path):
    (tmp_path / "a.py").write_text("one = 1\ntwo = 2\nthree = 3\n")
    (tmp_path / ".env").write_text("KEY=1\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "a.py"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    (tmp_path / "a.py").write_text("one = 1\ntwo = 22\nthree = 3\n")
    for line in ("/file a.py:2-3", "/diff", "/file .env", "/file a.py:9", "/file none.py", "/diff nothing"):
        assert talk.take(line)
    assert talk.take("What changed?")
    said = talk._speaker.asked[-1][-1].text
    assert "two = 22\nthree = 3" in said
    assert "+two = 22" in said
    assert "KEY" not in said
    for reason in ("looks like a file of secrets", "has 3 lines", "none.py", "names no revision"):
        assert reason in read(talk)


def test_wrong_commands_are_told_and_do_not_end_the_conversation(talk):
    for line in ("/nope", "/run", "/again", "/save", "/file"):
        assert talk.take(line)
    for reason in ("no command /nope", "no block of code", "nothing was asked", "where to?", "which file?"):
        assert reason in read(talk)
    assert not talk.take("/quit")


def test_a_conversation_is_saved_cleared_and_asked_again(talk, tmp_path):
    talk.take("One")
    talk.take("/again")
    talk.take("/save talk.md")
    assert (tmp_path / "talk.md").read_text().count("## Model") == 1
    talk.take("/save talk.md")
    assert "is there already" in read(talk)
    talk.take("/clear")
    talk.take("Two")
    assert len(talk._speaker.asked[-1]) == 1


def test_a_question_that_gets_no_answer_is_kept_and_asked_again(talk, tmp_path):
    """One fails half-way, one gets nothing; the attached file is not lost either."""
    (tmp_path / "a.py").write_text("one = 1\n")
    speaker, answer = talk._speaker, talk._speaker.answer

    def fail(turns):
        yield Said("Half an ans")
        raise ServerError("the server went away")

    speaker.answer = fail
    talk.take("/file a.py")
    assert talk.take("What is this?")
    assert "went away" in read(talk)
    assert "/again asks it anew" in read(talk)
    speaker.answer, speaker.text = answer, ""
    talk.take("/again")
    talk.take("And in short?")
    speaker.text = ANSWER
    talk.take("/again")
    [asked] = speaker.asked[-1]
    assert "one = 1" in asked.text
    assert asked.text.endswith("What is this?\n\nAnd in short?")
    talk.take("Thanks")
    assert [turn.role for turn in speaker.asked[-1]] == ["user", "model", "user"]


def test_a_model_cannot_command_the_terminal():
    hostile = "a\x1b[2J\x1b]0;owned\x07b\x9bc\rd"
    for is_terminal in (False, True):
        file = io.StringIO()
        Screen(Console(file=file, force_terminal=is_terminal, width=80)).show_answer([Said(hostile)])
        shown = file.getvalue()
        assert "\x1b[2J" not in shown
        assert "\x1b]" not in shown
        assert "\x07" not in shown
        assert "\x9b" not in shown
    assert strip_controls(hostile) == "a[2J]0;ownedbcd"


def test_finished_parts_add_up_to_the_answer():
    text = f"# One\n\n- a\n- b\n\n{ANSWER}\n\n````\n```\n\nx\n````\nend"
    shown, rest = "", ""
    for char in text:
        finished, rest = split_finished(rest + char)
        shown += finished
    assert shown + rest == text
    assert rest == "end"


def test_a_model_here_and_one_behind_a_server_answer_alike(tokenizer: Tokenizer):
    turns = [Turn("user", "How do I add?")]
    parrot = Parrot(tokenizer, SCRIPT)
    here = "".join(said.text for said in LocalSpeaker(parrot, Sampling(), 200).answer(turns))
    with serve(Parrot(tokenizer, SCRIPT)) as running:
        there = "".join(said.text for said in RemoteSpeaker(f"{running.url}/v1", None, 0.0, 200).answer(turns))
    assert here == there == ANSWER


def test_a_long_conversation_says_what_is_left_out(tokenizer: Tokenizer):
    parrot = Parrot(tokenizer, SCRIPT, max_context_tokens=300)
    turns = [Turn("user", "word " * 50), Turn("model", "answer " * 20), Turn("user", "And now?")]
    notes = [said.note for said in LocalSpeaker(parrot, Sampling(), 50).answer(turns) if said.note]
    assert notes == ["left out to fit the model's window of 300 tokens: 2 oldest turns"]


def test_the_verb_talks_in_a_terminal_with_history_and_several_lines(tokenizer: Tokenizer, tmp_path):
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "100"}
    with serve(Parrot(tokenizer, SCRIPT)) as running:
        child = pexpect.spawn(
            sys.executable, ["-m", "codegemma", "chat", running.url], env=environment, encoding="utf-8", timeout=300
        )
        child.expect("/help tells")
        child.expect("›")
        child.send("one\\\rtwo\r")  # a backslash before Enter begins another line
        child.expect("Done")
        child.send("/quit\r")
        child.expect(pexpect.EOF)
        assert running.parrot.generations
        asked = tokenizer.decode(list(running.parrot.generations[-1].prompt_ids))
    assert "one\ntwo" in asked
    assert (tmp_path / "codegemma/chat_history").read_text().count("+") >= 3


def test_a_pipe_gets_the_answer_and_nothing_else(tokenizer: Tokenizer):
    with serve(Parrot(tokenizer, SCRIPT)) as running:
        done = CliRunner().invoke(cli, ["chat", running.url, "How?"], input="some context", catch_exceptions=False)
        asked = tokenizer.decode(list(running.parrot.generations[-1].prompt_ids))
    assert done.stdout == ANSWER + "\n"
    assert "some context" in asked


def test_notes_do_not_go_into_a_pipe(capsys):
    Screen().show_answer([Said("yes"), Said("", "left out: much")])
    said = capsys.readouterr()
    assert (said.out, said.err) == ("yes\n", "left out: much\n")
