"""What the doors ask of the service and what they get back; the same for every protocol.

**In**: nothing.
**Out**: `InfillAsk`, `PlainAsk`, and the `Piece`s of an answer with a `Report` at the end of each choice.
**Not**: wire formats: each door has its own.
"""

from dataclasses import dataclass, field

from codegemma.records import Generation, Neighbor, StopReason, TokenLogprob, Usage

_CUT_SHORT = (StopReason.PROMPT_BUDGET, StopReason.NEW_BUDGET, StopReason.CANCELLED)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name of the key (empty where none is needed), the address, and the door that was used."""

    key: str = ""
    host: str = ""
    route: str = ""

    @property
    def owner(self) -> str:
        """Whose sessions and answers these are; nobody is ever shown another owner's."""
        return f"{self.key}@{self.host}"


@dataclass(frozen=True, slots=True)
class Wishes(Generation):
    """How an answer is to be written: a `Generation` whose prompt, session and adapter the service fills in.

    `least_indent` ends the answer at a line, after its first, that is indented less. `model` is the name asked for: of
    an adapter, or anything else for the base.
    """

    prompt_ids: tuple[int, ...] = ()
    least_indent: int = 0
    model: str = ""


_DEFAULT = Wishes()


@dataclass(frozen=True, slots=True)
class InfillAsk:
    """Complete between `prefix` and `suffix`; `context` are texts that the client sent, the most useful last."""

    prefix: str
    suffix: str
    path: str | None = None
    language: str | None = None
    context: tuple[Neighbor, ...] = ()
    wishes: Wishes = _DEFAULT


@dataclass(frozen=True, slots=True)
class PlainAsk:
    """Continue a prompt that is spelled already. `dropped` says what did not fit into the window."""

    prompt_ids: tuple[int, ...]
    wishes: Wishes = _DEFAULT
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report(Usage):
    """What an answer cost, and why it is as it is.

    `source` is `engine`, `typed` (an answer that was given before, and typed into since), `shared` (an identical
    request was under way) or `none` (a file that no model is shown). `place` is `in place` or why the position is
    cold. `parts` counts the prompt's tokens by part; `neighbors` are the other files shown; `dropped` says what was
    left out of the prompt.
    """

    prompt_tokens: int = 0
    answer_id: str = ""
    stop_reason: StopReason = StopReason.CANCELLED
    source: str = "engine"
    place: str = ""
    mode: str = ""
    parts: tuple[tuple[str, int], ...] = ()
    neighbors: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    model: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the answer ended for a reason of its own: not for want of time, and nobody cancelled it."""
        return self.stop_reason not in _CUT_SHORT


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of choice number `choice`; its last has the report."""

    text: str
    choice: int = 0
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = field(default=(), repr=False)
    report: Report | None = None
