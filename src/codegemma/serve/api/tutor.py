"""The tutor over HTTP: exercises, attempts, hints, explanations, corrections, questions, progress.

**In**: `/v1/tutor` and below it.
**Out**: JSON; an answer to a question is streamed as OpenAI's chat is, after the facts that were computed.
**Not**: what a tutor knows (`tutor/`).
"""

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Any

from starlette.responses import Response

from codegemma.records import Priority, Sampling, Turn
from codegemma.sandbox.snippets import list_runnable
from codegemma.serve.api.door import Door, Exchange, reply, reply_events, wait_while_there
from codegemma.serve.api.fields import FieldError, Schema, text, whole
from codegemma.serve.api.openai import shape_error
from codegemma.serve.asks import PlainAsk, Wishes
from codegemma.serve.attached import refuse_secret, refuse_secrets
from codegemma.serve.bench import BusyError
from codegemma.serve.chat import TURNS, make_chat_ids, merge_turns, read_content
from codegemma.serve.tutor.exercises import KINDS, Case, Exercise
from codegemma.serve.tutor.explain import explain_diff, explain_error, explain_line
from codegemma.serve.tutor.mistakes import correct_syntax
from codegemma.text.markdown import fence

_ANSWER_TOKENS = 512
_TEMPERATURE = 0.3
_ROLES = {"system": "system", "user": "user", "model": "assistant"}


async def describe(exchange: Exchange) -> Response:
    """Tell what there is and what is allowed."""
    service = exchange.service
    runnable = list(list_runnable()) if service.bench.is_on and service.tutor.policy.may_run else []
    return reply({**service.tutor.describe(), "runnable": runnable})


async def exercise(exchange: Exchange) -> Response:
    """Make an exercise, or that of a name again."""
    fields, tutor = exchange.fields, exchange.service.tutor
    if "exercise" in fields:
        return reply(_spell(tutor.find_exercise(fields["exercise"])))
    made = tutor.choose_exercise(
        fields.get("kind", KINDS[0]), fields.get("level", ""), fields.get("topic", ""), fields.get("seed")
    )
    return reply(_spell(made))


def _spell(made: Exercise) -> dict[str, Any]:
    return {
        "exercise": made.name, "kind": made.kind, "level": made.level, "topic": made.topic,
        "statement": made.statement, "starter": made.starter,
        "examples": [_spell_case(made, case) for case in made.examples], "hidden_cases": len(made.cases),
    }  # fmt: skip


def _spell_case(made: Exercise, case: Case) -> dict[str, str]:
    return {"call": f"{made.function}({case.given!r})", "expected": repr(case.expected)}


async def attempt(exchange: Exchange) -> Response:
    """Judge an attempt by hidden tests."""
    fields, owner = exchange.fields, exchange.caller.owner
    work = exchange.service.tutor.attempt(owner, fields["exercise"], fields["code"])
    judged = await _do(exchange, work)
    return judged if isinstance(judged, Response) else reply(dataclasses.asdict(judged))


async def hint(exchange: Exchange) -> Response:
    """Give the next hint that the policy allows."""
    given = exchange.service.tutor.hint(exchange.caller.owner, exchange.fields["exercise"])
    return reply({"rung": given.rung.label if given.rung else None, "text": given.text, "code": given.code})


async def correct(exchange: Exchange) -> Response:
    """Find mistakes of syntax and repair them, with reasons."""
    fields = exchange.fields
    found = await asyncio.to_thread(correct_syntax, fields["code"], fields.get("language", "python"))
    return reply({"mistakes": [dataclasses.asdict(m) for m in found.mistakes], "text": found.text})


async def explain(exchange: Exchange) -> Response:
    """Explain a line, an error message or a diff by computing."""
    fields = exchange.fields
    if "diff" in fields:
        facts = await asyncio.to_thread(explain_diff, fields["diff"])
    elif "error" in fields:
        facts = explain_error(fields["error"], fields.get("code", ""))
    elif "code" in fields and "line" in fields:
        facts = await asyncio.to_thread(explain_line, fields["code"], fields["line"])
    else:
        raise FieldError("", "nothing to explain; wanted code and line, or error, or diff")
    return reply({"facts": facts})


