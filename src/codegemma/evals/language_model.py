"""Our models as lm-evaluation-harness sees one: what it asks goes through a `Completer`. Needs the extra `language`.

**In**: a `Subject`; requests of the harness.
**Out**: `HarnessModel`, an `lm_eval.api.model.TemplateLM`.
**Not**: tasks, prompts, shots and metrics: those are the harness's own (`language_suite.py`).

Each prompt begins with exactly one `<bos>`: without one a Gemma gets next to nothing right, and a second costs some.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from codegemma.evals.examination import Examination
from codegemma.evals.scoring import CHUNK_HOLES
from codegemma.records import Request, Sampling, Score
from codegemma.text.control_tokens import BOS_ID, EOS_ID

# What the harness gives an answer whose task does not say.
_USUAL_NEW_TOKENS = 256

Pair = tuple[tuple[int, ...], tuple[int, ...]]


class HarnessModel(TemplateLM):  # type: ignore[misc]  # the harness is not typed
    """A subject behind the harness's interface; `shortened` counts prompts that did not fit the window.

    `lacking` says of items whose question was refused why.
    """

    def __init__(self, exam: Examination) -> None:
        """Hold who is asked."""
        super().__init__()
        self._exam, self._subject, self._on_progress = exam, exam.subject, exam.on_progress
        self.shortened = 0
        self.lacking: dict[str, str] = {}

    @property
    def eot_token_id(self) -> int:
        """What ends a text."""
        return EOS_ID

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it."""
        return BOS_ID

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Spell a text after `<bos>`; without it where the harness says so."""
        ids: list[int] = self._subject.tokenizer.encode(string).tolist()
        return ids if add_special_tokens is False else [BOS_ID, *ids]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Rate continuations: natural log-probability, and whether greedy decoding would write them."""
        rated: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return rated

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = [self._fit(context, continuation) for _, context, continuation in requests]
        scores = self._score([pair for pair in pairs if pair is not None])
        return [(float("-inf"), False) if pair is None else _sum_up(pair, scores[pair]) for pair in pairs]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002
        """Rate whole texts, in windows that follow each other where one does not hold the text."""
        owners: list[int] = []
        pairs: list[Pair] = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            # Two positions less: the window counts what is rated, and ours begin with <bos> before the token that the
            # harness goes on from.
            windows = get_rolling_token_windows(ids, BOS_ID, self._subject.max_context_tokens - 2, 1)
            for context, continuation in map(make_disjoint_window, windows):
                pairs.append((_begin(context), tuple(continuation)))
                owners.append(number)
        scores, sums = self._score(pairs), [0.0] * len(requests)
        for owner, pair in zip(owners, pairs, strict=True):
            sums[owner] += _sum_up(pair, scores[pair])[0]
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002
        """Write on from each context until one of its stop strings, a control token or the budget.

        A question that is refused gets an empty text, for the harness wants one, and is told in `lacking`.
        """
        asked = {name_item(request): self._ask(*request.args) for request in requests}
        answers, self.lacking = self._exam.ask(asked, "generate")
        return [answers[name].text if (name := name_item(request)) in answers else "" for request in requests]

    def _ask(self, context: str, options: dict[str, Any]) -> Request:
        until = options.get("until") or []
        budget = next((int(options[n]) for n in ("max_gen_toks", "max_new_tokens") if n in options), _USUAL_NEW_TOKENS)
        window = self._subject.max_context_tokens
        # A small window gives a quarter, so that the prompt keeps its room.
        max_new_tokens = min(budget, window // 4)
        self.shortened += len(self.tok_encode(context)) > window - max_new_tokens
        temperature = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
        return Request(
            context,
            "",
            mode=None,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=temperature, top_p=options.get("top_p") if temperature else None),
            stop_strings=tuple([until] if isinstance(until, str) else until),
        )

    def _fit(self, context: Sequence[int], continuation: Sequence[int]) -> Pair | None:
        """Drop what lies the furthest back, behind `<bos>`; `None` where not even the continuation has room."""
        room = self._subject.max_context_tokens - len(continuation)
        if len(context) > room:
            self.shortened += 1
            if room < 1:
                return None
            context = [BOS_ID, *context[len(context) - room + 1 :]]
        return tuple(context), tuple(continuation)

    def _score(self, pairs: Sequence[Pair]) -> dict[Pair, Score]:
        """Rate each different pair once, those of like length together."""
        order = sorted(dict.fromkeys(pairs), key=lambda pair: (len(pair[0]) + len(pair[1]), pair))
        scores: dict[Pair, Score] = {}
        self._on_progress("score", 0, len(order))
        for chunk in _divide(order):
            scores |= zip(chunk, self._subject.completer.score(chunk), strict=True)
            self._on_progress("score", len(scores), len(order))
        return scores


def name_item(request: Instance) -> str:
    """Name the item of a request: its task, and its place there."""
    return f"{request.task_name}:{request.doc_id}"


def _begin(context: Sequence[int]) -> tuple[int, ...]:
    return tuple(context) if context[:1] == [BOS_ID] else (BOS_ID, *context)


def _divide(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    for start in range(0, len(pairs), CHUNK_HOLES):
        yield pairs[start : start + CHUNK_HOLES]


def _sum_up(pair: Pair, score: Score) -> tuple[float, bool]:
    return float(score.logprobs.sum(dtype=float)), bool((score.argmax_ids == list(pair[1])).all())
