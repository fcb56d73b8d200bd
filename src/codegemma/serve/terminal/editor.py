"""The line that a person types: several lines, history over sessions, commands and paths completed.

**In**: a terminal.
**Out**: one message after the other.
**Not**: what is done with them.
"""

from collections.abc import Iterable

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from codegemma.files import find_state_folder
from codegemma.serve.terminal.talk import COMMANDS


class CommandCompleter(Completer):
    """Completes commands, and paths after those that take one."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Complete what a line begins with."""
        typed = document.text_before_cursor
        word, blank, rest = typed.partition(" ")
        if blank and word in ("/file", "/save"):
            yield from self._paths.get_completions(Document(rest, len(rest)), complete_event)
        elif not blank and typed.startswith("/"):
            for name, meaning in COMMANDS.items():
                if name.startswith(typed):
                    yield Completion(name, -len(typed), display_meta=meaning)


def open_editor() -> "PromptSession[str]":
    """Make the line: Enter sends; Alt+Enter, Ctrl+J and a backslash at the end begin another line."""
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.char_before_cursor == "\\":
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def break_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return PromptSession(
        HTML("<ansicyan><b>› </b></ansicyan>"),
        multiline=True,
        key_bindings=keys,
        history=_open_history(),
        completer=CommandCompleter(),
        complete_while_typing=False,
        prompt_continuation="· ",
        bottom_toolbar=HTML("Enter sends · Alt+Enter or Ctrl+J: another line · /help"),
    )


def _open_history() -> History:
    """Keep what was typed, readable by its owner alone; where nothing can be written, for this session."""
    file = find_state_folder() / "chat_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))
