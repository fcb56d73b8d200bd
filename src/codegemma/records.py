"""What flows from a repository to a completion, in river order. Read this file first.

**In**: nothing of ours; the standard library and numpy only.
**Out**: one frozen record for every thing that crosses from one reach to the next.
**Not**: behaviour. A record that only one reach needs lives in that reach. `docs/river.md` says who makes
and reads each.

Axis letters, used everywhere: `B` rows, `L` tokens in a row, `D` embedding, `H` query heads, `K` key/value heads,
`A` head width, `F` feed-forward width, `V` vocabulary, `S` cache slots.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32

# --- corpus: a file that was read, and what became of it --------------------------------------------------------------


class SourceKind(StrEnum):
    """What a text is to a mixture. Synthetic is what a program or a model wrote, in a programming language or about it.

    Whether a file gets holes is another question: its language answers it (`text/languages.py`).
    """

    CODE = "code"
    MATHEMATICS = "mathematics"
    TEXT = "text"
    SYNTHETIC = "synthetic"


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
    a segment. `positions` starts at 0 in each segment.
    """

    ids: Int32[np.ndarray, "B L"]
    loss_weights: Float32[np.ndarray, "B L"]
    segments: Int32[np.ndarray, "B L"]
    positions: Int32[np.ndarray, "B L"]


# --- engine, serve, evals: a question and its answer ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbor:
    """Another file of the repository, shown before the current one: `path`, then `text`, as in training."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """Complete at the cursor between `prefix` and `suffix`. Text is text: a control token spelled in it stays text.

    `temperature` 0 is greedy. `seed` fixes the sampled answer.
    """

    prefix: str
    suffix: str
    path: str | None = None
    neighbors: tuple[Neighbor, ...] = ()
    mode: InfillMode = InfillMode.PSM
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


class StopReason(StrEnum):
    """Why generation ended."""

    CONTROL_TOKEN = "control_token"  # noqa: S105
    MAX_NEW_TOKENS = "max_new_tokens"
    CONTEXT_FULL = "context_full"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CompletionDelta:
    """The next piece of a streamed completion. Only the last has a `stop_reason`."""

    text: str
    token_ids: tuple[int, ...]
    stop_reason: StopReason | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: `text` without the control token that ended it."""

    text: str
    token_ids: tuple[int, ...]
    stop_reason: StopReason
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Score:
    """How a model rates given continuation tokens, in one teacher-forced pass.

    `logprobs[i]` is the natural log-probability of `continuation[i]`; `argmax_ids[i]` is what greedy decoding would
    write there. Where it is the continuation throughout, greedy decoding would write exactly this continuation.
    """

    logprobs: Float32[np.ndarray, " n"]
    argmax_ids: Int32[np.ndarray, " n"]


@runtime_checkable
class Completer(Protocol):
    """Whoever answers: the JAX engine here, llama.cpp or a remote server later."""

    def complete(self, request: Request) -> Iterator[CompletionDelta]:
        """Stream one completion; closing the iterator cancels it."""
        ...

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer many requests, in order, at the best throughput."""
        ...

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Rate `(prompt_ids, continuation_ids)` pairs. Raises `NotImplementedError` where a server cannot score."""
        ...
