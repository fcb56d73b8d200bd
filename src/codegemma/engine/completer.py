"""Answers requests of text through the token-level door of any engine.

**In**: a `records.Generator`; requests.
**Out**: `GeneratorCompleter`, a `records.Completer`.
**Not**: trimming, sessions or healing: a request of the evaluations is spelled anew and answered as the model writes.
"""

from collections.abc import Sequence

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
)
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
        """Spell the prompt of a request, shortened to the window."""
        window = self.generator.max_context_tokens
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

    def _start(self, request: Request, priority: Priority) -> CompletionStream:
        if request.max_new_tokens < 1:
            raise InputError(f"max_new_tokens {request.max_new_tokens} is out of range: at least 1")
        return self.generator.generate(
            Generation(
                tuple(self.build_prompt(request)),
                max_new_tokens=request.max_new_tokens,
                sampling=request.sampling,
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
