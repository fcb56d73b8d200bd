"""Makes a conversation fit into a window, by one rule: the oldest exchange goes first, and it is said how much went.

**In**: turns that end with the user's, and how many tokens there is room for.
**Out**: `FittedChat`: the prompt's ids, and what was left out of it.
**Not**: summaries: a model that sums up badly would be believed.

A system turn and the last turn of the user stay. An exchange is a turn of the user's and its answer, so that what is
left still begins with the user's. Where the last turn alone is too long, its prompt loses its beginning.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from codegemma.records import Turn
from codegemma.text.chat_format import format_chat_prompt
from codegemma.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class FittedChat:
    """A prompt that fits, and what it cost: turns from the start, and tokens of the one turn that was too long."""

    ids: tuple[int, ...]
    dropped_turns: int = 0
    dropped_tokens: int = 0

    def tell(self) -> tuple[str, ...]:
        """Say what was left out, in words; nothing where all fits.

        >>> FittedChat((2,), dropped_turns=2).tell()
        ('2 oldest turns',)
        """
        turns = (f"{self.dropped_turns} oldest turns",) if self.dropped_turns else ()
        tokens = (f"{self.dropped_tokens} tokens at the conversation's start",) if self.dropped_tokens else ()
        return turns + tokens


def fit_chat(tokenizer: Tokenizer, turns: Sequence[Turn], room_tokens: int) -> FittedChat:
    """Spell the prompt after which the model answers the last turn, without the oldest exchanges that do not fit.

    Raises:
        InputError: turns that no prompt can be made of (`text/chat_format.py`).
    """
    head = 1 if turns and turns[0].role == "system" else 0
    exchanges = max(len(turns) - head - 1, 0) // 2

    def spell(dropped: int) -> list[int]:
        return format_chat_prompt(tokenizer, [*turns[:head], *turns[head + 2 * dropped :]])

    # A longer conversation has more tokens, so that the fewest exchanges to drop are found by halving.
    dropped = bisect_left(range(exchanges), True, key=lambda number: len(spell(number)) <= room_tokens)
    ids = spell(dropped)
    excess = max(len(ids) - room_tokens, 0)
    if excess:
        ids = [ids[0], *ids[excess + 1 :]]
    return FittedChat(tuple(ids), 2 * dropped, excess)
