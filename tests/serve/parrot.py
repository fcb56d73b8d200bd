"""A model of a few lines that writes on as a known text does: what it answers can be told in advance.

It keeps the whole contract of `records.Generator`: stops, healing, choices, biases, budgets, cancellation, counts of
what was read before. Tests of the server's own logic use it; the engines have their own tests, and the two meet in
`test_with_engine.py`.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from codegemma.errors import InputError
from codegemma.records import CompletionDelta, Generation, InfillMode, StopReason, TokenLogprob, Usage
from codegemma.text.control_tokens import CONTROL_TOKENS, FIM_MIDDLE_ID, RESERVED_IDS
from codegemma.text.stops import StopWatch
from codegemma.text.tokenizer import Tokenizer

_MEMORY_CHARS = 30


class Parrot:
    """Finds the end of what it reads in its text, and says what follows there; of what it does not know, nothing."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: str,
        modes: tuple[InfillMode, ...] = (InfillMode.SPM, InfillMode.PSM),
        max_context_tokens: int = 4096,
        step_s: float = 0.0,
    ) -> None:
        self.tokenizer, self.text, self.infill_modes, self.step_s = tokenizer, text, modes, step_s
        self.max_context_tokens, self.model_name = max_context_tokens, "parrot"
        self.generations: list[Generation] = []
        self.cancelled = self.closed = 0
        self.forced: int | None = None
        self.failures: list[bool] = []  # whether the next generation is refused, and the one after it
        self._read: dict[str | None, tuple[int, ...]] = defaultdict(tuple)

    def generate(self, generation: Generation) -> "ParrotStream":
        if not generation.prompt_ids or max(generation.prompt_ids) >= self.tokenizer.vocab_size:
            raise InputError("a token id is outside the vocabulary")
        if len(generation.prompt_ids) > self.max_context_tokens:
            raise InputError(f"{len(generation.prompt_ids)} tokens do not fit: {self.max_context_tokens}")
        if self.failures and self.failures.pop(0):
            raise InputError("the engine is out of order")
        self.generations.append(generation)
        return ParrotStream(self, generation)

    def count_cached(self, generation: Generation) -> int:
        old, new = self._read[generation.session], generation.prompt_ids
        common = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        self._read[generation.session] = new
        return min(common, len(new) - 1)

    def continue_text(self, generation: Generation) -> str:
        """What follows where the prompt's text before the cursor ends."""
        ids = list(generation.prompt_ids)
        mode = self.infill_modes[0]
        if mode is InfillMode.PSM and FIM_MIDDLE_ID in ids:
            shown = self._decode(ids)
        else:
            shown = self._decode(ids[len(ids) - ids[::-1].index(FIM_MIDDLE_ID) :] if FIM_MIDDLE_ID in ids else ids)
        before = (shown.encode() + generation.healing).decode("utf-8", "replace")[-_MEMORY_CHARS:]
        while before and before not in self.text:
            before = before[1:]
        at = self.text.find(before) + len(before) if before else len(self.text)
        return self.text[at:]

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode([i for i in ids if i >= RESERVED_IDS])

    def describe(self) -> dict[str, Any]:
        return {"model": "parrot", "engine": "parrot", "context_tokens": self.max_context_tokens, "slots": 4}

    def close(self) -> None:
        self.closed += 1


class Scripted(Parrot):
    """Answers by what it reads: the answer of the first key that is in the prompt."""

    def __init__(self, tokenizer: Tokenizer, answers: Mapping[str, str], **more: Any) -> None:
        super().__init__(tokenizer, "", **more)
        self.answers = answers

    def continue_text(self, generation: Generation) -> str:
        shown = self._decode(list(generation.prompt_ids))
        return next((answer for key, answer in self.answers.items() if key in shown), "")


class ParrotStream:
    """One generation, token by token."""

    def __init__(self, parrot: Parrot, generation: Generation) -> None:
        self._parrot, self._generation = parrot, generation
        self._is_closed = threading.Event()
        self._deltas = self._run()
        self._is_done = False

    def __iter__(self) -> Iterator[CompletionDelta]:
        return self

    def __next__(self) -> CompletionDelta:
        delta = next(self._deltas)
        self._is_done = delta.stop_reason is not None and delta.choice == self._generation.choices - 1
        return delta

    def close(self) -> None:
        if not self._is_done and not self._is_closed.is_set():
            self._parrot.cancelled += 1
        self._is_closed.set()

    def _run(self) -> Iterator[CompletionDelta]:
        generation, parrot = self._generation, self._parrot
        cached = parrot.count_cached(generation)
        text = parrot.continue_text(generation)
        for choice in range(generation.choices):
            yield from self._write(choice, text if choice == 0 else text[: -choice or None], cached)

    def _write(self, choice: int, text: str, cached: int) -> Iterator[CompletionDelta]:
        generation, tokenizer = self._generation, self._parrot.tokenizer
        prompt = len(generation.prompt_ids)
        ids = tokenizer.encode(generation.healing.decode("utf-8", "replace") + text).tolist()
        forced = max((bias for _, bias in generation.sampling.logit_bias), default=0.0)
        if forced > 50:
            ids = [i for i, bias in generation.sampling.logit_bias if bias == forced] * 9
        if self._parrot.forced is not None:
            ids = [self._parrot.forced] * 9
        watch, healed, written = StopWatch(generation.stop), len(generation.healing), 0
        reason, pending = None, b""
        for token_id in ids[: max(generation.max_new_tokens, 0)]:
            time.sleep(self._parrot.step_s)
            if self._is_closed.is_set():
                reason = StopReason.CANCELLED
                break
            if token_id in CONTROL_TOKENS:
                reason = StopReason.CONTROL_TOKEN
                break
            piece = tokenizer.decode_bytes([token_id])
            piece, healed = piece[healed:], max(healed - len(piece), 0)
            written += 1
            try:
                told = watch.feed((pending + piece).decode())
                pending = b""
            except UnicodeDecodeError:
                pending += piece
                continue
            logprobs: tuple[TokenLogprob, ...] = ()
            if generation.top_logprobs is not None:
                logprobs = (TokenLogprob(token_id, -0.5, ((token_id, -0.5),) * bool(generation.top_logprobs)),)
            reason = told.stop_reason
            if reason is not None:
                yield CompletionDelta(told.text, (token_id,), None, choice, logprobs)
                break
            yield CompletionDelta(told.text, (token_id,), None, choice, logprobs)
        rest = watch.finish()
        whole = len(ids) <= generation.max_new_tokens
        reason = reason or rest.stop_reason or (StopReason.CONTROL_TOKEN if whole else StopReason.MAX_NEW_TOKENS)
        usage = Usage(prompt, cached, prompt - cached, written, prompt_s=0.001, new_s=0.001)
        yield CompletionDelta(rest.text, (), reason, choice, usage=usage)
