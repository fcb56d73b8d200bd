"""llama.cpp's own protocol: what llama.vim, llama.vscode, Continue, twinny and Tabby's server send to it.

**In**: `/infill`, `/completion`, `/tokenize`, `/detokenize`, `/apply-template`, `/health`, `/props`, `/slots`.
**Out**: the keys and types of llama.cpp's server, compared with it in the tests; what differs on purpose stands below.
**Not**: LoRA scales, grammars, embeddings, slots that a client saves or clears.

On purpose: text never becomes a control token; `prompt` is never echoed; timings are finite; an unknown model is
answered by the loaded one; identical choices are sent once; samplers that are not here are refused, but where they do
nothing. Passed over are `samplers` (the order is fixed, and `infill` would choose between ends that our stop rules
decide), `id_slot` and `cache_prompt` (a session keeps its place by itself), and when an extra was looked at (`time`).
"""

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from starlette.responses import Response

from codegemma.records import Neighbor, StopReason
from codegemma.serve.api.door import Door, Exchange, Pieces, Whole, collect, reply, reply_events
from codegemma.serve.api.fields import anything, either, flag, listing, number, refused, stay, table, text, whole
from codegemma.serve.api.prompts import FORMS, SAMPLING, make_infill, read_prompt, read_sampling, read_stop
from codegemma.serve.api.why import spell_why
from codegemma.serve.asks import InfillAsk, Piece, Report, Wishes
from codegemma.serve.chat import TURNS, make_chat_ids
from codegemma.text.chat_format import CHAT_TEMPLATE
from codegemma.text.control_tokens import BOS_ID, CONTROL_TOKENS, EOS_ID
from codegemma.text.languages import find_language

# llama.cpp's words for why an answer ended.
_STOP_TYPES = {
    StopReason.CONTROL_TOKEN: "eos",
    StopReason.STRING: "word",
    StopReason.MAX_NEW_TOKENS: "limit",
    StopReason.CONTEXT_FULL: "limit",
    StopReason.PROMPT_BUDGET: "limit",
    StopReason.NEW_BUDGET: "limit",
}
_MAX_CHOICES = 8
# Knobs of llama.cpp that are not here, at the place where they do nothing; some clients read the whole list.
_NEUTRAL_SETTINGS: Mapping[str, Any] = {
    "dynatemp_range": 0.0, "dynatemp_exponent": 1.0, "top_n_sigma": -1.0, "xtc_probability": 0.0, "xtc_threshold": 0.1,
    "typical_p": 1.0, "dry_multiplier": 0.0,
    "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": 0, "dry_sequence_breakers": [], "mirostat": 0,
    "mirostat_tau": 5.0, "mirostat_eta": 0.1, "adaptive_target": -1.0, "adaptive_decay": 0.9, "n_keep": 0,
    "n_discard": 0, "ignore_eos": False, "min_keep": 0, "grammar": "", "grammar_lazy": False, "grammar_triggers": [],
    "preserved_tokens": [], "chat_format": "Content-only", "reasoning_format": "none", "reasoning_in_content": False,
    "generation_prompt": "", "speculative.types": "none", "timings_per_token": False, "post_sampling_probs": False,
    "backend_sampling": False, "lora": [],
}  # fmt: skip
_REFUSED = (
    "dynatemp_range", "top_n_sigma", "xtc_probability", "typical_p", "dry_multiplier", "mirostat", "adaptive_target",
    "ignore_eos", "lora", "post_sampling_probs",
)  # fmt: skip
_ID = whole(0, 2**31 - 1)

_SAMPLING = {
    "n_predict": whole(-1),
    "max_tokens": whole(-1),
    **SAMPLING,
    **FORMS,
    **{name: refused("not done here", _NEUTRAL_SETTINGS[name]) for name in _REFUSED},
    "stop": either(listing(text(), 512), text()),
    "logit_bias": anything(),
    "n_probs": whole(0, 20),
    "n_indent": whole(0, 1000),
    "n_cmpl": whole(1, _MAX_CHOICES),
    "t_max_prompt_ms": number(0, 1e9),
    "t_max_predict_ms": number(0, 1e9),
    "stream": flag(),
    "cache_prompt": flag(),
    "return_tokens": flag(),
    "response_fields": listing(text(), 256),
    "samplers": listing(text(), 64),
    "id_slot": whole(-1),
    "model": text(),
}
_EXTRA = table({"text": stay(text()), "filename": text(), "time": anything()}, required=("text",))
_INFILL = _SAMPLING | {
    "input_prefix": text(),
    "input_suffix": text(),
    "prompt": text(),
    "input_extra": listing(_EXTRA, 4096),
    "path": text(),
    "language": text(),
}


