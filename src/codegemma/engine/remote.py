"""Asks a model behind any server: llama.cpp's `/infill`, OpenAI's completions with a suffix, or a raw template.

**In**: a server's address; requests.
**Out**: `RemoteCompleter`, a `records.Completer`. Each answer is told in one piece.
**Not**: token ids, which differ from model to model; and scores: no server of these protocols rates given tokens in a
form that this one could rely on.

A route is chosen by what the server says of itself. llama.cpp ignores a suffix in `/v1/completions` without a word, so
it is asked by `/infill`. An answer without text counts only where the server says that the model ended it.
"""

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Final

from codegemma.errors import InputError
from codegemma.records import (
    Completion,
    CompletionDelta,
    InfillMode,
    Request,
    Sampling,
    Score,
    StopReason,
    Usage,
)
from codegemma.text.dialects import find_dialect, list_stops, spell_infill
from codegemma.wire import ServerError, Wire

# Where a server does not tell its window.
_USUAL_WINDOW: Final = 4096
# Beyond any window here; llama.cpp knows no word for all, and sets aside room for so many.
_ALL_TOKENS: Final = 65_536
_AT_ONCE: Final = 8
_STOP_REASONS: Final = {
    "eos": StopReason.CONTROL_TOKEN,
    "stop": StopReason.CONTROL_TOKEN,
    "word": StopReason.STRING,
    "limit": StopReason.MAX_NEW_TOKENS,
    "length": StopReason.MAX_NEW_TOKENS,
}


class Route(StrEnum):
    """How a server is asked to fill a hole."""

    INFILL = "infill"
    SUFFIX = "suffix"
    TEMPLATE = "template"


