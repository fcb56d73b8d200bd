"""What flows from a repository to a completion, in river order. Read this file first.

**In**: nothing of ours; the standard library and numpy only.
**Out**: one frozen record for every thing that crosses from one reach to the next.
**Not**: behaviour. A record that only one reach needs lives in that reach. `docs/river.md` says who makes
and reads each.

Axis letters, used everywhere: `B` rows, `L` tokens in a row, `D` embedding, `H` query heads, `K` key/value heads,
`A` head width, `F` feed-forward width, `V` vocabulary, `S` cache slots.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32

# --- corpus: a file that was read, and what became of it --------------------------------------------------------------


class SourceKind(StrEnum):
    """What a text is to a mixture. Synthetic is what a program or a model wrote, in a programming language or about it.
    A conversation's text is its turns (`text/chat_format.py`); `align` makes such packs, a corpus has none.

    Whether a file gets holes is another question: its language answers it (`text/languages.py`).
    """

    CODE = "code"
    MATHEMATICS = "mathematics"
    TEXT = "text"
    SYNTHETIC = "synthetic"
    CONVERSATION = "conversation"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of one repository, decoded.

    `path` is relative to the repository, with `/`. `blob` is git's SHA-1 of the file's bytes, whether or not the
    repository is a git one. `commit` is `None` for a plain folder. `text` keeps its line ends; `redactions` tell, as
    `kind:line`, where a pseudonym stands in place of personal data.
    """

    repo: str
    path: str
    language: str
    text: str
    blob: str
    license: str | None = None
    commit: str | None = None
    redactions: tuple[str, ...] = ()
    kind: SourceKind = SourceKind.CODE


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A file that is not trained on: which stage refused it, why, and the measured value behind the reason.

    `detail` never contains a secret: a rule's name and a line number, not the matched text.
    """

    repo: str
    path: str
    stage: str
    reason: str
    detail: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BuildFile:
    """What a repository says of its own modules, such as a `go.mod`: imports are linked by it, nobody trains on it."""

    repo: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that was dropped because another holds the same text, or almost: imports of it lead there."""

    repo: str
    path: str
    kept_repo: str
    kept_path: str


# --- pack: files that explain each other ------------------------------------------------------------------------------


class Split(StrEnum):
    """Which side of the held-out border a file lies on."""

    TRAIN = "train"
    HELDOUT = "heldout"


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file in its place in a pack, with where it may be cut.

    `natural_cuts` are sorted character offsets at which a suffix starts naturally (`text/syntax.py`); `block_starts`
    are sorted character offsets of top-level blocks, where a file longer than the window may be divided. `redactions`
    are the source file's.
    """

    path: str
    language: str
    text: str
    blob: str
    license: str | None
    natural_cuts: Int32[np.ndarray, " cuts"] = field(repr=False)
    block_starts: Int32[np.ndarray, " blocks"] = field(repr=False)
    redactions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pack:
    """Files of one repository and one kind in reading order: dependencies first, tests beside what they test."""

    pack_id: str
    repo: str
    commit: str | None
    split: Split
    files: tuple[PackedFile, ...]
    kind: SourceKind = SourceKind.CODE


# --- feed: what one training row is made of ---------------------------------------------------------------------------


class InfillMode(StrEnum):
    """The order of the parts. SPM is variant 2 of Bavarian et al. (2022), appendix D; SPM1 is their variant 1.

    Variant 2 reads prefix and middle as one text; variant 1 marks where the middle begins.
    """

    PSM = "psm"
    SPM = "spm"
    SPM1 = "spm1"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as the model reads them.

    `loss_weights[b, t]` weighs the prediction of `ids[b, t]` from what stands before it, and is 0 where nothing is
    predicted (`<bos>`, padding). `segments` is 0 on padding and counts packs from 1 in each row; attention stays within
    a segment. `positions` starts at 0 in each segment. `groups` says what each token is counted under when the loss is
    told apart (`feed/groups.py`); the model does not see it, and without it nothing is told apart.
    """

    ids: Int32[np.ndarray, "B L"]
    loss_weights: Float32[np.ndarray, "B L"]
    segments: Int32[np.ndarray, "B L"]
    positions: Int32[np.ndarray, "B L"]
    groups: Int32[np.ndarray, "B L"] | None = None


