"""Carries out what the scheduler plans, one step after the other, in a thread that lives as long as there is work.

**In**: `Generation`s that were checked; a `Device` that computes steps.
**Out**: their answers, told as they are written.
**Not**: tensors (`device.py`), and who comes next (`scheduler.py`).

All but the two inboxes belongs to the thread. Between any two steps it hears who came, who left and whose time is up.
"""

import atexit
import threading
import time
import weakref
from collections import deque

from codegemma.engine.answer import Answer
from codegemma.engine.cache import PageCache
from codegemma.engine.device import Chosen, Device
from codegemma.engine.drafts import Drafts
from codegemma.engine.job import Choice, Job
from codegemma.engine.scheduler import Scheduler, Step
from codegemma.engine.shapes import BLOCK_TOKENS, DRAFT_TOKENS, MAX_DRAFTING_ROWS, MIN_BLOCK_ROWS, SHORT_TOKENS
from codegemma.engine.stream import Stream
from codegemma.records import Generation, StopReason, TokenLogprob
from codegemma.text.tokenizer import Tokenizer


class Batcher:
    """The loop around one device."""

    def __init__(self, device: Device, tokenizer: Tokenizer, max_context_tokens: int) -> None:
        """Start nothing: the thread comes with the first job."""
        self._device = device
        self._tokenizer = tokenizer
        self._max_context_tokens = max_context_tokens
        self._scheduler = self._make_scheduler()
        self._jobs: set[Job] = set()
        self._timed: set[Job] = set()
        self._lock = threading.Lock()
        self._arrived: deque[Job] = deque()
        self._left: deque[Job] = deque()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        _RUNNING.add(self)

    def submit(self, generation: Generation, space: int = 0) -> Stream:
        """Queue a generation, `space` being its adapter; the thread is started where it had nothing to do."""
        job = Job(generation, space)
        with self._lock:
            self._arrived.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="codegemma-engine", daemon=True)
                self._thread.start()
        return Stream(job.told, generation.choices, lambda: self._left.append(job))

    def close(self) -> None:
        """Cancel whatever runs, tell it, and wait for the thread."""
        with self._lock:
            self._is_closing = self._thread is not None
            thread = self._thread
        if thread is not None:
            thread.join()

    def count_work(self) -> dict[str, int]:
        """Count sequences that are active and that wait, and pages that can be had."""
        scheduler = self._scheduler
        return {
            "active": len(scheduler.active),
            "waiting": len(scheduler.waiting) + len(self._arrived),
            "available_pages": scheduler.cache.available_pages,
        }

    def _make_scheduler(self) -> Scheduler:
        cache = PageCache(self._device.pages, self._device.page_tokens)
        shapes = self._device.shapes
        made = Scheduler(cache, shapes.rows[-1], shapes.chunk_tokens)
        if self._device.writes_blocks:
            made.block_tokens, made.min_block_rows = BLOCK_TOKENS, MIN_BLOCK_ROWS
            made.short_tokens = SHORT_TOKENS
        return made

    def _run(self) -> None:
        while True:
            with self._lock:
                if not (self._arrived or self._jobs):
                    self._left.clear()
                    self._is_closing = False
                    self._thread = None
                    return
            try:
                self._run_once()
            except Exception as error:  # whatever it is, those who wait must hear of it
                self._fail(error)

    def _run_once(self) -> None:
        while self._arrived:
            self._start(self._arrived.popleft())
        while self._left:
            self._end(self._left.popleft(), StopReason.CANCELLED)
        if self._is_closing:
            for job in list(self._jobs):
                self._end(job, StopReason.CANCELLED)
        now = time.perf_counter()
        for job in list(self._timed):
            for choice in job.open_choices:
                if reason := choice.find_late(now):
                    self._finish(choice, reason)
        step = self._scheduler.plan()
        if step is not None:
            self._carry_out(step)

    def _start(self, job: Job) -> None:
        self._jobs.add(job)
        if job.is_timed:
            self._timed.add(job)
        generation = job.generation
        for number in range(generation.choices):
            answer = Answer(generation, number, self._tokenizer, self._max_context_tokens)
            choice = Choice(list(generation.prompt_ids), generation.priority, job=job, answer=answer, space=job.space)
            job.choices.append(choice)
        if len(generation.prompt_ids) >= self._max_context_tokens:
            self._end(job, StopReason.CONTEXT_FULL)
        else:
            self._scheduler.add(job.choices[0])

    def _carry_out(self, step: Step) -> None:
        choices = [choice for choice in step.sequences if isinstance(choice, Choice)]
        now = time.perf_counter()
        for choice in choices:
            choice.started_at = choice.started_at or now
        chosen = self._device.run(choices, step.tokens, step.copies, step.block_tokens)
        for row, choice in enumerate(choices):
            if step.tokens:
                self._hear_reader(choice, min(step.tokens, choice.unread_tokens), chosen, row)
                continue
            drafts = choice.drafts if chosen.ids.shape[1] > 1 else []
            # A block was read on with what it wrote: all of it stands, up to where the answer ends.
            self._hear_writer(choice, chosen, row, drafts if step.block_tokens == 1 else chosen.ids[row, :-1].tolist())

    def _hear_reader(self, choice: Choice, tokens: int, chosen: Chosen, row: int) -> None:
        self._scheduler.note_stored(choice, tokens)
        choice.evaluated_tokens += tokens
        if not choice.unread_tokens:
            self._go_on(choice, self._take(choice, chosen, row, []))

    def _hear_writer(self, choice: Choice, chosen: Chosen, row: int, read: list[int]) -> None:
        """Take the chosen token, and those after it for as long as what was `read` for them was right."""
        choice.evaluated_tokens += choice.first_at is None
        taken = self._take(choice, chosen, row, read)
        accepted = max(taken - 1, 0)
        self._scheduler.note_stored(choice, 1 + accepted)
        if choice.drafts and read and choice.guesses is not None:
            choice.drafted_tokens += len(read)
            choice.accepted_tokens += accepted
            choice.guesses.note(len(read), accepted)
        self._go_on(choice, taken)

    def _take(self, choice: Choice, chosen: Chosen, row: int, drafts: list[int]) -> int:
        """Take ids up to the first that no draft foresaw, or that ends the answer; tell how many."""
        if choice.answer.max_tokens == 0:
            choice.answer.end(StopReason.MAX_NEW_TOKENS)
            return 0
        for place in range(len(drafts) + 1):
            token_id = int(chosen.ids[row, place])
            is_over = choice.take(token_id, _rate(choice, chosen, row, place))
            if is_over or place == len(drafts) or drafts[place] != token_id:
                return place + 1
        raise AssertionError("unreachable: the last place always returns")

    def _go_on(self, choice: Choice, taken: int) -> None:
        is_first = choice.first_at is None
        if is_first:
            choice.first_at = time.perf_counter()
            if choice.answer.choice == 0:
                self._scheduler.fork(choice, choice.job.choices[1:])
        if choice.answer.stop_reason is not None:
            self._finish(choice)
            return
        choice.tell()
        self._propose(choice, taken)

    def _propose(self, choice: Choice, taken: int) -> None:
        """Guess what comes next, where a guess can be checked; where none is made, a block may be written."""
        choice.drafts = []
        choice.left_tokens = choice.answer.max_tokens - len(choice.answer.ids)
        choice.is_watched = choice.must_be_watched
        if len(self._scheduler.active) > MAX_DRAFTING_ROWS or choice.needs_changes:
            choice.guesses = None
            return
        if choice.guesses is None:
            room = choice.answer.max_tokens + DRAFT_TOKENS
            choice.guesses = Drafts(choice.job.generation.lookup_ids, choice.ids, room)
        else:
            choice.guesses.add(choice.ids[-taken:])
        choice.drafts = choice.guesses.propose(min(DRAFT_TOKENS, choice.left_tokens) - 1)

    def _end(self, job: Job, reason: StopReason) -> None:
        for choice in job.open_choices:
            self._finish(choice, reason)

    def _finish(self, choice: Choice, reason: StopReason | None = None) -> None:
        """Tell the end of a choice, whose own it is or that of `reason`."""
        if reason is not None:
            choice.answer.end(reason)
        self._scheduler.remove(choice)
        choice.tell()
        if not choice.job.open_choices:
            self._jobs.discard(choice.job)
            self._timed.discard(choice.job)

    def _fail(self, error: Exception) -> None:
        """Tell an error to all who wait, and begin anew: the pages may be lost with the step."""
        hearing = list(self._jobs)
        while self._arrived:  # one by one: who comes meanwhile is heard later, and not forgotten
            hearing.append(self._arrived.popleft())
        for job in hearing:
            job.told.put(error)
        self._jobs.clear()
        self._timed.clear()
        self._device.reset()
        self._scheduler = self._make_scheduler()


def _rate(choice: Choice, chosen: Chosen, row: int, place: int) -> TokenLogprob | None:
    count, rating = choice.job.generation.top_logprobs, chosen.rating
    if count is None or rating is None:
        return None
    ids, logprobs = rating.top_ids[row, place, :count], rating.top_logprobs[row, place, :count]
    top = tuple(zip(ids.tolist(), logprobs.tolist(), strict=True))
    return TokenLogprob(int(chosen.ids[row, place]), float(rating.logprobs[row, place]), top)


# A thread in the midst of a step must not meet the end of the interpreter.
_RUNNING: "weakref.WeakSet[Batcher]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for batcher in list(_RUNNING):
        batcher.close()
