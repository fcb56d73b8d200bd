"""Computes one step for rows of choices: integers of the scheduler become arrays, and arrays become chosen ids.

**In**: a model; `Choice`s with their pages.
**Out**: `Chosen`: what follows each scored token, with ratings where somebody asked for them.
**Not**: what the ids mean for an answer (`batcher.py`).
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from codegemma.engine.block import BlockInputs, Written, store_block, write_block
from codegemma.engine.cache import Copy
from codegemma.engine.compute import StepInputs, copy_pages, run_step
from codegemma.engine.job import Choice
from codegemma.engine.programs import Programs, Size
from codegemma.engine.sample import Changes, Rating, change_logits, choose_tokens, gather_sampling, rate_tokens
from codegemma.engine.shapes import BLOCK_ROWS, BLOCK_TOKENS, DRAFT_TOKENS, SHORT_ROWS, SHORT_TOKENS, Shapes, fit
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Cache, Params, init_cache
from codegemma.model.layers import is_apart, take_apart
from codegemma.model.lora import Adapters
from codegemma.records import Sampling

# Copies are done so many at a time.
_COPIES = 4


class Chosen(NamedTuple):
    """Chosen ids of each row, one for each scored token."""

    ids: Int32[np.ndarray, "B R"]
    rating: Rating | None


class Device:
    """A model with its pages; used by one thread at a time."""

    def __init__(
        self,
        params: Params,
        config: GemmaConfig,
        execution: Execution,
        shapes: Shapes,
        *,
        pages: int,
        page_tokens: int,
        adapters: Adapters | None = None,
    ) -> None:
        """Allocate nothing: the pages come with the first step."""
        self._adapters = adapters
        self.params = jax.tree.map(jnp.asarray, params)
        if jax.default_backend() == "cpu":
            self.params = take_apart(self.params)
        self.shapes = shapes
        self.pages = pages
        self.page_tokens = page_tokens
        self._config = config
        self._execution = execution
        self._programs = Programs(self._compile)
        self._cache: Cache | None = None
        # Small models on a CPU: their products are too small to be divided over cores, so parts of a block are.
        self.writes_blocks = is_apart(self.params)
        self._helpers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="codegemma-block")

    def reset(self) -> None:
        """Let go of all pages."""
        self._cache = None

    def warm(self) -> int:
        """Compile the sizes that editors meet, and tell how many; then begin with the rest, behind whoever comes."""
        self._cache = self._hold_cache()
        count = self._programs.compile(self.shapes.list_warm())
        blocks = self.shapes.list_blocks() if self.writes_blocks else ()
        self._programs.compile_behind([*self.shapes.list_all(), *blocks])
        return count

    def close(self) -> None:
        """Compile no more, and let go of all pages."""
        self._programs.close()
        self._helpers.shutdown()
        self.reset()

    def _compile(self, size: Size) -> None:
        cache = jax.eval_shape(self._make_cache)
        if size.is_block:
            self._compile_block(size, cache)
            return
        inputs = self._make_inputs(size)
        run_step.lower(self.params, self._config, self._execution, cache, inputs, self._adapters).compile()
        if size.reach == self.shapes.reaches[0]:
            self._compile_choice(size.rows, inputs.scored.shape[1])

    def _compile_choice(self, rows: int, places: int) -> None:
        """Compile what a healed or a drawn token needs: its shapes do not hang on the reach."""
        vocab_size = self._config.vocab_size
        logits = jax.ShapeDtypeStruct((rows, places, vocab_size), jnp.float32)
        bias, each = np.zeros((rows, vocab_size), np.float32), np.zeros(rows, np.float32)
        change_logits.lower(logits, Changes(bias, bias.astype(np.int32), each, each, each)).compile()
        sampling = gather_sampling([(Sampling(), 0)] * rows, vocab_size)
        choose_tokens.lower(logits, sampling, is_ranked=False).compile()

    def _compile_block(self, size: Size, cache: Cache) -> None:
        inputs = self._make_block_inputs((), size.reach)
        for is_drawn in (False, True):
            lowered = write_block.lower(
                self.params, self._config, self._execution, cache, inputs, size.tokens,
                adapters=self._adapters, is_drawn=is_drawn, is_ranked=False,
            )  # fmt: skip
            lowered.compile()
        store_block.lower(cache, lowered.out_info, inputs, size.tokens).compile()

    def run(self, choices: Sequence[Choice], tokens: int, copies: Sequence[Copy], block_tokens: int = 1) -> Chosen:
        """Copy pages, then read up to `tokens` of each choice, or the newest id of each with its drafts (`tokens` 0).

        Where a block is asked for, each writes so many tokens, or one while that is still being compiled.
        """
        self._copy(copies)
        if block_tokens > 1:
            reach = self._find_reach(choices)
            size = self._programs.find(Size(BLOCK_ROWS, BLOCK_TOKENS, reach, is_block=True))
            if size is not None:
                return Chosen(self._write_block(choices, size.reach, block_tokens), None)
        inputs = self._gather(choices, tokens, self._choose_size(choices, tokens))
        ids, logits = self._run(inputs)
        if any(choice.needs_changes or choice.sampling.temperature > 0 for choice in choices):
            ids = self._choose(choices, logits)
        is_rated = any(choice.job.generation.top_logprobs is not None for choice in choices)
        rating = jax.device_get(rate_tokens(logits, ids)) if is_rated else None
        return Chosen(np.asarray(ids), rating)

    def _run(self, inputs: StepInputs) -> tuple[Array, Float[Array, "B R V"]]:
        ids, logits, self._cache = run_step(
            self.params, self._config, self._execution, self._hold_cache(), inputs, self._adapters
        )
        return ids, logits

    def _write_block(self, choices: Sequence[Choice], reach: int, tokens: int) -> Int32[np.ndarray, "B block"]:
        parts = [choices[start : start + BLOCK_ROWS] for start in range(0, len(choices), BLOCK_ROWS)]
        inputs = [self._make_block_inputs(part, reach) for part in parts]
        is_drawn = any(choice.sampling.temperature > 0 for choice in choices)
        is_ranked = is_drawn and any(choice.sampling.top_k or choice.sampling.top_p for choice in choices)
        cache = self._hold_cache()

        def write(inputs: BlockInputs) -> Written:
            written: Written = write_block(
                self.params, self._config, self._execution, cache, inputs, tokens,
                adapters=self._adapters, is_drawn=is_drawn, is_ranked=is_ranked,
            )  # fmt: skip
            return Written(jax.block_until_ready(written.ids), written.keys, written.values)

        written = list(self._helpers.map(write, inputs)) if len(parts) > 1 else [write(inputs[0])]
        for part, rows in zip(inputs, written, strict=True):
            self._cache = store_block(self._hold_cache(), rows, part, tokens)
        ids = np.concatenate([np.asarray(rows.ids) for rows in written])
        return ids[: len(choices), :tokens]

    def _choose(self, choices: Sequence[Choice], logits: Float[Array, "B R V"]) -> Array:
        asked = [(choice.sampling, len(choice.answer.ids)) for choice in choices]
        asked += [(Sampling(), 0)] * (len(logits) - len(choices))
        sampling = gather_sampling(asked, self._config.vocab_size)
        if any(choice.needs_changes for choice in choices):
            logits = change_logits(logits, self._gather_changes(choices, len(logits)))
        is_ranked = any(choice.sampling.top_k or choice.sampling.top_p for choice in choices)
        ids: Array = choose_tokens(logits, sampling, is_ranked=is_ranked)
        return ids

    def _make_cache(self) -> Cache:
        return init_cache(self._config, self.pages, self.page_tokens, self._execution.activation_dtype)

    def _hold_cache(self) -> Cache:
        if self._cache is None:
            self._cache = self._make_cache()
        return self._cache

    def _copy(self, copies: Sequence[Copy]) -> None:
        for start in range(0, len(copies), _COPIES):
            part = [tuple(copy) for copy in copies[start : start + _COPIES]]
            # To do the last one again changes nothing.
            padded = np.asarray([*part, *[part[-1]] * (_COPIES - len(part))], np.int32)
            self._cache = copy_pages(self._hold_cache(), jnp.asarray(padded))

    def _make_inputs(self, size: Size) -> StepInputs:
        """Make inputs in which nobody has a page: what is read in them is stored nowhere."""
        rows, tokens, reach, _ = size
        # Whatever is short enough for drafts scores all its tokens, so that it needs no program of its own.
        places = tokens if tokens == DRAFT_TOKENS else 1
        return StepInputs(
            np.zeros((rows, tokens), np.int32),
            np.zeros((rows, tokens), np.int32),
            np.full((rows, reach // self.page_tokens), self.pages, np.int32),
            np.zeros((rows, places), np.int32),
            np.zeros(rows, np.int32),
        )

    def _choose_size(self, choices: Sequence[Choice], tokens: int) -> Size:
        rows, reach = fit(self.shapes.rows, len(choices)), self._find_reach(choices)
        if tokens and len(choices) > 1:
            wanted = Size(SHORT_ROWS, SHORT_TOKENS, reach)
            return self._programs.find(wanted) or wanted
        if not tokens and any(choice.drafts for choice in choices):
            with_drafts = self._programs.find(Size(rows, DRAFT_TOKENS, reach))
            if with_drafts is not None:
                return with_drafts
        wanted = Size(rows, fit((1, *self.shapes.tokens), tokens or 1), reach)
        return self._programs.find(wanted) or wanted

    def _find_reach(self, choices: Sequence[Choice]) -> int:
        pages = max(len(choice.lease.pages) if choice.lease else 0 for choice in choices)
        return fit(self.shapes.reaches, pages * self.page_tokens)

    def _make_block_inputs(self, choices: Sequence[Choice], reach: int) -> BlockInputs:
        asked = [(choice.sampling, len(choice.answer.ids)) for choice in choices]
        asked += [(Sampling(), 0)] * (BLOCK_ROWS - len(choices))
        sampling = gather_sampling(asked, self._config.vocab_size)
        newest, positions, adapters = (np.zeros(BLOCK_ROWS, np.int32) for _ in range(3))
        tables = np.full((BLOCK_ROWS, reach // self.page_tokens), self.pages, np.int32)
        for row, choice in enumerate(choices):
            table = choice.lease.pages if choice.lease else []
            newest[row], positions[row], adapters[row] = choice.ids[-1], len(choice.ids) - 1, choice.space
            tables[row, : len(table)] = table
        return BlockInputs(newest, positions, tables, adapters, sampling)

    def _gather(self, choices: Sequence[Choice], tokens: int, size: Size) -> StepInputs:
        inputs = self._make_inputs(size)
        for row, choice in enumerate(choices):
            table = choice.lease.pages if choice.lease else []
            start = choice.lease.stored if choice.lease else 0
            read = choice.ids[start : start + (tokens or 1)]
            if not tokens:
                read = [*read, *choice.drafts[: size.tokens - 1]]
            inputs.ids[row, : len(read)] = read
            inputs.adapters[row] = choice.space
            inputs.positions[row] = np.arange(start, start + size.tokens)
            inputs.tables[row, : len(table)] = table
            # Who writes has every token scored, guesses with it; who reads its last.
            inputs.scored[row] = len(read) - 1 if tokens else np.arange(inputs.scored.shape[1])
        return inputs

    def _gather_changes(self, choices: Sequence[Choice], rows: int) -> Changes:
        size = self._config.vocab_size
        bias, times = np.zeros((rows, size), np.float32), np.zeros((rows, size), np.int32)
        penalties = np.tile(np.asarray([1, 0, 0], np.float32), (rows, 1))
        for row, choice in enumerate(choices):
            sampling, healing = choice.sampling, choice.answer.healing
            for token_id, added in sampling.logit_bias:
                bias[row, token_id] += added
            if healing is not None and (allowed := healing.find_allowed()) is not None:
                kept = bias[row, allowed]
                bias[row] = -np.inf
                bias[row, allowed] = kept
            if sampling.has_penalties:
                last = len(choice.ids) if sampling.penalized_tokens is None else sampling.penalized_tokens
                times[row] = np.bincount(choice.ids[max(len(choice.ids) - last, 0) :], minlength=size)
                penalties[row] = sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty
        return Changes(bias, times, *penalties.T)
