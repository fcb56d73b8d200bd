"""The web page at the server's root: its files as they lie in `serve/web/`, under a policy that lets nothing else in.

**In**: `/`, `/web/NAME` and `/web/secret-names`.
**Out**: files, for a browser that runs our scripts alone and speaks with this server alone; names that it attaches not.
**Not**: anything of anybody's: the page asks for that through the same doors as everybody, with the same key.

Nothing is built: a browser loads the modules as they are. Trusted Types make it an error to write HTML from a string,
so that what a model says can only ever become text.
"""

import functools
import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.responses import Response

from codegemma.serve.api.door import Door, Exchange, reply
from codegemma.serve.api.openai import shape_error
from codegemma.serve.secret_files import list_names

_KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}


@functools.cache
def read_page_files() -> Mapping[str, tuple[bytes, str]]:
    """Read the page's files with their kinds, by name: what a client names is looked up and never opened."""
    folder = resources.files("codegemma.serve").joinpath("web")
    kinds = {file: _KINDS.get(file.name.rpartition(".")[2]) for file in folder.iterdir() if file.is_file()}
    return {file.name: (file.read_bytes(), f"{kind}; charset=utf-8") for file, kind in kinds.items() if kind}


def show_file(exchange: Exchange, name: str) -> Response:
    """Reply with a file, or say that it is known already."""
    found = read_page_files().get(name)
    if found is None:
        return Response(f"the page has no file {name}", 404, media_type="text/plain")
    content, kind = found
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**_HEADERS, "ETag": tag}
    if exchange.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "Content-Type": kind})


async def page(exchange: Exchange) -> Response:
    """Show the page."""
    return show_file(exchange, "index.html")


async def page_file(exchange: Exchange) -> Response:
    """Show one of the page's files."""
    return show_file(exchange, exchange.request.path_params["name"])


async def secret_names(exchange: Exchange) -> Response:
    """List the names of files that the page does not attach; what is quoted in messages is looked at in any case."""
    return reply(list_names())


DOORS = (
    Door("GET", "/", page, "The page: chat and tutor.", shape_error, is_open=True, needs_model=False),
    Door(
        "GET", "/web/secret-names", secret_names, "Names of files that are never attached.", shape_error, is_open=True,
        needs_model=False,
    ),
    Door(
        "GET", "/web/{name}", page_file, "A file of the page.", shape_error, is_open=True, needs_model=False,
        statuses=(200, 404),
    ),
)  # fmt: skip
