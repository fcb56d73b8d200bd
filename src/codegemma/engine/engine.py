"""Answers requests with a model in JAX: streams one, batches many, rates given continuations.

**In**: a model folder, or parameters with their shape and tokenizer; requests or token ids.
**Out**: `Engine`, a `records.Completer`.
**Not**: a server: rows of a batch start together and wait for the longest. Concurrent streams come with the scheduler.
"""

import codecs
from collections.abc import Generator as StdGenerator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from codegemma.engine.compute import RowState, rate_rows, read_prompts, round_rows, round_up, write_tokens
from codegemma.engine.sample import RowSampling, gather_sampling
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.model.infill_modes import OFFICIAL_MODES, read_infill_modes
from codegemma.model.quantize import load_quantized
from codegemma.model.weights import describe_model, load_model, locate_tokenizer
from codegemma.records import (
    Completion,
    CompletionDelta,
    CompletionStream,
    Generation,
    InfillMode,
    Request,
    Score,
    StopReason,
    Usage,
)
from codegemma.text.control_tokens import BOS_ID, PAD_ID, STOP_IDS
from codegemma.text.infill_format import format_prompt
from codegemma.text.tokenizer import Tokenizer
from codegemma.text.window import fit_request

# A batch: as many rows as keep the processor busy, fewer where rows are long. Decoding looks at stops this often.
_MAX_ROWS = 32
_MAX_BATCH_TOKENS = 8192
_STEPS_BETWEEN_LOOKS = 8
# At least this share of the window is the prompt's, however many new tokens are asked for.
_LEAST_PROMPT_SHARE = 0.875


@dataclass(slots=True)
class _Answer:
    """One row under way."""

    prompt_ids: list[int]
    limit: int
    wants: int
    ids: list[int] = field(default_factory=list)
    stop_reason: StopReason | None = None

    def take(self, token_id: int) -> None:
        """Add the next id, or end at it."""
        if token_id in STOP_IDS:
            self.stop_reason = StopReason.CONTROL_TOKEN
            return
        self.ids.append(token_id)
        if len(self.ids) >= self.limit:
            is_whole = len(self.ids) >= self.wants
            self.stop_reason = StopReason.MAX_NEW_TOKENS if is_whole else StopReason.CONTEXT_FULL


