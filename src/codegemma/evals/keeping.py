"""A completer that asks nothing twice: answers and ratings are kept, and a later run finds them.

**In**: any `Completer`, what names its model exactly, a `Store`.
**Out**: `KeptCompleter`, a `Completer` itself; what cannot be answered is an error beside the answers of others.
**Not**: an empty answer in the place of one that a server did not give.

A greedy answer hangs on no seed, so equal questions of many samples are asked once.
"""

import contextlib
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

from codegemma.errors import UserError
from codegemma.evals.store import Store, hash_parts
from codegemma.recipe import from_plain
from codegemma.records import (
    BatchStarter,
    Completer,
    Completion,
    CompletionStream,
    Request,
    Sampling,
    Score,
    StopReason,
)
from codegemma.wire import ServerError

# Under way at a time: enough for an engine to fill its rows, few enough that a kill loses little.
CHUNK_REQUESTS = 256
# A server that fails so often in a row is not asked any more: it is gone, and a later run goes on.
_MAX_FAILURES_IN_ROW = 8
# Prompts of one bucket differ in length by at most this factor.
_BUCKET_GROWTH = 1.5
# Where the answer's end is not the model's doing.
_CUT_OFF = (StopReason.MAX_NEW_TOKENS, StopReason.CONTEXT_FULL)
_UNREADABLE = "\ufffd"

Found = Completion | UserError
T = TypeVar("T")


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
        found = self.complete_each(requests)
        answers = [answer for answer in found if isinstance(answer, Completion)]
        for answer in found:
            if isinstance(answer, UserError):
                raise answer
        return answers

    def complete_each(self, requests: Sequence[Request]) -> list[Found]:
        """Answer each, or give the error that stands in its way.

        Raises:
            UserError: many in a row had no answer: the server is gone.
        """
        numbers = list(order_requests(range(len(requests)), lambda index: requests[index]))
        found = dict(zip(numbers, self.answer(requests[index] for index in numbers), strict=True))
        return [found[index][1] for index in range(len(requests))]

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Found]]:
        """Answer in the given order, each as soon as it is there; the next ones are under way meanwhile.

        Raises:
            UserError: many in a row had no answer: the server is gone.
        """
        waiting: deque[tuple[Request, bytes, _Answer]] = deque()
        under_way: dict[bytes, _Answer] = {}
        with self._open() as ask:
            for request in requests:
                key = self._name(request)
                if key not in under_way:
                    kept = self.find_by(key)
                    under_way[key] = _Answer(ask(request)) if kept is None else _Answer(found=kept)
                waiting.append((request, key, under_way[key]))
                if len(waiting) >= CHUNK_REQUESTS:
                    first, key, answer = waiting.popleft()
                    yield first, self._take(key, answer, under_way)
            while waiting:
                first, key, answer = waiting.popleft()
                yield first, self._take(key, answer, under_way)

    def _take(self, key: bytes, answer: "_Answer", under_way: "dict[bytes, _Answer]") -> Found:
        """Wait for an answer; one that was not there before is kept."""
        if answer.found is not None:
            under_way.pop(key, None)
            return answer.found
        found = answer.wait()
        under_way.pop(key, None)
        if isinstance(found, Completion):
            self._store.keep(key, found)
        is_silent = isinstance(found, ServerError) and not found.refuses_question
        self._failures_in_row = self._failures_in_row + 1 if is_silent else 0
        if self._failures_in_row >= _MAX_FAILURES_IN_ROW and isinstance(found, UserError):
            raise found
        return found

    @contextlib.contextmanager
    def _open(self) -> "Iterator[Callable[[Request], Callable[[], Found]]]":
        """Give what puts a question under way: at a server so many at a time, at an engine all."""
        completer = self._completer
        if self._at_once is not None:
            pool = ThreadPoolExecutor(self._at_once)
            try:
                yield lambda request: pool.submit(self._ask, request).result
            finally:
                pool.shutdown(cancel_futures=True)
        elif isinstance(completer, BatchStarter):
            yield lambda request: _start(completer, request)
        else:
            yield lambda request: partial(self._ask, request)

    def _ask(self, request: Request) -> Found:
        try:
            return mend_ends(self._completer.complete_all([request])[0])
        except UserError as error:
            return error

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
        try:
            return None if kept is None else from_plain(Completion, kept)
        except (ValueError, TypeError):  # kept by a version whose answers told something else
            return None

    def _name(self, request: Request) -> bytes:
        return hash_parts("answer", self._model, drop_seed(request))


class _Answer:
    """An answer that is waited for once, by however many asked the same."""

    def __init__(self, wait: Callable[[], Found] | None = None, found: Found | None = None) -> None:
        self._wait, self.found = wait, found

    def wait(self) -> Found:
        if self.found is None and self._wait is not None:
            self.found, self._wait = self._wait(), None
        assert self.found is not None  # noqa: S101 (one of the two is given)
        return self.found


def _start(completer: BatchStarter, request: Request) -> Callable[[], Found]:
    """Queue a question; a refusal is told like an answer."""
    try:
        wait = completer.start(request)
    except UserError as error:
        refused = error
        return lambda: refused

    def read() -> Found:
        try:
            return mend_ends(wait())
        except UserError as error:
            return error

    return read


def mend_ends(answer: Completion) -> Completion:
    r"""Drop half a character where an answer was cut off; other halves become U+FFFD, as for any reader of UTF-8.

    >>> mend_ends(Completion("ab\ufffd", (), StopReason.MAX_NEW_TOKENS, 1)).text
    'ab'
    """
    text = answer.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if answer.stop_reason in _CUT_OFF:
        text = text.removesuffix(_UNREADABLE)
    return answer if text == answer.text else dataclasses.replace(answer, text=text)


def order_requests(asked: Iterable[T], read: Callable[[T], Request]) -> Iterator[T]:
    """Order questions as an engine likes them, the longest of some hundred first; equal input, equal order.

    Within a bucket questions about one text stay neighbours, and an engine reads what they share once.
    """
    rest = iter(asked)
    while chunk := list(islice(rest, CHUNK_REQUESTS)):
        yield from sorted(chunk, key=lambda one: -_find_bucket(read(one)))


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
