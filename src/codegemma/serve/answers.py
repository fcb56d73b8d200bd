"""Remembers what was answered, so that whoever types it, or asks again, is answered without the engine.

**In**: finished answers of one session, and the text as it is now.
**Out**: the rest of an answer whose beginning has been typed since.
**Not**: answers of other sessions.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codegemma.records import Priority, StopReason
from codegemma.serve.asks import Wishes

_REMEMBERED = 16
# Of the texts around an answer so much is kept; a session's answers are about one file, and nearer changes matter.
_KEPT_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What was shown at the end of a text, of which the end and the length are kept.

    A prepared one was written before anybody asked.
    """

    end: str
    chars: int
    suffix: str
    wishes: Wishes
    completions: tuple[str, ...]
    stop_reasons: tuple[StopReason, ...]
    is_prepared: bool = False


def make_answer(
    text: str,
    suffix: str,
    wishes: Wishes,
    completions: Sequence[str],
    stop_reasons: Sequence[StopReason],
    *,
    is_prepared: bool = False,
) -> Answer:
    """Make an answer to what stands between `text` and `suffix`."""
    end = text[-_KEPT_CHARS:]
    return Answer(end, len(text), suffix[:_KEPT_CHARS], wishes, tuple(completions), tuple(stop_reasons), is_prepared)


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
            before = text[: answer.chars]
            if not before.endswith(answer.end) or len(before) < answer.chars or answer.suffix != suffix[:_KEPT_CHARS]:
                continue
            typed = text[answer.chars :]
            if _key(answer.wishes) != _key(wishes):
                continue
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
