"""Puts a completer before holes: thousands rated in one teacher-forced pass, a few hundred written out greedily.

**In**: a `Subject` (completer, its tokenizer, its window) and holes.
**Out**: one `HoleResult` per hole, system and mode, kept so that systems can be compared hole by hole later.
**Not**: means and intervals (`measure.py`).
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.heldout import Hole
from codegemma.records import Completer, InfillMode, Request, Turn
from codegemma.runner import Progress, ignore_progress
from codegemma.text.chat_format import format_chat_prompt
from codegemma.text.control_tokens import EOS_ID, FILE_SEPARATOR_ID
from codegemma.text.infill_format import format_prompt
from codegemma.text.tokenizer import Tokenizer
from codegemma.text.window import fit_request

# Holes handed to the completer at once: enough for it to batch by length, few enough to show progress.
CHUNK_HOLES = 256


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is examined, and in which orders of the parts: those that it was trained on.

    `fingerprint` names the weights, or a server's model, exactly enough that answers of a former run may be taken for
    its own; empty, none are. `at_once` is how many questions a server takes at a time, `None` an engine that takes all.
    """

    completer: Completer
    tokenizer: Tokenizer
    max_context_tokens: int
    infill_modes: tuple[InfillMode, ...]
    fingerprint: str = ""
    at_once: int | None = None

    def reserve_tokens(self, choices: EvalChoices) -> int:
        """Room kept for the middle: what was chosen, but never more than an eighth of a small window."""
        return min(choices.reserved_tokens, self.max_context_tokens // 8)

    def holds(self, turns: Sequence[Turn], new_tokens: int) -> bool:
        """Tell whether the window holds a conversation and an answer of so many tokens."""
        return len(format_chat_prompt(self.tokenizer, turns)) + new_tokens <= self.max_context_tokens


@dataclass(frozen=True, slots=True)
class HoleResult:
    """How one system did on one hole; `None` where it was not measured.

    The matches and `bits` come from teacher forcing (of a baseline: from its answer or its distribution), the
    `generated_` fields and `edit_similarity` from text that was written, `tests_passed` from the repository's own tests
    with that text in place. `mode` is `None` for a system without modes.
    """

    hole_id: str
    repo: str
    path: str
    kind: str
    system: str
    mode: InfillMode | None
    middle_bytes: int
    exact_match: bool | None = None
    line_match: bool | None = None
    bits: float | None = None
    bits_with_stop: float | None = None
    generated_text: str | None = None
    generated_match: bool | None = None
    edit_similarity: float | None = None
    tests_passed: bool | None = None


# Makes the request of a hole in a mode that leaves so many tokens free, or none where there is no room.
FitHole = Callable[[Hole, InfillMode, int], Request | None]


def start_result(hole: Hole, system: str, mode: InfillMode | None = None) -> HoleResult:
    """Open a result in which nothing is measured yet."""
    return HoleResult(hole.hole_id, hole.repo, hole.path, hole.kind, system, mode, len(hole.middle.encode()))


def score_holes(
    subject: Subject,
    holes: Sequence[Hole],
    mode: InfillMode,
    choices: EvalChoices,
    system: str = "model",
    on_progress: Progress = ignore_progress,
    *,
    fit: FitHole | None = None,
) -> list[HoleResult]:
    """Rate the true middle of each hole in one teacher-forced pass.

    `exact_match`: at each step, given the true tokens before it, the most probable token is the next token of
    `encode(middle)`, and after the last one it is a file separator or `<eos>`. Greedy decoding would then write exactly
    this middle and stop. The converse does not hold: decoding may spell the same text in other tokens, so generation
    can only match more often. `line_match` is also satisfied by a line end after the last token, as an editor is that
    shows one line, and as the infilling benchmarks are that cut an answer there.

    `bits` is the sum of -log2 p over the middle's tokens, `bits_with_stop` adds the file separator's.
    A hole whose middle does not fit beside any prompt is no match and has no bits. `fit` makes the request of a hole
    that keeps so many tokens free; by default, the text around the cursor alone.
    """
    results: list[HoleResult] = []
    on_progress(f"score {mode}", 0, len(holes))
    for start in range(0, len(holes), CHUNK_HOLES):
        results += _score_chunk(subject, holes[start : start + CHUNK_HOLES], mode, choices, system, fit)
        on_progress(f"score {mode}", len(results), len(holes))
    return results


def _score_chunk(
    subject: Subject, holes: Sequence[Hole], mode: InfillMode, choices: EvalChoices, system: str, fit: FitHole | None
) -> list[HoleResult]:
    items: dict[int, tuple[list[int], list[int]]] = {}
    reserved_tokens = subject.reserve_tokens(choices)
    for index, hole in enumerate(holes):
        middle: list[int] = subject.tokenizer.encode(hole.middle).tolist()
        if prompt := _spell_prompt(subject, hole, mode, max(reserved_tokens, len(middle) + 1), fit):
            items[index] = (prompt, [*middle, FILE_SEPARATOR_ID])
    scores = dict(zip(items, subject.completer.score(list(items.values())), strict=True))
    results = [
        dataclasses.replace(start_result(hole, system, mode), exact_match=False, line_match=False) for hole in holes
    ]
    for index, score in scores.items():
        has_middle = bool((score.argmax_ids[:-1] == items[index][1][:-1]).all())
        after = int(score.argmax_ids[-1])
        # In training a file ends with either.
        ends = after in (FILE_SEPARATOR_ID, EOS_ID)
        results[index] = dataclasses.replace(
            results[index],
            exact_match=has_middle and ends,
            line_match=has_middle and (ends or subject.tokenizer.decode_bytes([after])[:1] in (b"\n", b"\r")),
            bits=-float(score.logprobs[:-1].sum(dtype=float)) / math.log(2),
            bits_with_stop=-float(score.logprobs.sum(dtype=float)) / math.log(2),
        )
    return results


def _spell_prompt(
    subject: Subject, hole: Hole, mode: InfillMode, reserved_tokens: int, fit: FitHole | None
) -> list[int] | None:
    if fit is None:
        asked = Request(hole.prefix, hole.suffix, hole.path, mode=mode, max_new_tokens=reserved_tokens)
        request = fit_window(subject, asked)
    else:
        request = fit(hole, mode, reserved_tokens)
    if request is None:
        return None
    return format_prompt(
        subject.tokenizer,
        prefix=request.prefix,
        suffix=request.suffix,
        mode=mode,
        path=request.path,
        neighbors=request.neighbors,
    )


def fit_window(subject: Subject, request: Request) -> Request | None:
    """Shorten the text around the cursor to the window; `None` where even the path leaves no room for it."""
    try:
        return fit_request(request, subject.tokenizer, subject.max_context_tokens - request.max_new_tokens)
    except InputError:
        return None


def read_first_line(text: str) -> str:
    """Keep what single-line scores compare: the text before the first line end, without trailing white space.

    >>> read_first_line("return x  \\n    y = 1")
    'return x'
    """
    # Not splitlines: it also breaks at form feeds and other characters that lie within a line of code.
    return re.split(r"[\r\n]", text, maxsplit=1)[0].rstrip()


def add_text(result: HoleResult, truth: str, text: str) -> HoleResult:
    """Compare a written line with the truth: equality, and 1 - edit distance / longer length in characters.

    >>> empty = HoleResult("id", "repo", "a.py", "line", "model", None, middle_bytes=8)
    >>> add_text(empty, "return x", "return y").edit_similarity
    0.875
    """
    return dataclasses.replace(
        result,
        generated_text=text,
        generated_match=text == truth.rstrip(),
        edit_similarity=Levenshtein.normalized_similarity(text, truth.rstrip()),
    )
