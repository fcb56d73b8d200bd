"""A generation under way: its choices, their times and what they cost.

**In**: a `Generation`.
**Out**: `Job`, `Choice`, which the scheduler ranks, the device reads and the batcher writes on.
**Not**: the order of work. Nothing here knows JAX.
"""

import time
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from codegemma.engine.answer import Answer
from codegemma.engine.drafts import Drafts
from codegemma.engine.scheduler import Sequence
from codegemma.records import CompletionDelta, Generation, Sampling, StopReason, TokenLogprob, Usage

Told = SimpleQueue[CompletionDelta | BaseException | None]


@dataclass(eq=False, slots=True)
class Job:
    """One generation; the first of its choices reads the prompt for all. `told` is where its deltas go."""

    generation: Generation
    # The number of its adapter; 0 for none.
    space: int = 0
    told: Told = field(default_factory=SimpleQueue)
    choices: "list[Choice]" = field(default_factory=list)
    queued_at: float = field(default_factory=time.perf_counter)

    @property
    def is_timed(self) -> bool:
        """Whether time may end it."""
        return self.generation.prompt_budget_s is not None or self.generation.new_budget_s is not None

    @property
    def open_choices(self) -> "list[Choice]":
        """Choices that have not ended."""
        return [choice for choice in self.choices if choice.answer.stop_reason is None]


@dataclass(eq=False, slots=True, kw_only=True)
class Choice(Sequence):
    """One answer under way, with what it needs beside its pages."""

    job: Job
    answer: Answer
    guesses: Drafts | None = None
    evaluated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    started_at: float | None = None
    first_at: float | None = None

    @property
    def sampling(self) -> Sampling:
        """How its tokens are chosen: each choice has a seed of its own."""
        sampling = self.job.generation.sampling
        return replace(sampling, seed=sampling.seed + self.answer.choice) if self.answer.choice else sampling

    @property
    def needs_changes(self) -> bool:
        """Whether its logits are changed before it chooses."""
        sampling = self.job.generation.sampling
        owes = self.answer.healing is not None and bool(self.answer.healing.owed)
        return owes or sampling.has_penalties or bool(sampling.logit_bias)

    @property
    def must_be_watched(self) -> bool:
        """Whether a token can only be chosen, rated or timed once the one before it is known."""
        return self.needs_changes or self.job.is_timed or self.job.generation.top_logprobs is not None

    def take(self, token_id: int, logprob: TokenLogprob | None = None) -> bool:
        """Add a chosen id; true where the answer ends with it."""
        self.ids.append(token_id)
        return self.answer.take(token_id, logprob)

    def find_late(self, now: float) -> StopReason | None:
        """Tell which budget is used up, if one is."""
        generation = self.job.generation
        if self.first_at is None:
            budget, since, reason = generation.prompt_budget_s, self.job.queued_at, StopReason.PROMPT_BUDGET
        else:
            budget, since, reason = generation.new_budget_s, self.first_at, StopReason.NEW_BUDGET
        return reason if budget is not None and now - since >= budget else None

    def tell(self) -> None:
        """Hand on what is new; the last time with the cost."""
        is_over = self.answer.stop_reason is not None
        if delta := self.answer.tell(self._count_usage() if is_over else None):
            self.job.told.put(delta)

    def _count_usage(self) -> Usage:
        now = time.perf_counter()
        started_at = self.started_at or now
        first_at = self.first_at or now
        return Usage(
            prompt_tokens=len(self.job.generation.prompt_ids),
            cached_tokens=self.cached_tokens or 0,
            evaluated_tokens=self.evaluated_tokens,
            new_tokens=len(self.answer.ids),
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
            queue_s=started_at - self.job.queued_at,
            prompt_s=first_at - started_at,
            new_s=now - first_at,
        )
