"""Tabby's protocol, as its agent speaks it: segments, events, and settings that switch its telemetry off.

**In**: `/v1/completions` with `segments`, `/v1/events`, `/v1/health`, `/v1beta/server_setting`, `/v1beta/models`.
**Out**: Tabby's objects.
**Not**: users, index and administration of a Tabby server. `clipboard`, `git_url`, `edit_history` and `mode` are passed
over: training has no such text beside a file.
"""

from typing import Any

from starlette.responses import Response

import codegemma
from codegemma.records import Neighbor
from codegemma.serve.api.door import Door, Exchange, collect, reply
from codegemma.serve.api.fields import FieldError, anything, listing, number, stay, table, text, whole
from codegemma.serve.api.openai import CHAT, chat, shape_error
from codegemma.serve.api.prompts import make_infill, read_sampling, read_stop
from codegemma.serve.api.why import spell_why
from codegemma.serve.asks import Wishes
from codegemma.text.languages import find_language

_SNIPPETS = listing(table({"filepath": text(), "body": stay(text()), "score": number(-1e9, 1e9)}, ("body",)), 256)
_MAX_NEW_TOKENS = 64
SEGMENTS = table(
    {
        "prefix": text(), "suffix": text(), "filepath": text(), "git_url": text(), "clipboard": text(),
        "declarations": _SNIPPETS,
        "relevant_snippets_from_changed_files": _SNIPPETS,
        "relevant_snippets_from_recently_opened_files": _SNIPPETS,
        "edit_history": anything(),
    }
)  # fmt: skip
FIELDS = {
    "language": text(),
    "segments": SEGMENTS,
    "mode": text(),
    "debug_options": table({"raw_prompt": text()}),
}
# The nearest to the cursor is the most useful: declarations of what is used there.
_SOURCES = ("relevant_snippets_from_recently_opened_files", "relevant_snippets_from_changed_files", "declarations")
# The last is ours: what stood half a minute after it was accepted.
_EVENTS = {"view": "shown", "select": "accepted", "dismiss": "dismissed", "retained": "retained"}


async def completions(exchange: Exchange) -> Response:
    """Complete at a cursor."""
    fields = exchange.fields
    segments: dict[str, Any] = fields.get("segments") or {}
    prefix = segments.get("prefix", fields.get("debug_options", {}).get("raw_prompt"))
    if prefix is None:
        raise FieldError("segments.prefix", "is missing")
    context = tuple(
        Neighbor(snippet.get("filepath", ""), snippet["body"])
        for source in _SOURCES
        for snippet in reversed(segments.get(source, ()))
    )
    language = find_language(fields.get("language", ""))
    wishes = Wishes(
        max_new_tokens=fields.get("max_tokens", _MAX_NEW_TOKENS),
        sampling=read_sampling(fields, 0.0),
        stop=read_stop(fields),
        model=fields.get("model", ""),
    )
    more = {"language": language.name} if language else {}
    ask = make_infill(prefix, segments.get("suffix", ""), segments.get("filepath"), wishes, context=context, **more)
    answer = (await collect(exchange, exchange.service.infill(ask, exchange.caller)))[0]
    return reply(
        {
            "id": f"cmpl-{answer.last.answer_id}",
            "choices": [{"index": 0, "text": answer.text}],
            "mode": "standard",
            "why": spell_why(answer.last),
        }
    )


async def events(exchange: Exchange) -> Response:
    """Count what an editor did with a completion; nothing leaves the machine."""
    kind = _EVENTS.get(exchange.fields["type"])
    if kind is not None:
        answer_id = exchange.fields.get("completion_id", "").removeprefix("cmpl-")
        exchange.service.metrics.count_event(kind, answer_id, exchange.fields.get("characters"))
    return Response(status_code=200)


async def health(exchange: Exchange) -> Response:
    """Say that all is well, for Tabby's agent and for clients of llama.cpp."""
    service = exchange.service
    return reply(
        {
            "status": "ok",
            "model": service.model_name,
            "chat_model": service.model_name,
            "device": str(service.generator.describe().get("engine", "")),
            "arch": "",
            "cpu_info": "",
            "cpu_count": 0,
            "version": {
                "build_date": "", "build_timestamp": "", "git_sha": "", "git_describe": f"v{codegemma.__version__}",
            },
        }
    )  # fmt: skip


async def server_setting(exchange: Exchange) -> Response:
    """Tell the agent to send no telemetry."""
    return reply({"disable_client_side_telemetry": True})


async def models(exchange: Exchange) -> Response:
    """List the model for both uses."""
    name = exchange.service.model_name
    return reply({"completion": [name], "chat": [name], "embedding": []})


_EVENT = {
    "type": text(), "completion_id": text(), "choice_index": whole(), "view_id": text(), "elapsed": whole(),
    "characters": whole(),  # ours: how many were accepted so far, or stood later
}  # fmt: skip

DOORS = (
    Door("POST", "/v1/events", events, "Count what an editor did.", shape_error, _EVENT, ("type",), False, (200, 400)),
    Door("GET", "/v1/health", health, "Say that all is well.", shape_error, is_open=True),
    Door("POST", "/v1/health", health, "Say that all is well.", shape_error, is_open=True),
    Door("GET", "/v1beta/server_setting", server_setting, "Switch the agent's telemetry off.", shape_error),
    Door("GET", "/v1beta/models", models, "List the model.", shape_error),
    Door(
        "POST", "/v1beta/chat/completions", chat, "Answer a conversation.", shape_error, CHAT, ("messages",),
        statuses=(200, 400),
    ),
)  # fmt: skip
