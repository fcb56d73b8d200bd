"""Computes one step for rows of choices: integers of the scheduler become arrays, and arrays become chosen ids.

**In**: a model; `Choice`s with their pages.
**Out**: `Chosen`: what follows each scored token, with ratings where somebody asked for them.
**Not**: what the ids mean for an answer (`batcher.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from codegemma.engine.cache import Copy
from codegemma.engine.compute import StepInputs, copy_pages, run_step
from codegemma.engine.job import Choice
from codegemma.engine.sample import Changes, Rating, change_logits, choose_tokens, gather_sampling, rate_tokens
from codegemma.engine.shapes import DRAFT_TOKENS, Shapes, fit
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.gemma import Cache, Params, init_cache
from codegemma.model.layers import take_apart
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
        self._cache: Cache | None = None

    def reset(self) -> None:
        """Let go of all pages."""
        self._cache = None

    def warm(self) -> int:
        """Compile the shapes that editors meet, and tell how many."""
        sizes = list(self.shapes.list_warm())
        for rows, tokens, reach in sizes:
            places = tokens if tokens == DRAFT_TOKENS else 1
            self._run(self._make_inputs(rows, tokens, reach, places))
        return len(sizes)

    def run(self, choices: Sequence[Choice], tokens: int, copies: Sequence[Copy]) -> Chosen:
        """Copy pages, then read `tokens` of the one choice, or the newest id of each with its drafts (`tokens` 0)."""
        self._copy(copies)
        has_drafts = not tokens and any(choice.drafts for choice in choices)
        wanted = tokens or (DRAFT_TOKENS if has_drafts else 1)
        inputs = self._gather(choices, tokens, fit((1, *self.shapes.tokens), wanted), has_drafts=has_drafts)
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

    def _choose(self, choices: Sequence[Choice], logits: Float[Array, "B R V"]) -> Array:
        asked = [(choice.sampling, len(choice.answer.ids)) for choice in choices]
        asked += [(Sampling(), 0)] * (len(logits) - len(choices))
        sampling = gather_sampling(asked, self._config.vocab_size)
        if any(choice.needs_changes for choice in choices):
            logits = change_logits(logits, self._gather_changes(choices, len(logits)))
        is_ranked = any(choice.sampling.top_k or choice.sampling.top_p for choice in choices)
        ids: Array = choose_tokens(logits, sampling, is_ranked=is_ranked)
        return ids

    def _hold_cache(self) -> Cache:
        if self._cache is None:
            dtype = self._execution.activation_dtype
            self._cache = init_cache(self._config, self.pages, self.page_tokens, dtype)
        return self._cache

    def _copy(self, copies: Sequence[Copy]) -> None:
        for start in range(0, len(copies), _COPIES):
            part = [tuple(copy) for copy in copies[start : start + _COPIES]]
            # To do the last one again changes nothing.
            padded = np.asarray([*part, *[part[-1]] * (_COPIES - len(part))], np.int32)
            self._cache = copy_pages(self._hold_cache(), jnp.asarray(padded))

    def _make_inputs(self, rows: int, tokens: int, reach: int, places: int) -> StepInputs:
        """Make inputs in which nobody has a page: what is read in them is stored nowhere."""
        return StepInputs(
            np.zeros((rows, tokens), np.int32),
            np.zeros((rows, tokens), np.int32),
            np.full((rows, reach // self.page_tokens), self.pages, np.int32),
            np.zeros((rows, places), np.int32),
            np.zeros(rows, np.int32),
        )

    def _gather(self, choices: Sequence[Choice], tokens: int, width: int, *, has_drafts: bool) -> StepInputs:
        tables = [choice.lease.pages if choice.lease else [] for choice in choices]
        reach = fit(self.shapes.reaches, max(map(len, tables)) * self.page_tokens)
        rows = fit(self.shapes.rows, len(choices))
        inputs = self._make_inputs(rows, width, reach, width if has_drafts else 1)
        for row, (choice, table) in enumerate(zip(choices, tables, strict=True)):
            start = choice.lease.stored if choice.lease else 0
            read = choice.ids[start : start + tokens] if tokens else [choice.ids[start], *choice.drafts[: width - 1]]
            inputs.ids[row, : len(read)] = read
            inputs.adapters[row] = choice.space
            inputs.positions[row] = np.arange(start, start + width)
            inputs.tables[row, : len(table)] = table
            inputs.scored[row] = np.arange(width) if has_drafts else len(read) - 1
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
