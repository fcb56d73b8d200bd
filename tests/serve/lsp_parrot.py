"""A language server with a parrot behind it, as a program: clients start it like any other."""

import sys
from pathlib import Path

from tests.serve.conftest import SOURCE
from tests.serve.parrot import Parrot

from codegemma.serve.choices import ServeChoices
from codegemma.serve.context import ContextSource
from codegemma.serve.lsp import make_server
from codegemma.serve.service import Service
from codegemma.serve.workspace import Workspace
from codegemma.text.tokenizer import train_tokenizer


def open_service(folder: Path | None) -> Service:
    workspace = Workspace(folder) if folder is not None else None
    parrot = Parrot(train_tokenizer([SOURCE] * 9, vocab_size=480), SOURCE, step_s=float(sys.argv[1]))
    return Service(parrot, ServeChoices(prepares_next=False), ContextSource(workspace))


if __name__ == "__main__":
    server, editor = make_server(open_service, retained_after_s=0.05)
    server.start_io()
    editor.close()
