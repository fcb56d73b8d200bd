"""`codegemma lsp`: a model for the editor that starts it, over its standard input and output.

**In**: a model, or the address of a server; LSP on standard input.
**Out**: LSP on standard output, and nothing else there: what libraries print goes to standard error.
**Not**: what is answered (`serve/lsp.py`).
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codegemma.cli.options import engine_option, mode_option
from codegemma.errors import MissingExtraError

if TYPE_CHECKING:
    from codegemma.serve.remote_service import RemoteService
    from codegemma.serve.service import Service


@click.command(short_help="Serve a model to one editor, over a pipe.")
@click.argument("model", required=False)
@click.option("--url", metavar="URL", help="Ask a running `codegemma serve` in place of loading MODEL.")
@click.option("--api-key", envvar="CODEGEMMA_API_KEY", help="Its key, best by CODEGEMMA_API_KEY.")
@engine_option
@mode_option
@click.option("--stdio", is_flag=True, help="What editors add; there is no other way.")
def command(
    model: str | None,
    url: str | None,
    api_key: str | None,
    engine_name: str,
    mode: str | None,
    stdio: bool,  # noqa: ARG001
) -> None:
    """Serve MODEL, a model folder, a file or a hub id, by the Language Server Protocol.

    An editor starts this by itself: ghost text by textDocument/inlineCompletion (LSP 3.18), menus by
    textDocument/completion. With --url several editors share the one model of a `codegemma serve`.

    \b
    Example (what an editor runs; docs/serving.md has its settings):
      codegemma lsp my-model/model --stdio
      codegemma lsp --url http://127.0.0.1:8012 --stdio
    """
    if (model is None) == (url is None):
        raise click.UsageError("which model? Name a folder, a file or a hub id, or the --url of a server")
    try:
        from codegemma.serve.lsp import make_server
    except ImportError as error:
        raise MissingExtraError(f"serving needs {error.name}: install codegemma[serve]") from error
    from codegemma.cli.serve import open_service
    from codegemma.records import InfillMode
    from codegemma.serve.choices import ServeChoices

    choices = ServeChoices(mode=InfillMode(mode) if mode else None)

    def open_for(folder: Path | None) -> "Service | RemoteService":
        if url is not None:
            from codegemma.serve.remote_service import RemoteService

            return RemoteService(url, api_key)
        assert model is not None  # noqa: S101 - one of the two is there
        return open_service(model, engine_name, {}, folder, choices)

    server, editor = make_server(open_for)
    replies = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(replies, "wb") as stdout:
            server.start_io(stdout=stdout)
    finally:
        editor.close()
    if editor.is_loading:
        os._exit(0)  # compilers do not stop, and do not bear that Python ends under them
