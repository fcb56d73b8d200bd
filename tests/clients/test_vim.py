"""Debian's Vim with llama.vim in a terminal: type, see ghost text, Tab, and the file on disk is right."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients.conftest import AFTER, BEFORE, LINE, MIDDLE, TYPED, find_program

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

ROWS, COLUMNS = 40, 100
_VIMRC = """set nocompatible noswapfile nobackup viminfo= shortmess+=I
filetype on
set runtimepath^={plugin}
let g:llama_config = {{'endpoint_fim': '{url}/infill', 'auto_fim': v:true, 'show_info': 0}}
"""


class Screen(pyte.Screen):  # type: ignore[misc, name-defined]
    """pyte's screen; what Vim asks of xterm's keyboard looks like a colour to it."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class Terminal:
    """A terminal and its screen."""

    def __init__(self, *command: str, home: Path) -> None:
        environment = {**os.environ, "TERM": "xterm-256color", "HOME": str(home), "LANG": "C.UTF-8"}
        self._child = pexpect.spawn(
            command[0], list(command[1:]), dimensions=(ROWS, COLUMNS), env=environment, encoding="utf-8", timeout=30
        )
        self.screen = Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)

    def type(self, keys: str) -> None:
        """Type as a person would: one key after another."""
        for key in keys:
            self._child.send(key)
            self.look(0.05)

    def look(self, seconds: float) -> str:
        """Take in what the program writes meanwhile, and tell the screen."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                self._stream.feed(self._child.read_nonblocking(4096, timeout=0.05))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
        return "\n".join(self.screen.display)

    def wait_for(self, is_wanted: Callable[[str], bool], what: str, seconds: float = 60) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            shown = self.look(0.2)
            if is_wanted(shown):
                return shown
        raise AssertionError(f"{what} never came:\n{shown}")

    def close(self) -> None:
        self._child.close(force=True)


def test_vim_shows_ghost_text_and_tab_accepts_it(running, tmp_path):
    vim = find_program("vim")
    find_program("curl")  # which the plugin runs
    folder = os.environ.get("CODEGEMMA_TEST_LLAMA_VIM")
    if not folder:
        pytest.skip("llama.vim is not ours: CODEGEMMA_TEST_LLAMA_VIM names its folder")
    (tmp_path / "vimrc").write_text(_VIMRC.format(plugin=folder, url=running.url))
    file = tmp_path / "work.py"
    file.write_text(BEFORE)
    terminal = Terminal(vim, "-u", str(tmp_path / "vimrc"), "-i", "NONE", str(file), home=tmp_path)
    try:
        terminal.look(2)
        terminal.type("\r")  # the plugin greets Vim 9.0 with a warning
        terminal.wait_for(lambda shown: "def subtract" in shown, "the file")
        terminal.type(f"{LINE}GA{TYPED}")
        shown = terminal.wait_for(lambda shown: TYPED + MIDDLE in shown, "ghost text")
        assert TYPED + MIDDLE in shown
        assert file.read_text() == BEFORE
        terminal.type("\t")
        terminal.look(1)
        terminal.type("\x1b")
        terminal.look(0.5)
        terminal.type(":wq\r")
        terminal.look(2)
    finally:
        terminal.close()
    assert file.read_text() == AFTER
    assert running.parrot.generations
