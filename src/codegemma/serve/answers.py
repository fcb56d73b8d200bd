"""Remembers what was answered, so that whoever types it, or asks again, is answered without the engine.

**In**: finished answers of one session, and the text as it is now.
**Out**: the rest of an answer whose beginning has been typed since.
**Not**: answers of other sessions.
"""

from collections import deque
from dataclasses import dataclass, replace

from codegemma.records import Priority, StopReason
from codegemma.serve.asks import Wishes

_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What was shown at the end of `text`. A prepared one was written before anybody asked."""

    text: str
    suffix: str
    wishes: Wishes
    completions: tuple[str, ...]
    stop_reasons: tuple[StopReason, ...]
    is_prepared: bool = False


class Answers:
    """The newest answers of one session."""

    def __init__(self) -> None:
        self._answers: deque[Answer] = deque(maxlen=_REMEMBERED)

    def add(self, answer: Answer) -> None:
        """Remember an answer; an empty one is not worth it."""
        if any(answer.completions):
            self._answers.append(answer)

    def find(self, text: str, suffix: str, wishes: Wishes) -> Answer | None:
        """Find what remains of an answer: all of it where the same is asked again and the answer would be the same."""
        for answer in reversed(self._answers):
            if not text.startswith(answer.text) or answer.suffix != suffix or _key(answer.wishes) != _key(wishes):
                continue
            typed = text[len(answer.text) :]
            if not typed and not answer.is_prepared and wishes.sampling.temperature > 0:
                continue
            pairs = zip(answer.completions, answer.stop_reasons, strict=True)
            left = [(c[len(typed) :], reason) for c, reason in pairs if c.startswith(typed) and len(c) > len(typed)]
            if left:
                return replace(
                    answer, completions=tuple(c for c, _ in left), stop_reasons=tuple(reason for _, reason in left)
                )
        return None


def _key(wishes: Wishes) -> Wishes:
    """What an answer hangs on; it does not hang on budgets and priority."""
    return replace(wishes, prompt_budget_s=None, new_budget_s=None, priority=Priority.KEYSTROKE)
