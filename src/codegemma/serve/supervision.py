"""Holds the editor's and the chat's doors to a teacher's policy, whichever protocol asks.

**In**: an ask, and the tutor with its policy.
**Out**: the same, shortened, guarded or refused.
**Not**: the tutor's own doors, which have their rungs (`tutor/`).
"""

import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from codegemma.errors import InputError
from codegemma.records import Extent, Priority
from codegemma.serve.asks import Piece, PlainAsk, Wishes
from codegemma.serve.tutor.policy import Policy
from codegemma.serve.tutor.tutor import Tutor
from codegemma.text.markdown import split_finished

Write = Callable[[PlainAsk], AsyncGenerator[Piece, None]]


def keep_to_line(wishes: Wishes, policy: Policy) -> Wishes:
    """Let a completion reach as far as the policy does.

    Raises:
        InputError: completion is off.
    """
    if policy.completion == "off":
        raise InputError("completion is off here: the teacher's policy")
    if policy.completion == "open":
        return wishes
    return replace(wishes, stop=replace(wishes.stop, extent=Extent.LINE))


async def screen(ask: PlainAsk, tutor: Tutor, write: Write) -> AsyncGenerator[Piece, None]:
    """Write on as the policy lets: chat or nothing of it, a line or all, and never the solution of a listed task.

    Raises:
        InputError: the policy has no place for it; nothing was yielded then.
    """
    policy = tutor.policy
    is_chat = ask.wishes.priority is Priority.CHAT
    if is_chat and not policy.free_chat:
        raise InputError("there is no free chat here, the teacher's policy says; ask the tutor: /v1/tutor/ask")
    if not is_chat:
        wishes = keep_to_line(ask.wishes, policy)
        if policy.completion == "line":  # no cursor, no extent: the line's end is a string like another
            stop = ask.wishes.stop
            wishes = replace(ask.wishes, stop=replace(stop, strings=(*stop.strings, "\n")))
        ask = replace(ask, wishes=wishes)
    guard = tutor.make_plain_guard() if is_chat else None
    async with contextlib.aclosing(write(ask)) as pieces:
        if guard is None:
            async for piece in pieces:
                yield piece
            return
        rest: dict[int, str] = {}
        async for piece in pieces:
            finished, left = split_finished(rest.get(piece.choice, "") + piece.text)
            if piece.report is not None:
                finished, left = finished + left, ""
            rest[piece.choice] = left
            told = await guard.screen(finished) if finished else ""
            if told or piece.report is not None:
                # Ids and log-probabilities would tell what the text does not.
                yield replace(piece, text=told, token_ids=(), logprobs=())
