"""Who answers in a terminal: a model that is open in this process, or a server that speaks OpenAI's protocol.

**In**: the turns of a conversation.
**Out**: its answer in pieces, and at the end what there is to say about it.
**Not**: retries: the person who waits asks again.
"""

import contextlib
from collections.abc import Generator as Pieces
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from codegemma.records import Generation, Generator, Priority, Sampling, StopReason, Turn
from codegemma.text.chat_window import fit_chat
from codegemma.wire import Wire

_LEAST_ANSWER_SHARE = 0.25
_TIMEOUT_S = 300.0
_ROLES = {"system": "system", "user": "user", "model": "assistant"}


class Said(NamedTuple):
    """A piece of an answer; `note` is for the person and not part of it."""

    text: str
    note: str = ""


class Speaker(Protocol):
    """Whoever answers."""

    name: str

    def answer(self, turns: Sequence[Turn]) -> Pieces[Said, None, None]:
        """Answer the last turn; closing the iterator cancels."""
        ...


class LocalSpeaker:
    """A model in this process."""

    def __init__(self, generator: Generator, sampling: Sampling, max_new_tokens: int) -> None:
        self.name, self._generator = generator.model_name, generator
        self._sampling, self._max_new_tokens = sampling, max_new_tokens

    def answer(self, turns: Sequence[Turn]) -> Pieces[Said, None, None]:
        """Answer in tokens as they come."""
        generator, window = self._generator, self._generator.max_context_tokens
        most = min(self._max_new_tokens, max(1, int(window * _LEAST_ANSWER_SHARE)))
        fitted = fit_chat(generator.tokenizer, turns, window - most)
        for left_out in fitted.tell():
            yield Said("", f"left out to fit the model's window of {window} tokens: {left_out}")
        generation = Generation(
            fitted.ids, max_new_tokens=most, sampling=self._sampling, priority=Priority.CHAT, session="terminal"
        )
        reason = None
        with contextlib.closing(generator.generate(generation)) as stream:
            for delta in stream:
                reason = delta.stop_reason or reason
                yield Said(delta.text)
        if reason in (StopReason.MAX_NEW_TOKENS, StopReason.CONTEXT_FULL):
            yield Said("", f"cut off after {most} tokens")


class RemoteSpeaker:
    """A server at an address."""

    def __init__(self, address: str, api_key: str | None, temperature: float, max_new_tokens: int) -> None:
        """Take `http://HOST:PORT`, with or without `/v1`.

        Raises:
            InputError: no address.
        """
        self.name, self._wire = address, Wire(address, api_key=api_key, timeout_s=_TIMEOUT_S)
        self._temperature, self._max_new_tokens = temperature, max_new_tokens

    def answer(self, turns: Sequence[Turn]) -> Pieces[Said, None, None]:
        """Answer as the server streams.

        Raises:
            ServerError: it is not there, refuses, or speaks something else.
        """
        messages = [{"role": _ROLES[turn.role], "content": turn.text} for turn in turns]
        body = {
            "messages": messages, "stream": True, "temperature": self._temperature, "max_tokens": self._max_new_tokens,
        }  # fmt: skip
        with contextlib.closing(self._wire.stream("/v1/chat/completions", body)) as events:
            for event in events:
                yield from _read_event(event)


def _read_event(event: dict[str, Any]) -> Iterator[Said]:
    for choice in event.get("choices") or ():
        yield Said((choice.get("delta") or {}).get("content") or "")
        if choice.get("finish_reason") == "length":
            yield Said("", "cut off: the answer met its limit of tokens")
    for left_out in (event.get("why") or {}).get("dropped") or ():
        yield Said("", f"left out to fit the model's window: {left_out}")