def shape_error(status: int, message: str) -> Mapping[str, Any]:
    """Spell an error as llama.cpp does."""
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        503: "unavailable_error",
    }
    return {"error": {"code": status, "message": message, "type": kinds.get(status, "invalid_request_error")}}


def read_wishes(fields: Mapping[str, Any], context_tokens: int, default_temperature: float) -> Wishes:
    """Read what both completion routes share. Without a temperature, `/infill` writes the most probable."""
    asked = fields.get("n_predict", fields.get("max_tokens", -1))
    milliseconds = {name: fields.get(name, 0) / 1000 or None for name in ("t_max_prompt_ms", "t_max_predict_ms")}
    return Wishes(
        max_new_tokens=context_tokens if asked < 0 else asked,
        sampling=read_sampling(fields, default_temperature, top_k=40, top_p=0.95),
        stop=read_stop(fields),
        choices=fields.get("n_cmpl", 1),
        top_logprobs=fields.get("n_probs") or None,
        prompt_budget_s=milliseconds["t_max_prompt_ms"],
        new_budget_s=milliseconds["t_max_predict_ms"],
        least_indent=fields.get("n_indent", 0),
        model=fields.get("model", ""),
    )


async def infill(exchange: Exchange) -> Response:
    """Complete at a cursor: `prompt` is the current line up to it, whatever llama.cpp's own README says."""
    fields = exchange.fields
    extra = tuple(Neighbor(e.get("filename", ""), e["text"]) for e in fields.get("input_extra", ()))
    prefix = fields.get("input_prefix", "") + fields.get("prompt", "")
    wishes = read_wishes(fields, exchange.service.max_context_tokens, default_temperature=0.0)
    language = find_language(fields.get("language", ""))
    more = {"language": language.name} if language else {}
    ask = make_infill(prefix, fields.get("input_suffix", ""), fields.get("path"), wishes, context=extra, **more)
    return await _answer(exchange, exchange.service.infill(ask, exchange.caller), ask.wishes)


async def completion(exchange: Exchange) -> Response:
    """Continue a prompt: text, ids, or an infill prompt in any dialect."""
    wishes = read_wishes(exchange.fields, exchange.service.max_context_tokens, default_temperature=0.8)
    ask = read_prompt(exchange.service, exchange.fields["prompt"], wishes)
    if isinstance(ask, InfillAsk):
        return await _answer(exchange, exchange.service.infill(ask, exchange.caller), ask.wishes)
    return await _answer(exchange, exchange.service.plain(ask, exchange.caller), wishes)


async def _answer(exchange: Exchange, pieces: Pieces, wishes: Wishes) -> Response:
    wanted = exchange.fields.get("response_fields")
    if exchange.fields.get("stream"):
        return await reply_events(exchange.request, _stream(exchange, pieces, wishes, wanted), last=None)
    wholes = await collect(exchange, pieces, wishes.choices)
    spelled = [_pick(_spell_whole(exchange, wishes, i, answer), wanted) for i, answer in enumerate(_distinct(wholes))]
    return reply(spelled[0] if wishes.choices == 1 else spelled)


def _distinct(wholes: list[Whole]) -> list[Whole]:
    """Leave out choices that say the same as an earlier one."""
    return list({answer.text: answer for answer in reversed(wholes)}.values())[::-1]


async def _stream(
    exchange: Exchange, pieces: Pieces, wishes: Wishes, wanted: list[str] | None
) -> AsyncGenerator[Any, None]:
    written = 0
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if piece.text or piece.logprobs:
                yield _spell_piece(exchange, piece, written)
            if piece.report is not None:
                whole = Whole("", [Piece("", piece.choice, report=piece.report)])
                yield _pick(_spell_whole(exchange, wishes, piece.choice, whole), wanted)
            written += len(piece.token_ids)


