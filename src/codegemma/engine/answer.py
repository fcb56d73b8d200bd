"""Turns the ids that a model writes into what a reader sees: whole characters, up to where the answer ends.

**In**: a `Generation`; ids, one after the other.
**Out**: `CompletionDelta`s, the last one with the reason and the cost.
**Not**: choosing ids. Nothing here knows JAX: any engine that writes ids can tell its answers so.
"""

import codecs

from codegemma.records import CompletionDelta, Generation, StopReason, TokenLogprob, Usage
from codegemma.text.healing import Healing, index_bytes
from codegemma.text.stops import StopWatch, Told, ends_answer
from codegemma.text.tokenizer import Tokenizer


class Answer:
    """One choice of a generation, as far as it is written."""

    def __init__(self, generation: Generation, choice: int, tokenizer: Tokenizer, max_context_tokens: int) -> None:
        """Begin with nothing written; the answer ends at the window's end if nothing ends it before."""
        self.rules = generation.stop
        self.choice = choice
        self.ids: list[int] = []
        self.stop_reason: StopReason | None = None
        room = max_context_tokens - len(generation.prompt_ids)
        self.max_tokens = min(generation.max_new_tokens, room)
        self._full = StopReason.CONTEXT_FULL if room < generation.max_new_tokens else StopReason.MAX_NEW_TOKENS
        self.healing = Healing(generation.healing, index_bytes(tokenizer)) if generation.healing else None
        self._tokenizer = tokenizer
        self._speller = codecs.getincrementaldecoder("utf-8")("replace")
        self._watch = StopWatch(generation.stop)
        self._text = ""
        self._told = 0
        self._logprobs: list[TokenLogprob] = []

    def take(self, token_id: int, logprob: TokenLogprob | None = None) -> bool:
        """Add the next id; true where it ends the answer. A control token that does is no part of it."""
        if ends_answer(token_id, self.rules):
            self.end(StopReason.CONTROL_TOKEN)
            return True
        self.ids.append(token_id)
        if logprob is not None:
            self._logprobs.append(logprob)
        piece = self.healing.take(token_id) if self.healing else self._tokenizer.decode_bytes([token_id])
        self._hear(self._watch.feed(self._speller.decode(piece)))
        if self.stop_reason is None and len(self.ids) >= self.max_tokens:
            self.end(self._full)
        return self.stop_reason is not None

    def end(self, reason: StopReason) -> None:
        """End the answer for a reason that is not in its text, unless its last line shows one."""
        self._hear(self._watch.feed(self._speller.decode(b"", final=True)))
        if self.stop_reason is None:
            self._hear(self._watch.finish())
        self.stop_reason = self.stop_reason or reason

    def tell(self, usage: Usage | None = None) -> CompletionDelta | None:
        """Tell what is new, if anything can be told yet: a character of several tokens comes with its last one."""
        if not self._text and self.stop_reason is None:
            return None
        told, self._told = self._told, len(self.ids)
        text, self._text = self._text, ""
        logprobs, self._logprobs = tuple(self._logprobs), []
        return CompletionDelta(text, tuple(self.ids[told:]), self.stop_reason, self.choice, logprobs, usage)

    def _hear(self, told: Told) -> None:
        self._text += told.text
        self.stop_reason = told.stop_reason
