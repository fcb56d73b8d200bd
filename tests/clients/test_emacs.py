"""Emacs completes at point through our language server, by eglot or by lsp-mode; the file on disk is right."""

import os
import subprocess
import sys

import pytest
from tests.clients.conftest import AFTER, BEFORE, LINE, ROOT, TYPED, find_program


@pytest.mark.parametrize("client", ["eglot", "lsp-mode"])
def test_emacs_completes_at_point(client, tmp_path):
    emacs = find_program("emacs")
    has_it = subprocess.run([emacs, "--batch", "--eval", f"(require '{client})"], capture_output=True, check=False)
    if has_it.returncode:
        pytest.skip(f"this Emacs has no {client}: make setup-clients")
    file = tmp_path / "work.py"
    file.write_text(BEFORE)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
        "CODEGEMMA_CLIENT": client,
        "CODEGEMMA_SERVER": f"{sys.executable} -m tests.serve.lsp_parrot 0",
        "CODEGEMMA_FILE": str(file),
        "CODEGEMMA_LINE": str(LINE),
        "CODEGEMMA_TYPED": TYPED,
    }
    done = subprocess.run(
        [emacs, "--batch", "-l", ROOT / "tests/clients/emacs.el"],
        env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert file.read_text() == AFTER, done.stderr