class RemoteCompleter:
    """A model behind a server."""

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        template: str | None = None,
        model: str | None = None,
        wire: Wire | None = None,
    ) -> None:
        """Find out what the server offers.

        Args:
            address: `http://HOST:PORT`.
            api_key: sent as a bearer token.
            template: spell holes by a family's sentinels (`text/dialects.py`) instead of leaving that to the server.
            model: which of the server's models; its first one otherwise.
            wire: how to ask, for other time limits.

        Raises:
            InputError: no address, or an unknown template.
            ServerError: nobody answers, or nobody that completes.
        """
        self._dialect = None if template is None else find_dialect(template)
        self.wire = wire or Wire(address, api_key=api_key)
        self._model, self.max_context_tokens, is_llama_cpp = self._describe(model)
        self.model_name = self._model or self.wire.address
        self.infill_modes = (InfillMode.PSM,)
        self.at_once = _AT_ONCE
        if self._dialect is not None:
            self.route = Route.TEMPLATE
        else:
            self.route = Route.INFILL if is_llama_cpp else Route.SUFFIX

    def _describe(self, model: str | None) -> tuple[str, int, bool]:
        """Ask for the model's name and window, and whether it is llama.cpp that serves it."""
        listed = self.wire.ask("/v1/models", is_first=True)
        entries = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ServerError(f"{self.wire.address}/v1/models lists no models: {str(listed)[:200]}")
        found = next((entry for entry in entries if model in (None, entry.get("id"))), None)
        if found is None:
            known = ", ".join(str(entry.get("id")) for entry in entries) or "none"
            raise InputError(f"{self.wire.address} has no model {model!r}; it has {known}")
        meta = found.get("meta") if isinstance(found.get("meta"), dict) else {}
        told = (found.get("max_model_len"), meta.get("n_ctx"), meta.get("n_ctx_train"))
        window = next((one for one in told if isinstance(one, int) and one > 0), _USUAL_WINDOW)
        return str(found.get("id", "")), window, found.get("owned_by") == "llamacpp" or bool(meta)

    def complete(self, request: Request) -> Generator[CompletionDelta, None, None]:
        """Answer one request, in one piece."""
        answer = self.answer(request)
        usage = Usage(answer.prompt_tokens)
        yield CompletionDelta(answer.text, answer.token_ids, answer.stop_reason, usage=usage)

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer many requests, some at a time, in order; the first that fails ends them."""
        with ThreadPoolExecutor(self.at_once) as pool:
            futures = [pool.submit(self.answer, request) for request in requests]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Say that this cannot be done.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{self.wire.address} cannot rate {len(items)} given continuations")

    def answer(self, request: Request) -> Completion:
        """Answer one request; from any thread."""
        if request.turns:
            return self._ask_chat(request)
        if request.mode not in (None, *self.infill_modes):
            raise InputError(f"{self.wire.address} orders the parts itself; ask in {self.infill_modes[0]}")
        if request.mode is None or self.route is not Route.INFILL:
            return self._ask_completions(request)
        return self._ask_infill(request)

    def _ask_infill(self, request: Request) -> Completion:
        extra = [{"filename": neighbor.path, "text": neighbor.text} for neighbor in request.neighbors]
        body = {
            "input_prefix": request.prefix, "input_suffix": request.suffix, "prompt": "", "input_extra": extra,
            "n_predict": request.max_new_tokens, "stream": False, "cache_prompt": True,
            "stop": list(request.stop_strings), **_spell_llama_cpp(request.sampling),
        }  # fmt: skip
        reply = self.wire.ask("/infill", body)
        if not isinstance(reply, dict) or not isinstance(reply.get("content"), str):
            raise ServerError(f"{self.wire.address}/infill replied without a content: {str(reply)[:200]}")
        counts = {"prompt_tokens": reply.get("tokens_evaluated"), "completion_tokens": reply.get("tokens_predicted")}
        return self._read(reply["content"], reply.get("stop_type"), counts)

    def _ask_completions(self, request: Request) -> Completion:
        body: dict[str, Any] = {
            "model": self._model, "prompt": request.prefix, "max_tokens": request.max_new_tokens, "stream": False,
            **_spell_openai(request.sampling),
        }  # fmt: skip
        stops = list(request.stop_strings)
        if request.mode is not None and self._dialect is None:
            body["suffix"] = request.suffix
        elif request.mode is not None and self._dialect is not None:
            body["prompt"] = spell_infill(
                self._dialect, request.prefix, request.suffix, request.path, request.neighbors
            )
            stops += list_stops(self._dialect)
        if stops:
            body["stop"] = stops
        reply = self.wire.ask("/v1/completions", body)
        choice = _find_choice(reply)
        if not isinstance(choice.get("text"), str):
            raise ServerError(f"{self.wire.address}/v1/completions replied without a text: {str(reply)[:200]}")
        return self._read(choice["text"], choice.get("finish_reason"), reply.get("usage"))

    def _ask_chat(self, request: Request) -> Completion:
        if request.prefix:
            raise InputError(f"{self.wire.address}: an answer that is begun for the model cannot be sent to a server")
        names = {"model": "assistant"}
        body = {
            "model": self._model, "max_tokens": request.max_new_tokens, "stream": False,
            "messages": [{"role": names.get(role, role), "content": text} for role, text in request.turns],
            **({"stop": list(request.stop_strings)} if request.stop_strings else {}),
            **_spell_openai(request.sampling),
        }  # fmt: skip
        reply = self.wire.ask("/v1/chat/completions", body)
        choice = _find_choice(reply)
        message = choice.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ServerError(f"{self.wire.address}/v1/chat/completions replied without a message: {str(reply)[:200]}")
        return self._read(message["content"], choice.get("finish_reason"), reply.get("usage"))

    def _read(self, text: str, ended_by: object, usage: object) -> Completion:
        reason = _STOP_REASONS.get(str(ended_by))
        if reason is None and not text:
            raise ServerError(f"{self.wire.address} replied with no text and no reason ({ended_by!r}): not counted")
        counts = usage if isinstance(usage, dict) else {}
        read, written = (_read_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        return Completion(text, (), reason or StopReason.CONTROL_TOKEN, read or 0, written)


def _find_choice(reply: Any) -> Mapping[str, Any]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _read_count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _spell_llama_cpp(sampling: Sampling) -> Mapping[str, Any]:
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or (1 if sampling.temperature <= 0 else 0),
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "min_p": sampling.min_p or 0.0,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_last_n": _ALL_TOKENS if sampling.penalized_tokens is None else sampling.penalized_tokens,
        "logit_bias": [list(pair) for pair in sampling.logit_bias],
        "seed": sampling.seed,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
    }


def _spell_openai(sampling: Sampling) -> Mapping[str, Any]:
    """Spell what every server knows, and the rest only where it is asked for."""
    spelled: dict[str, Any] = {"temperature": sampling.temperature, "seed": sampling.seed}
    if sampling.top_p is not None:
        spelled["top_p"] = sampling.top_p
    if sampling.top_k is not None:
        spelled["top_k"] = sampling.top_k
    if sampling.min_p is not None:
        spelled["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1:
        spelled["repetition_penalty"] = sampling.repetition_penalty
    if sampling.presence_penalty:
        spelled["presence_penalty"] = sampling.presence_penalty
    if sampling.frequency_penalty:
        spelled["frequency_penalty"] = sampling.frequency_penalty
    if sampling.logit_bias:
        spelled["logit_bias"] = {str(token_id): added for token_id, added in sampling.logit_bias}
    return spelled
