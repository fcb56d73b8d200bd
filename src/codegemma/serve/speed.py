"""Measures how fast prompts are read, and says how long a cold one may be to be read in time.

**In**: evaluated tokens and seconds of finished requests.
**Out**: `Budgets` for a deadline.
**Not**: the deadline of a request under way: the engine holds that.
"""

import math

from codegemma.records import Usage
from codegemma.serve.choices import ServeChoices
from codegemma.serve.session import Budgets

# A shorter prompt tells the cost of a request, not of a token.
_LEAST_MEASURED_TOKENS = 24
_NEWEST_SHARE = 0.3
# Of a window, what is kept free for the answer at most.
_MAX_NEW_SHARE = 0.125


class SpeedMeter:
    """Prompt tokens a second, the newest measurements counting most; `None` before the first."""

    def __init__(self) -> None:
        self.tokens_per_s: float | None = None

    def take(self, usage: Usage) -> None:
        """Measure by a finished request."""
        if usage.evaluated_tokens < _LEAST_MEASURED_TOKENS or usage.prompt_s <= 0:
            return
        speed = usage.evaluated_tokens / usage.prompt_s
        old = speed if self.tokens_per_s is None else self.tokens_per_s
        self.tokens_per_s = old + _NEWEST_SHARE * (speed - old)

    def choose_budgets(
        self, choices: ServeChoices, max_context_tokens: int, max_new_tokens: int, deadline_s: float | None
    ) -> Budgets:
        """Share out what can be read before the deadline: each part shrinks alike, and nothing below the least, which
        is also what a speed that is not known yet allows. While nobody waits the deadline is `math.inf`.

        >>> meter = SpeedMeter()
        >>> meter.choose_budgets(ServeChoices(), 8192, 128, deadline_s=1.0)
        Budgets(prefix=100, suffix=25, context=66)
        >>> meter.take(Usage(prompt_tokens=400, evaluated_tokens=400, prompt_s=1.0))
        >>> meter.choose_budgets(ServeChoices(), 8192, 128, deadline_s=1.0)
        Budgets(prefix=208, suffix=52, context=139)
        """
        wanted = choices.prefix_tokens + choices.suffix_tokens + choices.context_tokens
        room = max_context_tokens - min(max_new_tokens, int(max_context_tokens * _MAX_NEW_SHARE)) - _FIXED_TOKENS
        total: float = min(wanted, max(room, 2))
        within_s = choices.cold_s if deadline_s is None else deadline_s
        # A model that reads 30 tokens a second must not be given 3,000 because nobody has measured it yet.
        in_time = math.inf if math.isinf(within_s) else (self.tokens_per_s or 0.0) * within_s
        total = min(total, max(in_time, choices.least_tokens))
        share = total / wanted
        return Budgets(
            prefix=max(int(choices.prefix_tokens * share), 1),
            suffix=max(int(choices.suffix_tokens * share), 1),
            context=int(choices.context_tokens * share),
        )


# Path, sentinels and separators.
_FIXED_TOKENS = 64