# --- engine, serve, evals: a question and its answer ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbor:
    """Another file of the repository, shown before the current one: `path`, then `text`, as in training."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy; `None` leaves every token in.

    In this order: `logit_bias` `(token_id, added)`, `repetition_penalty` (Keskar et al., 2019: divides what is above
    zero, multiplies the rest), `presence_penalty` and, for each time, `frequency_penalty` (subtracted), `temperature`,
    `top_k`, `top_p`, `min_p` (a share of the most probable token's). The penalties are those of tokens among the last
    `penalized_tokens` of prompt and answer; `None` counts all. `seed` fixes the answer, whatever else the engine does
    at the time.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalized_tokens: int | None = None

    @property
    def has_penalties(self) -> bool:
        """Whether what was written before changes what is chosen."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)


Role = Literal["system", "user", "model"]


class Turn(NamedTuple):
    """What one side of a conversation says."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """Complete at the cursor between `prefix` and `suffix`. Text is text: a control token spelled in it stays text.

    With `mode` `None` there is no hole: the text goes on from the end of `prefix`, and `suffix` is empty. With `turns`
    there is none either: the model answers the last of them, which is the user's, and `prefix` begins its answer. An
    answer ends where one of the `stop_strings` would begin.
    """

    prefix: str
    suffix: str
    path: str | None = None
    neighbors: tuple[Neighbor, ...] = ()
    mode: InfillMode | None = InfillMode.PSM
    max_new_tokens: int = 128
    sampling: Sampling = Sampling()
    turns: tuple[Turn, ...] = ()
    stop_strings: tuple[str, ...] = ()


class Priority(IntEnum):
    """Who waits for whom, the most urgent first: a keystroke for nobody, chat for keystrokes, batch work for both."""

    KEYSTROKE = 0
    CHAT = 1
    BATCH = 2


class Extent(StrEnum):
    """How far an answer may reach: anywhere, the line's end, the block's or the enclosing scope's (`text/stops.py`)."""

    OPEN = "open"
    LINE = "line"
    BLOCK = "block"
    SCOPE = "scope"


@dataclass(frozen=True, slots=True)
class StopRules:
    """What ends an answer before its budget does. What a rule cuts off is neither told nor counted as text.

    `strings` end it where one begins. `prefix` and `suffix` are the text around the cursor: the `extent` is judged by
    them, and an answer that begins to repeat the suffix ends there; with both empty only strings and control tokens
    rule. `control_tokens_end` is false only for whoever wants the ids after one; a control token is never told as text.
    """

    strings: tuple[str, ...] = ()
    extent: Extent = Extent.OPEN
    prefix: str = ""
    suffix: str = ""
    language: str | None = None
    control_tokens_end: bool = True


