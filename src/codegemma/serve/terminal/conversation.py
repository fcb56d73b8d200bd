"""What was said so far in a terminal, what is attached to the next message, and which block `/run` means.

**In**: messages, attachments, answers.
**Out**: the turns that a speaker answers.
**Not**: the window: who answers leaves out what does not fit, and says so.
"""

from codegemma.errors import InputError
from codegemma.records import Turn
from codegemma.text.markdown import Fence, find_fences


class Conversation:
    """Turns that alternate, the user's first. A question without an answer waits: it can be asked again, and what is
    said next is joined to it."""

    def __init__(self, system: str = "") -> None:
        self._system = [Turn("system", system)] if system else []
        self._turns: list[Turn] = []
        self.attached: list[str] = []

    def ask(self, message: str) -> list[Turn]:
        """Add the user's message, with what is attached before it, and return what is to be answered."""
        waiting = [self._turns.pop().text] if self.has_question else []
        self._turns.append(Turn("user", "\n\n".join([*waiting, *self.attached, message])))
        self.attached = []
        return [*self._system, *self._turns]

    @property
    def has_question(self) -> bool:
        """Whether the last turn is a question that got no answer."""
        return bool(self._turns) and self._turns[-1].role == "user"

    def take_answer(self, text: str) -> None:
        """Add the answer; an empty one is none."""
        if text.strip():
            self._turns.append(Turn("model", text))

    def ask_again(self) -> list[Turn]:
        """Return what is to be answered anew: the question that waits, or the last one, whose answer is taken back.

        Raises:
            InputError: nothing was asked yet.
        """
        if not self._turns:
            raise InputError("nothing was asked yet that could be answered again")
        if not self.has_question:
            self._turns.pop()
        return [*self._system, *self._turns]

    def clear(self) -> None:
        """Begin anew."""
        self._turns, self.attached = [], []

    def find_block(self, number: str) -> Fence:
        """Find block `number` of the last answer, counted from 1; without a number, its last.

        Raises:
            InputError: no such block.
        """
        answers = [turn.text for turn in self._turns if turn.role == "model"]
        blocks = [block for block in find_fences(answers[-1]) if block.is_closed] if answers else []
        if not blocks:
            raise InputError("the last answer has no block of code to run")
        if not number:
            return blocks[-1]
        if not number.isdecimal() or not 1 <= int(number) <= len(blocks):
            raise InputError(f"the last answer has blocks 1 to {len(blocks)}; {number!r} is none of them")
        return blocks[int(number) - 1]

    def spell(self) -> str:
        """Spell the whole conversation as Markdown, to be kept."""
        names = {"user": "## You", "model": "## Model", "system": "## System"}
        return "\n\n".join(f"{names[turn.role]}\n\n{turn.text}" for turn in (*self._system, *self._turns)) + "\n"