def _spell_piece(exchange: Exchange, piece: Piece, predicted: int) -> dict[str, Any]:
    spelled = {
        "index": piece.choice, "content": piece.text, "tokens": list(piece.token_ids), "stop": False, "id_slot": 0,
        "tokens_predicted": predicted + len(piece.token_ids), "tokens_evaluated": 0,
    }  # fmt: skip
    if piece.logprobs:
        spelled["completion_probabilities"] = _spell_probabilities(exchange, [piece])
    return spelled


def _spell_whole(exchange: Exchange, wishes: Wishes, index: int, answer: Whole) -> dict[str, Any]:
    report = answer.last
    spelled = {
        "index": index,
        "content": answer.text,
        "tokens": [i for p in answer.pieces for i in p.token_ids] if exchange.fields.get("return_tokens") else [],
        "id_slot": 0,
        "stop": True,
        "model": report.model,
        "tokens_predicted": report.new_tokens,
        "tokens_evaluated": report.prompt_tokens,
        "generation_settings": _spell_settings(exchange, wishes),
        "prompt": "",
        "has_new_line": "\n" in answer.text,
        "truncated": bool(report.dropped),
        "stop_type": _STOP_TYPES.get(report.stop_reason, "word"),
        "stopping_word": "",
        "tokens_cached": report.prompt_tokens + report.new_tokens,
        "timings": _spell_timings(report),
        "why": spell_why(report),
    }
    if wishes.top_logprobs:
        spelled["completion_probabilities"] = _spell_probabilities(exchange, answer.pieces)
    return spelled


def _spell_timings(report: Report) -> dict[str, Any]:
    def rate(tokens: int, seconds: float) -> tuple[float, float]:
        each = seconds * 1000 / tokens if tokens else 0.0
        return round(each, 3), round(tokens / seconds, 3) if seconds > 0 else 0.0

    prompt_each, prompt_rate = rate(report.evaluated_tokens, report.prompt_s)
    new_each, new_rate = rate(report.new_tokens, report.new_s)
    return {
        "cache_n": report.cached_tokens,
        "prompt_n": report.evaluated_tokens,
        "prompt_ms": round(report.prompt_s * 1000, 3),
        "prompt_per_token_ms": prompt_each,
        "prompt_per_second": prompt_rate,
        "predicted_n": report.new_tokens,
        "predicted_ms": round(report.new_s * 1000, 3),
        "predicted_per_token_ms": new_each,
        "predicted_per_second": new_rate,
    }


def _spell_settings(exchange: Exchange, wishes: Wishes) -> dict[str, Any]:
    sampling = wishes.sampling
    return {
        **_NEUTRAL_SETTINGS,
        "seed": sampling.seed,
        "temperature": float(sampling.temperature),
        "top_k": sampling.top_k or 0,
        "top_p": 1.0 if sampling.top_p is None else float(sampling.top_p),
        "min_p": float(sampling.min_p or 0.0),
        "repeat_penalty": float(sampling.repetition_penalty),
        "presence_penalty": float(sampling.presence_penalty),
        "frequency_penalty": float(sampling.frequency_penalty),
        "repeat_last_n": -1 if sampling.penalized_tokens is None else sampling.penalized_tokens,
        "stop": list(wishes.stop.strings),
        "max_tokens": wishes.max_new_tokens,
        "n_predict": wishes.max_new_tokens,
        "stream": bool(exchange.fields.get("stream")),
        "n_probs": wishes.top_logprobs or 0,
        "samplers": exchange.fields.get("samplers", []),
        "logit_bias": [{"token": token_id, "bias": bias} for token_id, bias in sampling.logit_bias],
        "n_ctx": exchange.service.max_context_tokens,
    }


