"""OpenAI's protocol: completions with a suffix, chat, models; what openai-python and most plugins speak.

**In**: `/v1/completions`, `/v1/chat/completions`, `/v1/models`, with llama.cpp's extras where editors send them.
**Out**: OpenAI's objects, whole or streamed. Ours alone is `why`, in the last object.
**Not**: tools and pictures, which are passed over; forms of answers, which are refused. Penalties count the end of the
prompt too, as llama.cpp's do.

A `suffix`, though it be empty, asks for what stands between: the prompt is spelled here, whatever the model. So is a
prompt that a plugin spelled by a template of any model. An unknown model is answered by the one that is loaded.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from codegemma.records import Priority, StopReason, TokenLogprob
from codegemma.serve.api.door import Door, Exchange, Pieces, Whole, collect, reply, reply_events
from codegemma.serve.api.fields import FieldError, anything, either, flag, listing, number, table, text, whole
from codegemma.serve.api.prompts import FORMS, SAMPLING, make_infill, read_prompt, read_sampling, read_stop
from codegemma.serve.api.why import spell_why
from codegemma.serve.asks import InfillAsk, PlainAsk, Report, Wishes
from codegemma.serve.chat import TURNS, make_chat_ids

_MAX_CHOICES = 8
_MAX_PROMPTS = 16
_LENGTH = (StopReason.MAX_NEW_TOKENS, StopReason.CONTEXT_FULL, StopReason.PROMPT_BUDGET, StopReason.NEW_BUDGET)
_ID = whole(0, 2**31 - 1)
_SHARED = {
    "model": text(),
    "max_tokens": whole(0),
    **SAMPLING,
    **FORMS,
    "n": whole(1, _MAX_CHOICES),
    "stream": flag(),
    "stream_options": table({"include_usage": flag()}),
    "stop": either(text(), listing(text(), 512)),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "logit_bias": table({}),
    "user": text(),
    "n_predict": whole(-1),
}
COMPLETION = _SHARED | {
    "prompt": either(text(), listing(_ID), listing(either(text(), listing(_ID)), _MAX_PROMPTS)),
    "suffix": text(),
    "best_of": whole(1, _MAX_CHOICES),  # more than `n` are not written
    "logprobs": whole(0, 20),
    "echo": flag(),
}
CHAT = _SHARED | {
    "messages": TURNS,
    "max_completion_tokens": whole(0),
    "logprobs": flag(),
    "top_logprobs": whole(0, 20),
    "tools": listing(anything(), 512),
}


def shape_error(status: int, message: str) -> Mapping[str, Any]:
    """Spell an error as OpenAI does."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "unavailable_error"}
    return {
        "error": {
            "message": message, "type": kinds.get(status, "invalid_request_error"), "param": None,
            "code": {401: "invalid_api_key"}.get(status),
        }
    }  # fmt: skip


def read_wishes(fields: Mapping[str, Any], max_new_tokens: int, default_temperature: float) -> Wishes:
    """Read how an answer is to be written."""
    return Wishes(
        max_new_tokens=max_new_tokens,
        sampling=read_sampling(fields, default_temperature),
        stop=read_stop(fields),
        choices=fields.get("n", 1),
        model=fields.get("model", ""),
    )


async def completions(exchange: Exchange) -> Response:
    """Continue prompts, or fill in before a suffix."""
    fields = exchange.fields
    if "prompt" not in fields:
        raise FieldError("prompt", "is missing")
    if fields.get("best_of", 1) > max(fields.get("n", 1), 1):
        raise FieldError("best_of", "is more than n; all that is written is told, so ask for n")
    most = fields.get("max_tokens", fields.get("n_predict", 16))
    most = exchange.service.max_context_tokens if most < 0 else most
    wishes = read_wishes(fields, most, default_temperature=1.0)
    wishes = replace(wishes, top_logprobs=fields.get("logprobs"))
    asks = [_read_ask(exchange, prompt, wishes) for prompt in _list_prompts(fields["prompt"])]
    if fields.get("stream"):
        return await reply_events(exchange.request, _stream_completions(exchange, asks))
    answers = await asyncio.gather(*(collect(exchange, _ask(exchange, ask), wishes.choices) for ask in asks))
    choices = [
        _spell_choice(exchange, place * wishes.choices + i, ask, answer)
        for place, (ask, wholes) in enumerate(zip(asks, answers, strict=True))
        for i, answer in enumerate(wholes)
    ]
    reports = [answer.last for wholes in answers for answer in wholes]
    spelled = _begin("cmpl", "text_completion", exchange.service.name_model(wishes))
    return reply(
        {**spelled, "choices": choices, "usage": spell_usage(reports, wishes.choices), "why": spell_why(reports[0])}
    )


