"""Keeps a server full: so many requests are always under way, urgent ones first, and no answer is asked for twice.

**In**: requests; whoever answers one at a time, from any thread.
**Out**: futures of `Reply`, from the store where it is known; what all of them cost.
**Not**: waits between tries (`wire.py`) and the rate (`pace.py`).

Threads are daemons: whoever ends the process does not wait for a slow server.
"""

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from codegemma.evals.store import Store, hash_parts
from codegemma.recipe import from_plain
from codegemma.records import Completion, Request, Sampling, StopReason, Turn
from codegemma.synthesis.choices import AskChoices, Price
from codegemma.synthesis.outcomes import Drop, Reason
from codegemma.wire import ServerError

T = TypeVar("T")

# What asking again does not mend: no key, no right, no such model or address.
_FINAL_STATUS = frozenset({401, 402, 403, 404})
# So many requests in a row for each that is under way go unanswered until a server counts as gone.
_UNANSWERED_IN_A_ROW = 3
# What cannot be read is asked for again, less cold than this.
_AGAIN_TEMPERATURE = 0.5


class Answerer(Protocol):
    """A model behind a server: `engine.remote.RemoteCompleter`."""

    model_name: str

    def answer(self, request: Request) -> Completion:
        """Answer one request; from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and what it cost; `new_tokens` is `None` where the server does not tell. `is_known`: none was asked."""

    text: str
    is_cut: bool
    prompt_tokens: int
    new_tokens: int | None
    is_known: bool = False


@dataclass(slots=True)
class Spent:
    """What a model was asked, in all runs: `known` of the `replies` came from the store. Garbage is paid for too."""

    price: Price
    replies: int = 0
    known: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    uncounted: int = 0
    now: float = 0.0

    def add(self, reply: Reply) -> None:
        """Count a reply."""
        written = reply.new_tokens or 0
        self.replies += 1
        self.known += reply.is_known
        self.prompt_tokens += reply.prompt_tokens
        self.new_tokens += written
        self.uncounted += reply.new_tokens is None
        if not reply.is_known:
            self.now += self.price.add_up(reply.prompt_tokens, written)

    @property
    def cost(self) -> float:
        """What all replies cost."""
        return self.price.add_up(self.prompt_tokens, self.new_tokens)


class Asker:
    """One server, and the threads that ask it."""

    def __init__(self, answerer: Answerer, name: str, store: Store, in_flight: int) -> None:
        """Ask so many at a time. `name` says who answers, since an answer of another is none."""
        self._answerer, self.name, self._store = answerer, name, store
        self._waiting: queue.PriorityQueue[tuple[int, int, tuple[Request, Future[Reply]] | None]]
        self._waiting = queue.PriorityQueue()
        self._numbers = itertools.count()
        self.in_flight, self._unanswered = in_flight, 0
        self._lock = threading.Lock()
        self._busy_s = 0.0
        self._first_s = self._last_s = 0.0
        for number in range(in_flight):
            threading.Thread(target=self._work, name=f"asker-{number}", daemon=True).start()

    def ask(self, request: Request, *, is_urgent: bool = False) -> "Future[Reply]":
        """Queue a request; a known answer is there at once."""
        found: Future[Reply] = Future()
        known = self._store.find(self._key(request))
        if known is not None:
            found.set_result(replace(from_plain(Reply, known), is_known=True))
        else:
            self._waiting.put((0 if is_urgent else 1, next(self._numbers), (request, found)))
        return found

    @property
    def mean_in_flight(self) -> float:
        """How many requests were under way on average, between the first and the last."""
        return self._busy_s / max(self._last_s - self._first_s, 1e-9)

    def close(self) -> None:
        """Ask nothing more; a thread ends when its request does."""
        for _ in range(self.in_flight):
            self._waiting.put((-1, next(self._numbers), None))

    def _key(self, request: Request) -> bytes:
        return hash_parts("reply", self.name, request)

    def _work(self) -> None:
        while (asked := self._waiting.get()[2]) is not None:
            request, found = asked
            if not found.set_running_or_notify_cancel():
                continue
            began = time.perf_counter()
            try:
                found.set_result(self._ask_now(request))
            except Exception as error:  # whoever waits for the answer hears of it
                found.set_exception(error)
            self._note_time(began)

    def _note_time(self, began: float) -> None:
        with self._lock:
            self._last_s = time.perf_counter()
            self._first_s = self._first_s or began
            self._busy_s += self._last_s - began

    def _ask_now(self, request: Request) -> Reply:
        try:
            answer = self._answerer.answer(request)
        except ServerError as error:
            # Another question may fare better than one that is refused.
            self._unanswered = 0 if error.refuses_question else self._unanswered + 1
            is_gone = self._unanswered >= _UNANSWERED_IN_A_ROW * self.in_flight
            if error.status in _FINAL_STATUS or is_gone:
                raise GoneError(f"{error}; what was answered is kept: the same command goes on") from error
            raise
        self._unanswered = 0
        is_cut = answer.stop_reason in (StopReason.MAX_NEW_TOKENS, StopReason.CONTEXT_FULL)
        reply = Reply(answer.text, is_cut, answer.prompt_tokens, answer.new_tokens)
        self._store.keep(self._key(request), reply)
        return reply


class GoneError(ServerError):
    """A server that answers nobody any more, or will not."""


def spell_request(words: str, choices: AskChoices, seed: int) -> Request:
    """Ask a model in one turn."""
    sampling = Sampling(temperature=choices.temperature, seed=seed)
    turns = (Turn("user", words),)
    return Request("", "", mode=None, max_new_tokens=choices.max_new_tokens, sampling=sampling, turns=turns)


async def ask_until_read(
    asker: Asker, words: str, choices: AskChoices, seed: int, read: Callable[[str], T | Drop], spent: Spent, *,
    is_urgent: bool = False,
) -> T | Drop:  # fmt: skip
    """Ask with one sampling seed after another until an answer can be read; else tell what the last one lacks.

    Raises:
        GoneError: the server answers nobody any more.
    """
    found: T | Drop = Drop(Reason.NO_ANSWER)
    for number in range(choices.tries):
        # The same question at temperature 0 has the same answer.
        asked = choices if number == 0 else replace(choices, temperature=max(choices.temperature, _AGAIN_TEMPERATURE))
        request = spell_request(words, asked, seed * choices.tries + number)
        try:
            reply = await asyncio.wrap_future(asker.ask(request, is_urgent=is_urgent))
        except GoneError:
            raise
        except ServerError as error:
            found = Drop(Reason.NO_ANSWER, str(error))
            continue
        spent.add(reply)
        found = Drop(Reason.CUT_OFF, f"after {choices.max_new_tokens} tokens") if reply.is_cut else read(reply.text)
        if not isinstance(found, Drop):
            break
    return found
