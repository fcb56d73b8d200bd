"""Answers requests of text through the token-level door of any engine.

**In**: a `records.Generator`; requests.
**Out**: `GeneratorCompleter`, a `records.Completer`.
**Not**: trimming, sessions or healing: a request of the evaluations is spelled anew and answered as the model writes.
"""

from collections.abc import Callable, Sequence
from functools import partial

from codegemma.errors import InputError
from codegemma.records import (
    Completion,
    CompletionStream,
    Generation,
    Generator,
    Priority,
    Request,
    Score,
    Scorer,
    StopReason,
    StopRules,
)
from codegemma.text.chat_format import format_chat_prompt
from codegemma.text.infill_format import format_prompt
from codegemma.text.window import fit_request

# At least this share of the window is the prompt's, however many new tokens are asked for.
_LEAST_PROMPT_SHARE = 0.875


class GeneratorCompleter:
    """An engine as the evaluations and the command line see it."""

    def __init__(self, generator: Generator) -> None:
        """Take an engine; it stays its owner's to close."""
        self.generator = generator

    def build_prompt(self, request: Request) -> list[int]:
        """Spell the prompt of a request, shortened to the window; a conversation is whole or refused.

        Raises:
            InputError: the window has no room for the conversation, or for path and sentinels.
        """
        window = self.generator.max_context_tokens
        if request.turns:
            return self._spell_turns(request, window)
        reserved = min(request.max_new_tokens, int(window * (1 - _LEAST_PROMPT_SHARE)))
        fitting = fit_request(request, self.generator.tokenizer, window - reserved)
        return format_prompt(
            self.generator.tokenizer,
            prefix=fitting.prefix,
            suffix=fitting.suffix,
            mode=fitting.mode,
            path=fitting.path,
            neighbors=fitting.neighbors,
        )

    def complete(self, request: Request) -> CompletionStream:
        """Stream one completion, character by whole character; closing the stream cancels it."""
        return self._start(request, Priority.KEYSTROKE)

    def start(self, request: Request) -> Callable[[], Completion]:
        """Queue one as batch work; what is returned waits for the answer, and cancels when it is let go of."""
        return partial(collect, self._start(request, Priority.BATCH))

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Queue all as batch work and collect the answers in order."""
        streams: list[CompletionStream] = []
        try:
            streams += (self._start(request, Priority.BATCH) for request in requests)
            return [collect(stream) for stream in streams]
        finally:
            # What is finished does not mind; after an error nothing goes on for nobody.
            for stream in streams:
                stream.close()

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Rate `(prompt_ids, continuation_ids)` pairs.

        Raises:
            NotImplementedError: this engine cannot score.
        """
        if isinstance(self.generator, Scorer):
            return self.generator.score(items)
        raise NotImplementedError(f"{self.generator.model_name} is served by an engine that cannot score")

    def _spell_turns(self, request: Request, window: int) -> list[int]:
        tokenizer = self.generator.tokenizer
        ids = [*format_chat_prompt(tokenizer, request.turns), *tokenizer.encode(request.prefix).tolist()]
        if len(ids) >= window:
            raise InputError(f"a conversation of {len(ids)} tokens has no room for an answer in a window of {window}")
        return ids

    def _start(self, request: Request, priority: Priority) -> CompletionStream:
        if request.max_new_tokens < 1:
            raise InputError(f"max_new_tokens {request.max_new_tokens} is out of range: at least 1")
        return self.generator.generate(
            Generation(
                tuple(self.build_prompt(request)),
                max_new_tokens=request.max_new_tokens,
                sampling=request.sampling,
                stop=StopRules(strings=request.stop_strings),
                priority=priority,
            )
        )


def collect(stream: CompletionStream) -> Completion:
    """Read a stream of one choice to its end."""
    deltas = list(stream)
    last = deltas[-1]
    return Completion(
        "".join(delta.text for delta in deltas),
        tuple(token_id for delta in deltas for token_id in delta.token_ids),
        last.stop_reason or StopReason.CANCELLED,
        prompt_tokens=last.usage.prompt_tokens if last.usage else 0,
    )
