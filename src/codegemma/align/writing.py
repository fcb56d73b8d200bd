"""Asks a model for answers to problems, many at once, with the weights as they are.

**In**: parameters, problems, how answers are written, a seed.
**Out**: `Written` for each answer: prompt, ids and log-probabilities, and the text to judge.
**Not**: judging (`rewards.py`).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int64

from codegemma.align.exercises import Problem
from codegemma.align.objective import Laid
from codegemma.align.rewards import Answer
from codegemma.engine.rollout import Rollout, Writing, roll_out
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.model.score import score_tokens
from codegemma.text.chat_format import format_chat_prompt
from codegemma.text.tokenizer import Tokenizer

# Answers that are written at the same time: enough to fill a CPU's products, few enough for its cache.
_ROWS = 256
_rate = jax.jit(score_tokens, static_argnames=("config",))


class Written(NamedTuple):
    """An answer with the prompt before it."""

    prompt: tuple[int, ...]
    rollout: Rollout
    answer: Answer


class Writer:
    """Spells problems as prompts, and lets a policy answer them."""

    def __init__(self, config: GemmaConfig, tokenizer: Tokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer
        self._prompts: dict[str, tuple[int, ...]] = {}

    def write(
        self, params: Params, problems: Sequence[Problem], writing: Writing, key: Sequence[int]
    ) -> list[list[Written]]:
        """Let each problem be answered; the answers depend on the parameters, the problems and the key alone."""
        seeds = np.random.default_rng(key).integers(2**32, size=(len(problems), writing.answers), dtype=np.uint64)
        step = max(1, _ROWS // writing.answers)
        found: list[list[Written]] = []
        for start in range(0, len(problems), step):
            part = [self.spell(problem) for problem in problems[start : start + step]]
            # The last part is filled up: another number of rows would be compiled anew.
            full = [*part, *[part[-1]] * (step - len(part))] if start else part
            own = np.resize(seeds[start : start + step].ravel(), len(full) * writing.answers).tolist()
            rollouts = roll_out(params, self.config, full, writing, own)
            for place, prompt in enumerate(part):
                group = rollouts[place * writing.answers : (place + 1) * writing.answers]
                found.append([Written(prompt, rollout, self.read(rollout)) for rollout in group])
        return found

    def spell(self, problem: Problem) -> tuple[int, ...]:
        """Spell a problem as the prompt of a conversation."""
        prompt = self._prompts.get(problem.words)
        if prompt is None:
            prompt = self._prompts[problem.words] = tuple(format_chat_prompt(self.tokenizer, [problem.turn]))
        return prompt

    def read(self, rollout: Rollout) -> Answer:
        """Take an answer's text, without the token that ended it."""
        ids = rollout.ids[:-1] if rollout.has_ended else rollout.ids
        return Answer(self.tokenizer.decode(ids), len(rollout.ids), rollout.has_ended)


def find_in_order(key: tuple[int, ...], place: int, count: int) -> int:
    """Tell which of `count` things comes at a place: each comes once before one comes again, in a new order each time.

    >>> sorted(find_in_order((0,), place, 3) for place in range(3, 6))
    [0, 1, 2]
    """
    turn, number = divmod(place, count)
    return int(_shuffle((*key, turn), count)[number])


@functools.lru_cache(4)
def _shuffle(key: tuple[int, ...], count: int) -> Int64[np.ndarray, " count"]:
    return np.random.default_rng(key).permutation(count)


def rate_rows(params: Params, config: GemmaConfig, laid: Laid) -> Any:
    """Rate the answers' tokens; 0 elsewhere."""
    logprobs, _ = _rate(params, config, laid.ids, laid.segments, laid.positions)
    return np.asarray(logprobs) * laid.answer