async def progress(exchange: Exchange) -> Response:
    """Tell what this caller did here; no code is kept."""
    return reply(exchange.service.tutor.ledger.report(exchange.caller.owner))


async def ask(exchange: Exchange) -> Response:
    """Answer a question as a tutor: computed facts first, then the model, under the policy."""
    fields = exchange.fields
    tutor = exchange.service.tutor
    # Once events flow, nothing can be refused.
    tutor.check_name(fields.get("exercise", ""))
    refuse_secrets(fields["messages"], read_content)
    for name in ("code", "error"):
        refuse_secret((f"your {name}",), fields.get(name, ""))
    facts = await asyncio.to_thread(tutor.compute_facts, fields.get("code", ""), fields.get("error", ""))
    return await reply_events(exchange.request, _stream(exchange, facts))


async def _stream(exchange: Exchange, facts: Sequence[str]) -> AsyncGenerator[dict[str, Any], None]:
    fields, tutor = exchange.fields, exchange.service.tutor
    head = {"id": f"tutor-{secrets.token_hex(8)}", "object": "chat.completion.chunk", "created": int(time.time())}
    yield {**head, "facts": list(facts), "choices": []}
    turns = merge_turns(fields["messages"])
    if fields.get("code"):
        turns[-1] = Turn("user", f"{turns[-1].text}\n\nMy code:\n{fence(fields['code'], 'python')}")
    if facts:
        turns[-1] = Turn("user", f"{turns[-1].text}\n\nWhat was found: {'; '.join(facts)}")
    dropped: list[str] = []
    owner, name = exchange.caller.owner, fields.get("exercise", "")
    parts = tutor.answer(owner, name, turns, lambda t: _write(exchange, t, dropped))
    has_said = False
    async with contextlib.aclosing(parts):
        async for part in parts:
            has_said = has_said or bool(part.strip())
            yield {**head, "choices": [{"index": 0, "delta": {"content": part}, "finish_reason": None}]}
    finish = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield {**head, "choices": [finish], "is_empty": not has_said, "why": {"dropped": dropped}}


async def _write(exchange: Exchange, turns: Sequence[Turn], told_dropped: list[str]) -> AsyncGenerator[str, None]:
    service = exchange.service
    messages = [{"role": _ROLES[turn.role], "content": turn.text} for turn in turns]
    ids, dropped = make_chat_ids(service, messages, _ANSWER_TOKENS)
    told_dropped += dropped
    wishes = Wishes(max_new_tokens=_ANSWER_TOKENS, sampling=Sampling(temperature=_TEMPERATURE), priority=Priority.CHAT)
    async with contextlib.aclosing(service.write_unchecked(PlainAsk(ids, wishes, dropped), exchange.caller)) as pieces:
        async for piece in pieces:
            yield piece.text


async def _do(exchange: Exchange, work: Awaitable[Any]) -> Any:
    try:
        return await wait_while_there(exchange.request, work)
    except BusyError as error:
        return reply(shape_error(429, str(error)), 429)


def _door(path: str, answer: Any, summary: str, fields: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Door:
    return Door("POST", f"/v1/tutor/{path}", answer, summary, shape_error, fields, required, statuses=(200, 400))


DOORS = (
    Door("GET", "/v1/tutor", describe, "Tell what the tutor has and what its policy allows.", shape_error),
    Door("GET", "/v1/tutor/progress", progress, "Tell what the caller did.", shape_error),
    _door(
        "exercise", exercise, "Make an exercise.",
        {"kind": text(), "level": text(), "topic": text(), "seed": whole(0, 10**12 - 1), "exercise": text()},
    ),
    _door("attempt", attempt, "Judge an attempt.", {"exercise": text(), "code": text()}, ("exercise", "code")),
    _door("hint", hint, "Give the next hint.", {"exercise": text()}, ("exercise",)),
    _door("correct", correct, "Correct syntax, with reasons.", {"code": text(), "language": text()}, ("code",)),
    _door(
        "explain", explain, "Explain a line, an error or a diff.",
        {"code": text(), "line": whole(1), "error": text(), "diff": text()},
    ),
    _door(
        "ask", ask, "Answer a question as a tutor.",
        {"messages": TURNS, "exercise": text(), "code": text(), "error": text()}, ("messages",),
    ),
)  # fmt: skip
