"""Mistral's protocol for filling in: `/v1/fim/completions`, as Continue, minuet and Tabby's server send it.

**In**: a prompt and a suffix.
**Out**: chat-shaped objects, whole or streamed: `choices[0].delta.content`.
**Not**: Mistral's other routes; their chat is OpenAI's.
"""

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.responses import Response

from codegemma.serve.api.door import Door, Exchange, collect, reply, reply_events
from codegemma.serve.api.fields import either, flag, listing, number, refused, text, whole
from codegemma.serve.api.openai import read_wishes, spell_finish, spell_usage
from codegemma.serve.api.prompts import make_infill
from codegemma.serve.api.why import spell_why
from codegemma.serve.asks import InfillAsk
from codegemma.serve.dialects import read_dialect

_FIELDS = {
    "model": text(),
    "prompt": text(),
    "suffix": text(),
    "max_tokens": whole(0),
    "min_tokens": refused("an answer ends where it ends", 0),
    "temperature": number(0, 100),
    "top_p": number(0, 1),
    "stop": either(text(), listing(text(), 512)),
    "random_seed": whole(0, 2**64 - 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "stream": flag(),
}
_MAX_NEW_TOKENS = 256


def shape_error(status: int, message: str) -> Mapping[str, Any]:
    """Spell an error as Mistral does."""
    return {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": status}


async def fill(exchange: Exchange) -> Response:
    """Fill in between prompt and suffix; a template of another model in the prompt is taken apart."""
    fields = exchange.fields
    wishes = read_wishes(
        {**fields, "seed": fields.get("random_seed")},
        fields.get("max_tokens", _MAX_NEW_TOKENS),
        default_temperature=0.0,
    )
    known = None if "suffix" in fields else read_dialect(fields["prompt"])
    if known is not None:
        ask = make_infill(known.prefix, known.suffix, known.path, wishes, context=known.context)
    else:
        ask = make_infill(fields["prompt"], fields.get("suffix", ""), None, wishes)
    if fields.get("stream"):
        return await reply_events(exchange.request, _stream(exchange, ask))
    answer = (await collect(exchange, exchange.service.infill(ask, exchange.caller)))[0]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "tool_calls": None, "prefix": False},
        "finish_reason": spell_finish(answer.last),
    }
    head = _begin("chat.completion", exchange.service.name_model(wishes))
    return reply({**head, "choices": [choice], "usage": spell_usage([answer.last], 1), "why": spell_why(answer.last)})


async def _stream(exchange: Exchange, ask: InfillAsk) -> AsyncGenerator[dict[str, Any], None]:
    head = _begin("chat.completion.chunk", exchange.service.name_model(ask.wishes))
    async with contextlib.aclosing(exchange.service.infill(ask, exchange.caller)) as pieces:
        async for piece in pieces:
            if not piece.text and piece.report is None:
                continue
            finish = spell_finish(piece.report) if piece.report else None
            choice = {"index": 0, "delta": {"role": "assistant", "content": piece.text}, "finish_reason": finish}
            last = {"usage": spell_usage([piece.report], 1), "why": spell_why(piece.report)} if piece.report else {}
            yield {**head, "choices": [choice], **last}


def _begin(kind: str, model: str) -> dict[str, Any]:
    return {"id": secrets.token_hex(16), "object": kind, "created": int(time.time()), "model": model}


DOORS = (
    Door(
        "POST", "/v1/fim/completions", fill, "Fill in between prompt and suffix.", shape_error, _FIELDS, ("prompt",),
        statuses=(200, 400),
    ),
)  # fmt: skip