class Engine:
    """A loaded model that completes and scores."""

    def __init__(
        self,
        params: Params,
        config: GemmaConfig,
        tokenizer: Tokenizer,
        infill_modes: tuple[InfillMode, ...] = OFFICIAL_MODES,
        model_name: str = "model",
    ) -> None:
        """Hold the parameters; nothing is compiled before the first request of a shape.

        `infill_modes` are the orders of the parts that the model knows, the one that suits it best first.
        """
        if tokenizer.vocab_size > config.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size}: "
                "take the tokenizer.json that came with the model"
            )
        self.params = params
        self.config = config
        self.tokenizer = tokenizer
        self.infill_modes = infill_modes
        self.max_context_tokens = config.max_positions
        self.model_name = model_name

    @classmethod
    def load(cls, folder: Path) -> "Engine":
        """Load a model folder with its tokenizer.

        Raises:
            InputError: a file is missing, cut off or of another model.
        """
        describe_model(folder)
        tokenizer = Tokenizer.load(locate_tokenizer(folder))  # before the weights: a missing one is told at once
        params, config = load_quantized(folder) or load_model(folder, None)
        return cls(params, config, tokenizer, read_infill_modes(folder), folder.name)

    def build_prompt(self, request: Request) -> list[int]:
        """Spell the prompt of a request, shortened to the window."""
        reserved = min(request.max_new_tokens, int(self.max_context_tokens * (1 - _LEAST_PROMPT_SHARE)))
        fitting = fit_request(request, self.tokenizer, self.max_context_tokens - reserved)
        return format_prompt(
            self.tokenizer,
            prefix=fitting.prefix,
            suffix=fitting.suffix,
            mode=fitting.mode,
            path=fitting.path,
            neighbors=fitting.neighbors,
        )

    def generate(self, generation: Generation) -> CompletionStream:
        """Stream one choice; the fields that the scheduler brings are refused until it is there."""
        known = Generation(
            generation.prompt_ids,
            generation.max_new_tokens,
            generation.sampling,
            priority=generation.priority,
            session=generation.session,
            lookup_ids=generation.lookup_ids,
        )
        if generation != known or generation.max_new_tokens < 1:
            raise InputError("this engine does not stop by rules, heal, count or choose yet: leave those fields out")
        prompt_ids = list(generation.prompt_ids)
        self._check_ids(np.asarray(prompt_ids, np.int32))
        room = self.max_context_tokens - len(prompt_ids)
        answer = _Answer(prompt_ids, min(generation.max_new_tokens, room), generation.max_new_tokens)
        return self._stream(answer, Request("", "", sampling=generation.sampling))

    def describe(self) -> dict[str, Any]:
        """Tell what is loaded."""
        return {"model": self.model_name, "engine": "jax", "context_tokens": self.max_context_tokens, "slots": 1}

    def close(self) -> None:
        """Nothing runs between calls."""

    def complete(self, request: Request) -> CompletionStream:
        """Stream one completion, character by whole character; closing the stream cancels it."""
        return self._stream(self._open(request), request)

    def _stream(self, answer: _Answer, request: Request) -> StdGenerator[CompletionDelta, None, None]:
        speller = codecs.getincrementaldecoder("utf-8")("replace")
        spelled = told = 0
        for _ in self._run([answer], [request], steps=1):
            is_last = answer.stop_reason is not None
            # A character of several byte tokens is told when its last byte is there.
            text = speller.decode(self.tokenizer.decode_bytes(answer.ids[spelled:]), final=is_last)
            spelled = len(answer.ids)
            if text or is_last:
                usage = Usage(
                    len(answer.prompt_ids), evaluated_tokens=len(answer.prompt_ids), new_tokens=len(answer.ids)
                )
                new_ids = tuple(answer.ids[told:])
                yield CompletionDelta(text, new_ids, answer.stop_reason, usage=usage if is_last else None)
                told = spelled

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer many requests, in order; rows of like length share a batch."""
        answers = [self._open(request) for request in requests]
        order = sorted(range(len(answers)), key=lambda i: len(answers[i].prompt_ids) + answers[i].limit)
        while order:
            longest = answers[order[-1]]
            rows = min(_MAX_ROWS, max(1, _MAX_BATCH_TOKENS // (len(longest.prompt_ids) + longest.limit)))
            batch, order = order[-rows:], order[:-rows]
            for _ in self._run([answers[i] for i in batch], [requests[i] for i in batch], _STEPS_BETWEEN_LOOKS):
                pass
        return [self._close(answer) for answer in answers]

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Rate each continuation after its prompt, teacher-forced: one pass, no generation.

        Raises:
            InputError: an id outside the vocabulary, an empty prompt, or more tokens than the window holds.
        """
        sequences = [np.asarray([*prompt, *continuation], np.int32) for prompt, continuation in items]
        for (prompt, _), ids in zip(items, sequences, strict=True):
            self._check_ids(ids)
            if not prompt:
                raise InputError("a prompt to score after is empty: it holds at least <bos>")
        scores: list[Score | None] = [None] * len(items)
        shapes: dict[int, list[int]] = {}
        for index, ids in enumerate(sequences):
            shapes.setdefault(round_up(len(ids), self.max_context_tokens), []).append(index)
        for length, members in shapes.items():
            rows = min(max(1, _MAX_BATCH_TOKENS // length), round_rows(len(members)))
            for start in range(0, len(members), rows):
                batch = members[start : start + rows]
                rated = self._rate([sequences[i] for i in batch], rows, length)
                for index, (logprobs, argmax_ids) in zip(batch, rated, strict=True):
                    first = len(items[index][0])
                    scores[index] = Score(logprobs[first:], argmax_ids[first:])
        return [score for score in scores if score is not None]

    def _rate(self, sequences: list[np.ndarray], rows: int, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        ids, lengths = _pad(sequences, rows, length)
        logprobs, argmax_ids = rate_rows(self.params, self.config, jnp.asarray(ids), jnp.asarray(lengths))
        for row, sequence in enumerate(sequences):
            yield np.asarray(logprobs)[row, : len(sequence)], np.asarray(argmax_ids)[row, : len(sequence)]

    def _open(self, request: Request) -> _Answer:
        if request.max_new_tokens < 1:
            raise InputError(f"max_new_tokens {request.max_new_tokens} is out of range: at least 1")
        ids = self.build_prompt(request)
        self._check_ids(np.asarray(ids, np.int32))
        room = self.max_context_tokens - len(ids)
        return _Answer(ids, limit=min(request.max_new_tokens, room), wants=request.max_new_tokens)

    def _check_ids(self, ids: Int32[np.ndarray, " n"]) -> None:
        if len(ids) > self.max_context_tokens:
            raise InputError(f"{len(ids)} tokens do not fit: the model's window is {self.max_context_tokens} tokens")
        wrong = ids[(ids < 0) | (ids >= self.config.vocab_size)]
        if len(wrong):
            raise InputError(f"token id {wrong[0]} is outside the vocabulary: 0 to {self.config.vocab_size - 1}")

    def _close(self, answer: _Answer) -> Completion:
        stop_reason = answer.stop_reason or StopReason.CANCELLED
        return Completion(
            self.tokenizer.decode(answer.ids), tuple(answer.ids), stop_reason, prompt_tokens=len(answer.prompt_ids)
        )

    def _run(self, answers: list[_Answer], requests: Sequence[Request], steps: int) -> Iterator[None]:
        """Write into the answers until all have stopped; give way after each look at the new tokens."""
        rows = round_rows(len(answers))
        longest = max(len(a.prompt_ids) for a in answers)
        slots = round_up(max(len(a.prompt_ids) + a.limit for a in answers), self.max_context_tokens)
        prompts = [np.asarray(a.prompt_ids, np.int32) for a in answers]
        ids, lengths = _pad(prompts, rows, min(round_up(longest, self.max_context_tokens), slots))
        sampling = self._gather(requests, rows)
        newest, cache = read_prompts(self.params, self.config, jnp.asarray(ids), jnp.asarray(lengths), sampling, slots)
        for answer, token_id in zip(answers, np.asarray(newest).tolist(), strict=False):
            answer.take(token_id)
        yield
        positions, written = jnp.asarray(lengths), 1
        while any(a.stop_reason is None for a in answers):
            row_state = RowState(newest, positions, jnp.asarray(written, jnp.int32))
            chosen, cache = write_tokens(self.params, self.config, row_state, cache, sampling, steps)
            for answer, row in zip(answers, np.asarray(chosen).tolist(), strict=False):
                for token_id in row:
                    if answer.stop_reason is None:
                        answer.take(token_id)
            newest, positions, written = chosen[:, -1], positions + steps, written + steps
            yield

    def _gather(self, requests: Sequence[Request], rows: int) -> RowSampling | None:
        asked = [r.sampling for r in [*requests, *[requests[0]] * (rows - len(requests))]]
        sampling = gather_sampling(asked, self.config.vocab_size)
        return sampling if any(r.sampling.temperature > 0 for r in requests) else None


def _pad(
    sequences: Sequence[np.ndarray], rows: int, length: int
) -> tuple[Int32[np.ndarray, "B L"], Int32[np.ndarray, " B"]]:
    """Stack sequences of different length; rows that nobody asked for hold `<bos>` alone."""
    ids = np.full((rows, length), PAD_ID, np.int32)
    ids[:, 0] = BOS_ID
    lengths = np.ones(rows, np.int32)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        lengths[row] = len(sequence)
    return ids, lengths
