"""What the doors ask of the service and what they get back; the same for every protocol.

**In**: nothing.
**Out**: `InfillAsk`, `PlainAsk`, and the `Piece`s of an answer with a `Report` at the end of each choice.
**Not**: wire formats: each door has its own.
"""

from dataclasses import dataclass, field

from codegemma.records import Extent, Neighbor, Priority, Sampling, StopReason, TokenLogprob

_GREEDY = Sampling()
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
class Wishes:
    """How an answer is to be written; the fields of `records.Generation` that a client may set.

    `least_indent` ends the answer at a line, after its first, that is indented less. `model` is the name asked for: of
    an adapter, or anything else for the base.
    """

    max_new_tokens: int = 128
    sampling: Sampling = _GREEDY
    stop_strings: tuple[str, ...] = ()
    extent: Extent = Extent.OPEN
    choices: int = 1
    top_logprobs: int | None = None
    prompt_budget_s: float | None = None
    new_budget_s: float | None = None
    priority: Priority = Priority.KEYSTROKE
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
class Report:
    """Why an answer is as it is.

    `source` is `engine`, `typed` (an answer that was given before, and typed into since) or `shared` (an identical
    request was under way). `place` is `in place` or why the position is cold. `parts` counts the prompt's tokens by
    part; `neighbors` are the other files shown; `dropped` says what was left out of the prompt.
    """

    answer_id: str
    stop_reason: StopReason
    prompt_tokens: int = 0
    cached_tokens: int = 0
    evaluated_tokens: int = 0
    new_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    queue_s: float = 0.0
    prompt_s: float = 0.0
    new_s: float = 0.0
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