@dataclass(frozen=True, slots=True)
class Generation:
    """What an engine is asked for, in tokens: the whole prompt is given, nothing is added to it.

    `max_new_tokens` 0 reads the prompt and writes nothing, so that a later request finds it read. `healing` are bytes
    that the answer must start with: they were cut off the prompt's end, and are not told. `choices` share one reading
    of the prompt; choice `c` draws with seed `sampling.seed + c`. `top_logprobs` asks for log-probabilities and so many
    rivals. The budgets end the reading of the prompt, or the writing, after so many seconds; what is there by then is
    told. `lookup_ids` is text in which drafts are looked up besides the prompt; no answer depends on it. Requests of
    one `session` find what that session read. `adapter` names one that the engine holds.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int = 128
    sampling: Sampling = Sampling()
    stop: StopRules = StopRules()
    healing: bytes = b""
    choices: int = 1
    top_logprobs: int | None = None
    priority: Priority = Priority.KEYSTROKE
    prompt_budget_s: float | None = None
    new_budget_s: float | None = None
    lookup_ids: tuple[int, ...] = ()
    session: str | None = None
    adapter: str | None = None


class StopReason(StrEnum):
    """Why generation ended."""

    CONTROL_TOKEN = "control_token"  # noqa: S105
    STRING = "string"
    SUFFIX_REPEATED = "suffix_repeated"
    LINE_END = "line_end"
    BLOCK_END = "block_end"
    SCOPE_END = "scope_end"
    MAX_NEW_TOKENS = "max_new_tokens"
    CONTEXT_FULL = "context_full"
    PROMPT_BUDGET = "prompt_budget"
    NEW_BUDGET = "new_budget"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one choice cost. `prompt_tokens` = `cached_tokens` (read before) + `evaluated_tokens`, budgets aside.

    `accepted_tokens` of the `drafted_tokens` stood the check. `queue_s` is the wait, `prompt_s` the time to the first
    token after it, `new_s` the rest.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    evaluated_tokens: int = 0
    new_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    queue_s: float = 0.0
    prompt_s: float = 0.0
    new_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log-probability of a written token before sampling changed anything, and the most probable `(id, it)`."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class CompletionDelta:
    """The next piece of a streamed choice. Only its last has `stop_reason` and `usage`.

    `token_ids` are those that were written since the last piece, healing's and a cut-off text's among them: their text
    may be longer than `text`, which is what a reader should see.
    """

    text: str
    token_ids: tuple[int, ...]
    stop_reason: StopReason | None = None
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: `text` without the control token that ended it.

    `new_tokens` is what a server counted that tells no ids; `None` where it did not.
    """

    text: str
    token_ids: tuple[int, ...]
    stop_reason: StopReason
    prompt_tokens: int
    new_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """How a model rates given continuation tokens, in one teacher-forced pass.

    `logprobs[i]` is the natural log-probability of `continuation[i]`; `argmax_ids[i]` is what greedy decoding would
    write there. Where it is the continuation throughout, greedy decoding would write exactly this continuation.
    """

    logprobs: Float32[np.ndarray, " n"]
    argmax_ids: Int32[np.ndarray, " n"]


@runtime_checkable
class CompletionStream(Protocol):
    """Deltas as they come. Closing it before its end cancels the work behind it."""

    def __iter__(self) -> Iterator[CompletionDelta]:
        """Return itself."""
        ...

    def __next__(self) -> CompletionDelta:
        """Wait for the next piece."""
        ...

    def close(self) -> None:
        """Cancel; a second time does nothing."""
        ...


@runtime_checkable
class Generator(Protocol):
    """The token-level door of an engine: the JAX engine, llama.cpp. Thread-safe, many streams at once.

    `tokenizer` is a `text.tokenizer.Tokenizer`; `infill_modes` are the orders of the parts that the model knows, the
    one that suits it best first.
    """

    tokenizer: Any
    max_context_tokens: int
    infill_modes: tuple[InfillMode, ...]
    model_name: str

    def generate(self, generation: Generation) -> CompletionStream:
        """Queue a generation at once and stream its choices as they come.

        Closing the stream cancels within one decode step or prompt chunk. Closing the engine ends it as `CANCELLED`.

        Raises:
            InputError: a field out of its range, an id outside the vocabulary, a prompt longer than the context; said
                before anything is queued.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Tell `model`, `engine`, `context_tokens`, `slots`, `weights` (their type) and what else the engine has."""
        ...

    def close(self) -> None:
        """Cancel what runs and let go of the model."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Who can rate given tokens."""

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Rate `(prompt_ids, continuation_ids)` pairs."""
        ...


@runtime_checkable
class BatchStarter(Protocol):
    """A completer that takes any number of questions at once and answers them in the order that suits it."""

    def start(self, request: Request) -> Callable[[], Completion]:
        """Queue one as batch work; what is returned waits for the answer, and cancels when it is let go of."""
        ...


@runtime_checkable
class Completer(Protocol):
    """Whoever answers requests of text: a `Generator` through `engine/completer.py`, or a remote server."""

    def complete(self, request: Request) -> CompletionStream:
        """Stream one completion; closing the stream cancels it."""
        ...

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer many requests, in order, at the best throughput."""
        ...

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Rate `(prompt_ids, continuation_ids)` pairs. Raises `NotImplementedError` where a server cannot score."""
        ...
