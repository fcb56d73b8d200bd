"""One line of a terminal's conversation after the other: a message that is answered, or a command that is done.

**In**: lines; who answers; a place for programs to run.
**Out**: what `Screen` shows; whether to go on.
**Not**: how lines are edited (`editor.py`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from codegemma.errors import InputError, OutputError, UserError
from codegemma.files import write_whole
from codegemma.records import Turn
from codegemma.sandbox.box import Sandbox
from codegemma.sandbox.snippets import run_snippet
from codegemma.serve.terminal.attachments import attach_diff, attach_file, quote
from codegemma.serve.terminal.conversation import Conversation
from codegemma.serve.terminal.screen import Screen
from codegemma.serve.terminal.speakers import Speaker

COMMANDS: Mapping[str, str] = {
    "/file": "PATH[:FIRST-LAST]  attach a file, or lines of it, to the next message",
    "/diff": "[REVISION]  attach what changed since HEAD, or another revision",
    "/run": "[N]  run block N of the last answer, its last by default, in the sandbox; attach the output",
    "/again": "have the last question answered anew, or one that got no answer",
    "/clear": "begin a new conversation",
    "/save": "PATH  write the conversation as Markdown",
    "/help": "say this",
    "/quit": "leave; so does Ctrl+D",
}


class Talk:
    """A conversation and what can be done in it."""

    def __init__(
        self, speaker: Speaker, screen: Screen, open_sandbox: Callable[[], Sandbox], folder: Path, system: str = ""
    ) -> None:
        self.conversation, self._speaker, self._screen = Conversation(system), speaker, screen
        self._open_sandbox, self._folder = open_sandbox, folder
        self._sandbox: Sandbox | None = None

    def take(self, line: str) -> bool:
        """Answer a message or do a command; false when the person wants to leave. No error ends the conversation."""
        if not line.strip():
            return True
        word, _, argument = line.strip().partition(" ")
        try:
            if word == "/quit":
                return False
            if word.startswith("/") and "/" not in word[1:] and "\n" not in word:
                self._do(word, argument.strip())
            else:
                self._answer(self.conversation.ask(line.strip()))
        except UserError as error:
            self._screen.fail(str(error))
            self._offer_again()
        return True

    def answer_once(self, message: str) -> None:
        """Answer one message and let errors through, for a caller whose exit code tells.

        Raises:
            UserError: nobody answers.
        """
        self._answer(self.conversation.ask(message))

    def close(self) -> None:
        """Let go of the sandbox."""
        if self._sandbox is not None:
            self._sandbox.close()

    def _answer(self, turns: list[Turn]) -> None:
        text = self._screen.show_answer(self._speaker.answer(turns))
        self.conversation.take_answer(text)
        if not text.strip():
            self._screen.note("the model says nothing")
            self._offer_again()

    def _offer_again(self) -> None:
        if self.conversation.has_question:
            self._screen.note("your question is kept: /again asks it anew, and what you say next goes with it")

    def _do(self, command: str, argument: str) -> None:
        conversation = self.conversation
        if command == "/help":
            for name, meaning in COMMANDS.items():
                self._screen.note(f"{name} {meaning}")
        elif command in ("/file", "/diff"):
            attach = attach_file if command == "/file" else attach_diff
            if command == "/file" and not argument:
                raise InputError("which file? /file PATH, or /file PATH:10-20")
            text = attach(argument, self._folder)
            conversation.attached.append(text)
            self._screen.note(f"attached to the next message: {len(text):,} characters")
        elif command == "/run":
            self._run(argument)
        elif command == "/again":
            self._answer(conversation.ask_again())
        elif command == "/clear":
            conversation.clear()
            self._screen.note("a new conversation")
        elif command == "/save":
            self._save(argument)
        else:
            raise InputError(f"no command {command}; known: {', '.join(COMMANDS)}")

    def _run(self, number: str) -> None:
        block = self.conversation.find_block(number)
        if self._sandbox is None:
            self._sandbox = self._open_sandbox()
        ran = run_snippet(self._sandbox, block.code, block.language)
        self._screen.show_ran(ran, block.language)
        output = (ran.stdout + ran.stderr).decode("utf-8", "replace")[:20_000]
        self.conversation.attached.append(quote(output, "output", "text"))
        self._screen.note("the output goes with the next message")

    def _save(self, argument: str) -> None:
        if not argument:
            raise InputError("where to? /save PATH")
        path = self._folder / argument
        if path.exists():
            raise OutputError(f"{path} is there already; name another file")
        try:
            write_whole(path, self.conversation.spell().encode("utf-8", "replace"))
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror})") from error
        self._screen.note(f"written to {path}")
