"""Shows a conversation in a terminal: Markdown with colours as it is written, notes, the output of programs.

**In**: pieces of an answer.
**Out**: what a person sees. Parts that are finished are printed once and stay; only the unfinished end is redrawn, so
that a long answer scrolls as anything else does.
**Not**: escape sequences of a model: control characters are taken out before anything is shown.
"""

import re
from collections.abc import Iterable

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.text import Text

from codegemma.sandbox.box import Ran
from codegemma.sandbox.snippets import spell_ending
from codegemma.serve.terminal.speakers import Said
from codegemma.text.markdown import split_finished

_SHOWN_LINES = 200
# What a terminal would obey rather than show: control characters but line ends and tabs, C1's among them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """A terminal; or a pipe, to which answers go as plain text, and nothing else: notes go to standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        is_pipe = console is None and not self.console.is_terminal
        self._notes = Console(stderr=True, highlight=False) if is_pipe else self.console

    def note(self, text: str) -> None:
        """Say something that is not part of the conversation."""
        self._notes.print(Text(strip_controls(text), style="dim italic"))

    def fail(self, text: str) -> None:
        """Say what went wrong."""
        self._notes.print(Text(strip_controls(text), style="red"))

    def show_answer(self, pieces: Iterable[Said]) -> str:
        """Show an answer while it is written; Ctrl+C ends it, and what is there by then counts."""
        written: list[str] = []
        notes: list[str] = []
        try:
            if self.console.is_terminal:
                self._draw(pieces, written, notes)
            else:
                self._print_plain(pieces, written, notes)
        except KeyboardInterrupt:
            notes.append("stopped")
        for note in notes:
            self.note(note)
        return "".join(written)

    def show_ran(self, ran: Ran, language: str) -> None:
        """Show what a program wrote and how it ended."""
        output = (ran.stdout + ran.stderr).decode("utf-8", "replace")
        lines = strip_controls(output).splitlines()
        if len(lines) > _SHOWN_LINES:
            lines = [*lines[:_SHOWN_LINES], f"... {len(lines) - _SHOWN_LINES} more lines"]
        ending = spell_ending(ran) or f"{ran.seconds:.2f} s"
        style = "green" if ran.exit_code == 0 else "red"
        body = Text("\n".join(lines) or "(no output)")
        self.console.print(Panel(body, title=f"{language}, in the sandbox", subtitle=ending, border_style=style))

    def _print_plain(self, pieces: Iterable[Said], written: list[str], notes: list[str]) -> None:
        for text, note in pieces:
            notes += [note] if note else []
            written.append(text)
            self.console.out(strip_controls(text), end="", highlight=False)
        self.console.out("")

    def _draw(self, pieces: Iterable[Said], written: list[str], notes: list[str]) -> None:
        rest = ""
        with Live(console=self.console, transient=True, refresh_per_second=12) as live:
            for text, note in pieces:
                notes += [note] if note else []
                written.append(text)
                finished, rest = split_finished(rest + strip_controls(text))
                if finished.strip():
                    live.console.print(Markdown(finished))
                live.update(Markdown(rest))
        if rest.strip():
            self.console.print(Markdown(rest))


def strip_controls(text: str) -> str:
    r"""Take out what a terminal would obey: a model's words may not move the cursor or set its title.

    >>> strip_controls("a\x1b[2Jb\tc\r\n")
    'a[2Jb\tc\n'
    """
    return _CONTROLS.sub("", text)
