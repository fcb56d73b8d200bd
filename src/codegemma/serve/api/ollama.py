"""Ollama's protocol: generate with a suffix, chat, and what Continue asks before it dares to fill in.

**In**: `/api/generate`, `/api/chat`, `/api/tags`, `/api/show`, `/api/version`, `/api/ps`.
**Out**: one JSON object a line, or one object.
**Not**: pulling, creating, copying, pushing and deleting models: refused, as forms of answers are. `keep_alive` and
`num_ctx` are passed over, for the model and its window are the server's; so are `template`, `system` and `context` of
`/api/generate`, which goes on from a text and knows no turns.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

import codegemma
from codegemma.records import Priority, StopReason
from codegemma.serve.api.door import Door, Exchange, Pieces, collect, reply, reply_lines
from codegemma.serve.api.fields import FieldError, anything, either, flag, listing, refused, table, text, whole
from codegemma.serve.api.prompts import SAMPLING, make_infill, read_prompt, read_sampling, read_stop
from codegemma.serve.api.why import spell_why
from codegemma.serve.asks import InfillAsk, PlainAsk, Report, Wishes
from codegemma.serve.chat import TURNS, make_chat_ids

_OPTIONS = table(
    {
        "num_predict": whole(-2),
        **SAMPLING,
        "stop": either(listing(text(), 512), text()),
        "num_ctx": whole(),
    }
)
_SHARED = {
    "model": text(),
    "stream": flag(),
    "options": _OPTIONS,
    "keep_alive": anything(),
    "format": refused("answers are not held to a form here", ""),
}
_GENERATE = _SHARED | {
    "prompt": text(), "suffix": text(), "system": text(), "template": text(), "raw": flag(),
    "context": listing(whole(0, 2**31 - 1)),
}  # fmt: skip
_CHAT = _SHARED | {"messages": TURNS}
_SHOW = {"model": text(), "name": text(), "verbose": flag()}
# What Continue looks for in a template before it sends a suffix.
_TEMPLATE = (
    "{{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>"
    "{{ else }}{{ .Prompt }}{{ end }}"
)
_DEFAULT_NEW_TOKENS = 128
_LENGTH = (StopReason.MAX_NEW_TOKENS, StopReason.CONTEXT_FULL)


def shape_error(status: int, message: str) -> Mapping[str, Any]:
    """Spell an error as Ollama does."""
    return {"error": message}


def _read_wishes(exchange: Exchange, default_temperature: float) -> Wishes:
    options = exchange.fields.get("options", {})
    asked = options.get("num_predict", _DEFAULT_NEW_TOKENS)
    return Wishes(
        max_new_tokens=exchange.service.max_context_tokens if asked < 0 else asked,
        sampling=read_sampling(options, default_temperature, top_k=40),
        stop=read_stop(options),
        model=exchange.fields.get("model", ""),
    )


async def generate(exchange: Exchange) -> Response:
    """Continue a prompt, or fill in before a suffix; without either, say that the model is loaded."""
    fields, service = exchange.fields, exchange.service
    prompt = fields.get("prompt", "")
    if not prompt and not fields.get("suffix"):
        return reply({**_begin(exchange), "response": "", "done": True, "done_reason": "load"})
    if fields.get("suffix"):
        ask: InfillAsk | PlainAsk = make_infill(prompt, fields["suffix"], None, _read_wishes(exchange, 0.0))
    else:
        ask = read_prompt(service, prompt, _read_wishes(exchange, 0.8))
    pieces = service.infill(ask, exchange.caller) if isinstance(ask, InfillAsk) else service.plain(ask, exchange.caller)
    return await _answer(exchange, pieces, lambda said: {"response": said})


async def chat(exchange: Exchange) -> Response:
    """Answer a conversation."""
    wishes = replace(_read_wishes(exchange, 0.8), priority=Priority.CHAT)
    ids, dropped = make_chat_ids(exchange.service, exchange.fields["messages"], wishes.max_new_tokens)
    pieces = exchange.service.plain(PlainAsk(ids, wishes, dropped), exchange.caller)
    return await _answer(exchange, pieces, lambda said: {"message": {"role": "assistant", "content": said}})


async def _answer(exchange: Exchange, pieces: Pieces, spell: Any) -> Response:
    started = time.perf_counter_ns()
    if exchange.fields.get("stream", True):
        return await reply_lines(exchange.request, _stream(exchange, pieces, spell, started))
    answer = (await collect(exchange, pieces))[0]
    return reply({**_begin(exchange), **spell(answer.text), **_end(answer.last, started)})


async def _stream(exchange: Exchange, pieces: Pieces, spell: Any, started: int) -> AsyncGenerator[dict[str, Any], None]:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if piece.text:
                yield {**_begin(exchange), **spell(piece.text), "done": False}
            if piece.report is not None:
                yield {**_begin(exchange), **spell(""), **_end(piece.report, started)}


def _begin(exchange: Exchange) -> dict[str, Any]:
    name = exchange.service.name_model(Wishes(model=exchange.fields.get("model", "")))
    return {"model": name, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def _end(report: Report, started: int) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "length" if report.stop_reason in _LENGTH else "stop",
        "total_duration": time.perf_counter_ns() - started,
        "load_duration": 0,
        "prompt_eval_count": report.prompt_tokens,
        "prompt_eval_duration": int(report.prompt_s * 1e9),
        "eval_count": report.new_tokens,
        "eval_duration": int(report.new_s * 1e9),
        "why": spell_why(report),
    }


async def tags(exchange: Exchange) -> Response:
    """List the model and its adapters."""
    service = exchange.service
    return reply({"models": [_describe(service.model_name), *map(_describe, service.adapters)]})


def _describe(name: str) -> dict[str, Any]:
    return {
        "name": name, "model": name, "modified_at": "1970-01-01T00:00:00Z", "size": 0, "digest": "",
        "details": {
            "parent_model": "", "format": "gguf", "family": "gemma", "families": ["gemma"], "parameter_size": "",
            "quantization_level": "",
        },
    }  # fmt: skip


async def show(exchange: Exchange) -> Response:
    """Describe the model; its template tells that it can fill in."""
    if not (exchange.fields.get("model") or exchange.fields.get("name")):
        raise FieldError("model", "is missing")
    service = exchange.service
    return reply(
        {
            "modelfile": "", "license": "", "template": _TEMPLATE,
            "parameters": f"num_ctx {service.max_context_tokens}",
            "details": _describe(service.model_name)["details"],
            "model_info": {
                "general.architecture": "gemma", "gemma.context_length": service.max_context_tokens,
                "tokenizer.ggml.model": "llama",
            },
            "capabilities": ["completion", "insert"],
        }
    )  # fmt: skip


async def version(exchange: Exchange) -> Response:
    """Tell a version."""
    return reply({"version": codegemma.__version__})


async def running(exchange: Exchange) -> Response:
    """List what is loaded."""
    return reply({"models": [_describe(exchange.service.model_name)]})


async def refuse(exchange: Exchange) -> Response:
    """Change no model: this server has the one it was started with."""
    return reply(shape_error(403, "models are not changed here: the server has the one it was started with"), 403)


DOORS = (
    Door("POST", "/api/generate", generate, "Continue or fill in.", shape_error, _GENERATE, statuses=(200, 400)),
    Door("POST", "/api/chat", chat, "Answer a conversation.", shape_error, _CHAT, ("messages",), statuses=(200, 400)),
    Door("GET", "/api/tags", tags, "List the model.", shape_error),
    Door("POST", "/api/show", show, "Describe the model.", shape_error, _SHOW, statuses=(200, 400)),
    Door("GET", "/api/version", version, "Tell a version.", shape_error),
    Door("GET", "/api/ps", running, "List what is loaded.", shape_error),
    *(
        Door("POST", f"/api/{verb}", refuse, "Refused.", shape_error, statuses=(403,))
        for verb in ("pull", "create", "push", "copy")
    ),
    Door("DELETE", "/api/delete", refuse, "Refused.", shape_error, statuses=(403,)),
)
