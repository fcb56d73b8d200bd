"""Who answers in a terminal: a model that is open in this process, or a server that speaks OpenAI's protocol.

**In**: the turns of a conversation.
**Out**: its answer in pieces, and at the end what there is to say about it.
**Not**: retries: the person who waits asks again.
"""

import contextlib
import http.client
import json
from collections.abc import Generator as Pieces
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from codegemma.errors import InputError, UserError
from codegemma.records import Generation, Generator, Priority, Sampling, StopReason, Turn
from codegemma.text.chat_window import fit_chat

_LEAST_ANSWER_SHARE = 0.25
_TIMEOUT_S = 300.0
_ROLES = {"system": "system", "user": "user", "model": "assistant"}


class SpeakerError(UserError):
    """A server does not answer, or not in the form that it should."""

    exit_code = 3


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
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"{address!r} is no address of a server; wanted http://HOST:PORT")
        self.name, self._parts = address, parts
        self._path = parts.path.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._key, self._temperature, self._max_new_tokens = api_key, temperature, max_new_tokens

    def answer(self, turns: Sequence[Turn]) -> Pieces[Said, None, None]:
        """Answer as the server streams.

        Raises:
            SpeakerError: it is not there, refuses, or speaks something else.
        """
        messages = [{"role": _ROLES[turn.role], "content": turn.text} for turn in turns]
        body = {
            "messages": messages, "stream": True, "temperature": self._temperature, "max_tokens": self._max_new_tokens,
        }  # fmt: skip
        try:
            with contextlib.closing(self._connect()) as connection:
                connection.request("POST", self._path, json.dumps(body).encode(), self._make_headers())
                reply = connection.getresponse()
                if reply.status != 200:
                    raise SpeakerError(f"{self.name} refused: {reply.status} {_read_message(reply.read())}")
                for event in _read_events(reply):
                    yield from _read_event(event)
        except (OSError, http.client.HTTPException) as error:
            raise SpeakerError(f"{self.name} does not answer ({error}); is `codegemma serve` running?") from error

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.netloc, timeout=_TIMEOUT_S)

    def _make_headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})


def _read_events(reply: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in reply:
        kind, _, value = line.decode("utf-8", "replace").partition(":")
        if kind != "data" or not value.strip() or value.strip() == "[DONE]":
            continue
        try:
            event = json.loads(value)
        except ValueError as error:
            raise SpeakerError(f"the server streams what is no JSON: {value.strip()[:80]!r}") from error
        if isinstance(event, dict):
            yield event


def _read_event(event: dict[str, Any]) -> Iterator[Said]:
    if "error" in event:
        raise SpeakerError(f"the server broke off: {_read_message(json.dumps(event).encode())}")
    for choice in event.get("choices") or ():
        yield Said((choice.get("delta") or {}).get("content") or "")
        if choice.get("finish_reason") == "length":
            yield Said("", "cut off: the answer met its limit of tokens")
    for left_out in (event.get("why") or {}).get("dropped") or ():
        yield Said("", f"left out to fit the model's window: {left_out}")


def _read_message(content: bytes) -> str:
    try:
        error = json.loads(content)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, TypeError):
        return content.decode("utf-8", "replace").strip()[:300]
