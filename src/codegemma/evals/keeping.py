"""A completer that asks nothing twice: answers and ratings are kept, and a later run finds them.

**In**: any `Completer`, what names its model exactly, a `Store`.
**Out**: `KeptCompleter`, a `Completer` itself; what cannot be answered is an error beside the answers of others.
**Not**: an empty answer in the place of one that a server did not give.

A greedy answer hangs on no seed, so equal questions of many samples are asked once.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from codegemma.errors import UserError
from codegemma.evals.store import Store, hash_parts
from codegemma.recipe import from_plain
from codegemma.records import Completer, Completion, CompletionStream, Request, Sampling, Score

# Asked for together: enough for an engine to fill its rows, few enough that a kill loses little.
CHUNK_REQUESTS = 256
# A server that fails so often in a row is not asked any more: it is gone, and a later run goes on.
_MAX_FAILURES_IN_ROW = 8
# Prompts of one bucket differ in length by at most this factor.
_BUCKET_GROWTH = 1.5


class KeptCompleter:
    """A completer with a memory. `at_once` is how many questions a server takes at a time; an engine takes all."""

    def __init__(self, completer: Completer, store: Store, model: str, at_once: int | None = None) -> None:
        """Take a completer, and what its answers hang on besides the question: the weights, or a server's model."""
        self._completer, self._store, self._model, self._at_once = completer, store, model, at_once
        self._failures_in_row = 0

    def complete(self, request: Request) -> CompletionStream:
        """Stream an answer as the completer does; nothing is kept."""
        return self._completer.complete(request)

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer all; the first error is raised when all others have their answers.

        Raises:
            UserError: a request that is refused or has no answer.
        """
        found: list[Completion] = []
        for start in range(0, len(requests), CHUNK_REQUESTS):
            for answer in self.complete_each(requests[start : start + CHUNK_REQUESTS]):
                if isinstance(answer, UserError):
                    raise answer
                found.append(answer)
        return found

    def complete_each(self, requests: Sequence[Request]) -> list[Completion | UserError]:
        """Answer each, or give the error that stands in its way.

        Raises:
            UserError: many in a row had no answer: the server is gone.
        """
        keys = [self._name(request) for request in requests]
        found: dict[bytes, Completion | UserError] = {
            key: kept for key in dict.fromkeys(keys) if (kept := self.find_by(key)) is not None
        }
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in found}
        # Stable: within a bucket questions about one text stay neighbours, and an engine reads what they share once.
        ordered = sorted(missing, key=lambda key: -_find_bucket(missing[key]))
        for key, answer in zip(ordered, self._ask([missing[key] for key in ordered]), strict=False):
            found[key] = answer
            if isinstance(answer, Completion):
                self._store.keep(key, answer)
                self._failures_in_row = 0
                continue
            self._failures_in_row += 1
            if self._failures_in_row >= _MAX_FAILURES_IN_ROW:
                raise answer
        return [found[key] for key in keys]

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Rate `(prompt_ids, continuation_ids)` pairs.

        Raises:
            NotImplementedError: the completer cannot.
        """
        keys = [hash_parts("score", self._model, [list(map(int, part)) for part in item]) for item in items]
        found = {key: _read_score(kept) for key in keys if (kept := self._store.find(key)) is not None}
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in found}
        for key, score in zip(missing, self._completer.score(list(missing.values())), strict=True):
            found[key] = score
            self._store.keep(key, _spell_score(score))
        return [found[key] for key in keys]

    def find(self, request: Request) -> Completion | None:
        """Give the answer that was kept, if there is one."""
        return self.find_by(self._name(request))

    def find_by(self, key: bytes) -> Completion | None:
        """Give the answer under a key."""
        kept = self._store.find(key)
        return None if kept is None else from_plain(Completion, kept)

    def _name(self, request: Request) -> bytes:
        return hash_parts("answer", self._model, drop_seed(request))

    def _ask(self, requests: Sequence[Request]) -> Iterator[Completion | UserError]:
        """Ask one by one where one may fail, else all together."""
        if self._at_once is not None:
            with ThreadPoolExecutor(self._at_once) as pool:
                try:
                    yield from pool.map(self._ask_one, requests)
                finally:
                    pool.shutdown(cancel_futures=True)
            return
        try:
            yield from self._completer.complete_all(requests)
        except UserError:
            yield from map(self._ask_one, requests)

    def _ask_one(self, request: Request) -> Completion | UserError:
        try:
            return self._completer.complete_all([request])[0]
        except UserError as error:
            return error


def drop_seed(request: Request) -> Request:
    """Take the seed from a greedy request: the answer does not hang on it."""
    sampling = request.sampling
    if sampling.temperature != 0 or sampling.seed == 0:
        return request
    return dataclasses.replace(request, sampling=dataclasses.replace(sampling, seed=Sampling().seed))


def _find_bucket(request: Request) -> int:
    chars = len(request.prefix) + len(request.suffix) + sum(len(part) for turn in request.turns for part in turn)
    return int(math.log(chars + 1, _BUCKET_GROWTH))


def _spell_score(score: Score) -> bytes:
    return score.logprobs.astype("<f4").tobytes() + score.argmax_ids.astype("<i4").tobytes()


def _read_score(kept: bytes) -> Score:
    half = len(kept) // 2
    return Score(np.frombuffer(kept[:half], "<f4"), np.frombuffer(kept[half:], "<i4"))