def _spell_probabilities(exchange: Exchange, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    def spell(token_id: int, logprob: float) -> dict[str, Any]:
        piece = exchange.service.tokenizer.decode_bytes([token_id])
        return {"id": token_id, "token": piece.decode("utf-8", "replace"), "bytes": list(piece), "logprob": logprob}

    return [
        {**spell(entry.token_id, entry.logprob), "top_logprobs": [spell(i, value) for i, value in entry.top]}
        for piece in pieces
        for entry in piece.logprobs
    ]


def _pick(spelled: dict[str, Any], wanted: list[str] | None) -> dict[str, Any]:
    """Keep the fields that were asked for; a nested one becomes a key of its whole name.

    >>> _pick({"content": "x", "timings": {"prompt_n": 3}}, ["timings/prompt_n", "nothing"])
    {'timings/prompt_n': 3}
    """
    if not wanted:
        return spelled
    picked = {}
    for name in wanted:
        value: Any = spelled
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            picked[name] = value
    return picked


async def tokenize(exchange: Exchange) -> Response:
    """Spell text as ids; control tokens spelled in it are parsed only where that is asked for."""
    fields, service = exchange.fields, exchange.service
    ids = service.encode(fields["content"])
    if fields.get("parse_special"):
        ids = service.encode_with_controls(fields["content"])
    if fields.get("add_special"):
        ids = [service.bos_id, *ids]
    if not fields.get("with_pieces"):
        return reply({"tokens": ids})
    return reply({"tokens": [{"id": i, "piece": _spell_token(exchange, i)} for i in ids]})


def _spell_token(exchange: Exchange, token_id: int) -> str | list[int]:
    if token_id in CONTROL_TOKENS:
        return CONTROL_TOKENS[token_id]
    piece = exchange.service.tokenizer.decode_bytes([token_id])
    try:
        decoded: str = piece.decode()
    except UnicodeDecodeError:
        return list(piece)
    return decoded


async def detokenize(exchange: Exchange) -> Response:
    """Spell ids as text; control tokens spell nothing."""
    return reply({"content": exchange.service.tokenizer.decode(exchange.fields["tokens"])})


async def apply_template(exchange: Exchange) -> Response:
    """Show the prompt that a conversation is answered from, with its control tokens spelled."""
    ids = make_chat_ids(exchange.service, exchange.fields["messages"], 1)[0]
    tokenizer = exchange.service.tokenizer
    spelled = b"".join(CONTROL_TOKENS.get(i, "").encode() or tokenizer.decode_bytes([i]) for i in ids)
    return reply({"prompt": spelled.decode("utf-8", "replace")})


async def health(exchange: Exchange) -> Response:
    """Say that all is well."""
    return reply({"status": "ok"})


async def props(exchange: Exchange) -> Response:
    """Describe the model as llama.vscode reads it."""
    service = exchange.service
    facts = service.generator.describe()
    settings = {"params": dict(_NEUTRAL_SETTINGS), "n_ctx": service.max_context_tokens}
    return reply(
        {
            "default_generation_settings": settings,
            "total_slots": facts.get("slots", 1),
            "model_alias": service.model_name,
            "model_path": service.model_name,
            "model_ftype": str(facts.get("weights", "")),
            "modalities": {"vision": False, "video": False, "audio": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "endpoint_metrics": True,
            "chat_template": CHAT_TEMPLATE,
            "bos_token": CONTROL_TOKENS[BOS_ID],
            "eos_token": CONTROL_TOKENS[EOS_ID],
            "build_info": f"codegemma {facts.get('engine', '')}",
            "is_sleeping": False,
        }
    )


async def slots(exchange: Exchange) -> Response:
    """Say how many places the engine has; prompts of others are not shown."""
    service = exchange.service
    count = int(service.generator.describe().get("slots", 1))
    running = service.running
    return reply([{"id": i, "n_ctx": service.max_context_tokens, "is_processing": i < running} for i in range(count)])


DOORS = (
    Door(
        "POST", "/infill", infill, "Complete at a cursor.", shape_error,
        _INFILL, statuses=(200, 400),
    ),
    *(
        Door(
            "POST", path, completion, "Continue a prompt.", shape_error,
            {"prompt": either(text(), listing(either(_ID, text())))} | _SAMPLING, ("prompt",), statuses=(200, 400),
        )
        for path in ("/completion", "/completions")
    ),
    Door(
        "POST", "/tokenize", tokenize, "Spell text as ids.", shape_error,
        {"content": text(), "add_special": flag(), "parse_special": flag(), "with_pieces": flag()}, ("content",),
        statuses=(200, 400),
    ),
    Door(
        "POST", "/detokenize", detokenize, "Spell ids as text.", shape_error, {"tokens": listing(_ID)}, ("tokens",),
        statuses=(200, 400),
    ),
    Door(
        "POST", "/apply-template", apply_template, "Show the prompt of a conversation.", shape_error,
        {"messages": TURNS}, ("messages",), statuses=(200, 400),
    ),
    Door("GET", "/health", health, "Say that all is well.", shape_error, is_open=True),
    Door("GET", "/props", props, "Describe the model.", shape_error),
    Door("GET", "/slots", slots, "List the engine's places.", shape_error),
)  # fmt: skip