def _list_prompts(prompt: Any) -> list[Any]:
    if isinstance(prompt, str) or not prompt or isinstance(prompt[0], int):
        return [prompt]
    return list(prompt)


def _read_ask(exchange: Exchange, prompt: Any, wishes: Wishes) -> InfillAsk | PlainAsk:
    if "suffix" not in exchange.fields:
        return read_prompt(exchange.service, prompt, wishes)
    if not isinstance(prompt, str):
        prompt = exchange.service.tokenizer.decode(prompt)
    return make_infill(prompt, exchange.fields["suffix"], None, wishes)


def _ask(exchange: Exchange, ask: InfillAsk | PlainAsk) -> Pieces:
    if isinstance(ask, InfillAsk):
        return exchange.service.infill(ask, exchange.caller)
    return exchange.service.plain(ask, exchange.caller)


def _spell_choice(exchange: Exchange, index: int, ask: InfillAsk | PlainAsk, answer: Whole) -> dict[str, Any]:
    logprobs = [entry for piece in answer.pieces for entry in piece.logprobs]
    return {
        "text": _echo(exchange, ask) + answer.text,
        "index": index,
        "logprobs": _spell_logprobs(exchange, logprobs) if "logprobs" in exchange.fields else None,
        "finish_reason": spell_finish(answer.last),
    }


def _echo(exchange: Exchange, ask: InfillAsk | PlainAsk) -> str:
    if not exchange.fields.get("echo"):
        return ""
    prompt: str = ask.prefix if isinstance(ask, InfillAsk) else exchange.service.tokenizer.decode(ask.prompt_ids)
    return prompt


def _spell_logprobs(exchange: Exchange, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    offsets, offset = [], 0
    for entry in entries:
        offsets.append(offset)
        offset += len(_spell_token(exchange, entry.token_id))
    return {
        "tokens": [_spell_token(exchange, e.token_id) for e in entries],
        "token_logprobs": [e.logprob for e in entries],
        "top_logprobs": [{_spell_token(exchange, i): value for i, value in e.top} for e in entries],
        "text_offset": offsets,
    }


def _spell_token(exchange: Exchange, token_id: int) -> str:
    return str(exchange.service.tokenizer.decode_bytes([token_id]).decode("utf-8", "replace"))


async def _stream_completions(
    exchange: Exchange, asks: Sequence[InfillAsk | PlainAsk]
) -> AsyncGenerator[dict[str, Any], None]:
    choices = asks[0].wishes.choices
    head = _begin("cmpl", "text_completion", exchange.service.name_model(asks[0].wishes))
    reports: list[Report] = []
    for place, ask in enumerate(asks):
        echo = dict.fromkeys(range(choices), _echo(exchange, ask))
        async with contextlib.aclosing(_ask(exchange, ask)) as pieces:
            async for piece in pieces:
                choice = {
                    "text": echo.pop(piece.choice, "") + piece.text,
                    "index": place * choices + piece.choice,
                    "logprobs": _spell_logprobs(exchange, piece.logprobs) if "logprobs" in exchange.fields else None,
                    "finish_reason": spell_finish(piece.report) if piece.report else None,
                }
                if piece.report is not None:
                    reports.append(piece.report)
                if choice["text"] or piece.logprobs or piece.report is not None:
                    yield {**head, "choices": [choice], **({"why": spell_why(piece.report)} if piece.report else {})}
    if exchange.fields.get("stream_options", {}).get("include_usage"):
        yield {**head, "choices": [], "usage": spell_usage(reports, choices)}


async def chat(exchange: Exchange) -> Response:
    """Answer a conversation."""
    fields = exchange.fields
    service = exchange.service
    most = fields.get("max_completion_tokens", fields.get("max_tokens", fields.get("n_predict", -1)))
    most = service.max_context_tokens if most < 0 else most
    wishes = read_wishes(fields, most, default_temperature=0.7)
    if fields.get("logprobs"):
        wishes = replace(wishes, top_logprobs=fields.get("top_logprobs", 0))
    elif fields.get("top_logprobs"):
        raise FieldError("top_logprobs", "is told with logprobs true alone")
    ids, dropped = make_chat_ids(service, fields["messages"], most)
    ask = PlainAsk(ids, replace(wishes, priority=Priority.CHAT), dropped)
    if fields.get("stream"):
        return await reply_events(exchange.request, _stream_chat(exchange, ask))
    wholes = await collect(exchange, service.plain(ask, exchange.caller), wishes.choices)
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": _spell_chat_logprobs(exchange, [e for p in answer.pieces for e in p.logprobs]),
            "finish_reason": spell_finish(answer.last),
        }
        for i, answer in enumerate(wholes)
    ]
    reports = [answer.last for answer in wholes]
    head = _begin("chatcmpl", "chat.completion", service.name_model(wishes))
    return reply(
        {**head, "choices": choices, "usage": spell_usage(reports, wishes.choices), "why": spell_why(reports[0])}
    )


