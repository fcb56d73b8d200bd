"""All doors of the server, and the few paths that two protocols share.

**In**: the doors of each protocol.
**Out**: `DOORS`, one for each method and path.
**Not**: what a door does.
"""

from starlette.responses import HTMLResponse, Response

from codegemma.serve.api import llama_cpp, mistral, ollama, openai, pages, run, tabby, tgi, tutor
from codegemma.serve.api.door import Door, Exchange, reply
from codegemma.serve.api.openapi import describe_doors
from codegemma.serve.status import render_status


async def complete(exchange: Exchange) -> Response:
    """Dispatch by the body: Tabby's has segments or debug options, all else is OpenAI's."""
    is_tabby = "segments" in exchange.fields or "debug_options" in exchange.fields
    return await (tabby.completions(exchange) if is_tabby else openai.completions(exchange))


async def metrics(exchange: Exchange) -> Response:
    """Tell Prometheus the counters."""
    return Response(exchange.service.metrics.render(), media_type="text/plain; version=0.0.4")


async def status(exchange: Exchange) -> Response:
    """Show people how the server does."""
    return HTMLResponse(render_status(exchange.service))


async def document(exchange: Exchange) -> Response:
    """Describe all doors to programs."""
    return reply(describe_doors(DOORS))


DOORS = (
    Door(
        "POST", "/v1/completions", complete, "Continue, or fill in: OpenAI's body or Tabby's.", openai.shape_error,
        openai.COMPLETION | tabby.FIELDS, statuses=(200, 400),
    ),
    *llama_cpp.DOORS,
    *openai.DOORS,
    *mistral.DOORS,
    *ollama.DOORS,
    *tabby.DOORS,
    *tgi.DOORS,
    Door("GET", "/metrics", metrics, "Tell Prometheus the counters.", openai.shape_error),
    *run.DOORS,
    *tutor.DOORS,
    *pages.DOORS,
    Door("GET", "/status", status, "Show people how the server does.", openai.shape_error),
    Door("GET", "/openapi.json", document, "Describe all doors.", openai.shape_error),
)  # fmt: skip