async def _stream_chat(exchange: Exchange, ask: PlainAsk) -> AsyncGenerator[dict[str, Any], None]:
    head = _begin("chatcmpl", "chat.completion.chunk", exchange.service.name_model(ask.wishes))

    def spell(index: int, delta: dict[str, Any], finish: str | None, logprobs: Any = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]}

    begun: set[int] = set()
    reports: list[Report] = []
    async with contextlib.aclosing(exchange.service.plain(ask, exchange.caller)) as pieces:
        async for piece in pieces:
            if piece.choice not in begun:
                begun.add(piece.choice)
                yield spell(piece.choice, {"role": "assistant", "content": ""}, None)
            if piece.text or piece.logprobs:
                logprobs = _spell_chat_logprobs(exchange, piece.logprobs)
                yield spell(piece.choice, {"content": piece.text}, None, logprobs)
            if piece.report is not None:
                reports.append(piece.report)
                yield {**spell(piece.choice, {}, spell_finish(piece.report)), "why": spell_why(piece.report)}
    if exchange.fields.get("stream_options", {}).get("include_usage"):
        yield {**head, "choices": [], "usage": spell_usage(reports, ask.wishes.choices)}


def _spell_chat_logprobs(exchange: Exchange, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not exchange.fields.get("logprobs"):
        return None

    def spell(token_id: int, logprob: float) -> dict[str, Any]:
        piece = exchange.service.tokenizer.decode_bytes([token_id])
        return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}

    return {
        "content": [
            {**spell(e.token_id, e.logprob), "top_logprobs": [spell(i, value) for i, value in e.top]} for e in entries
        ],
        "refusal": None,
    }


def _begin(prefix: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model}


def spell_finish(report: Report) -> str:
    """Say why an answer ended, in OpenAI's two words."""
    return "length" if report.stop_reason in _LENGTH else "stop"


def spell_usage(reports: Sequence[Report], choices: int) -> dict[str, Any]:
    """Count tokens; choices of one prompt share its reading."""
    prompt = sum(report.prompt_tokens for report in reports[::choices])
    cached = sum(report.cached_tokens for report in reports[::choices])
    new = sum(report.new_tokens for report in reports)
    return {
        "prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip


def list_models(exchange: Exchange) -> list[dict[str, Any]]:
    """List the model and its adapters."""
    service = exchange.service
    window = service.max_context_tokens
    return [
        {
            "id": name, "object": "model", "created": 0, "owned_by": "llamacpp", "max_model_len": window,
            "meta": {"n_ctx": window, "n_ctx_train": window, "n_vocab": service.tokenizer.vocab_size},
        }
        for name in (service.model_name, *service.adapters)
    ]  # fmt: skip


async def models(exchange: Exchange) -> Response:
    """List what can be asked for."""
    return reply({"object": "list", "data": list_models(exchange)})


async def model(exchange: Exchange) -> Response:
    """Describe one model; of an unknown one, the one that would answer."""
    wanted = exchange.request.path_params["name"]
    listed = list_models(exchange)
    return reply(next((entry for entry in listed if entry["id"] == wanted), listed[0]))


DOORS = (
    Door(
        "POST",
        "/v1/chat/completions",
        chat,
        "Answer a conversation.",
        shape_error,
        CHAT,
        ("messages",),
        statuses=(200, 400),
    ),
    Door("GET", "/v1/models", models, "List what can be asked for.", shape_error),
    Door("GET", "/v1/models/{name:path}", model, "Describe one model.", shape_error),
)
