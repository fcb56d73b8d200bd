"""Runs one generation on llama.cpp, in as many calls as its healing, its choices and its interruptions ask for.

**In**: a `Generation`, a slot table, llama.cpp's completion call.
**Out**: deltas in the queue `told`; a `Stream` reads it, which nothing here holds.
**Not**: loading (`llama_cpp.py`), one call's spelling and reading (`llama_leg.py`), what is told (`answer.py`).

What was cancelled to let a keystroke by is called again with what it had written as a part of its prompt, which its
slot still holds. A sampled answer that may be held is written a few tokens a call, each with a seed of its own, and
gives way between two calls only: so its draws do not depend on when it was held.
"""

import time
from dataclasses import replace
from queue import SimpleQueue

from codegemma.engine.answer import Answer
from codegemma.engine.llama_leg import Call, Leg
from codegemma.engine.slots import SlotTable, Turn
from codegemma.records import CompletionDelta, Generation, Priority, StopReason, Usage
from codegemma.text.tokenizer import Tokenizer


class Run:
    """One generation under way."""

    def __init__(self, generation: Generation, call: Call, slots: SlotTable, tokenizer: Tokenizer, window: int) -> None:
        """Prepare; `work` does it."""
        self.generation = generation
        self.is_cancelled = False
        # Greedy choices are one and the same.
        drawn = generation.choices if generation.sampling.temperature > 0 else 1
        self.answers = [Answer(generation, choice, tokenizer, window) for choice in range(drawn)]
        self.told: SimpleQueue[CompletionDelta | BaseException | None] = SimpleQueue()
        self._last: list[tuple[Answer, CompletionDelta]] = []
        self._call, self._slots, self._tokenizer, self._window = call, slots, tokenizer, window
        is_shared = drawn > 1 and not generation.healing and generation.priority is Priority.KEYSTROKE
        wanted = drawn if is_shared else 1
        self._turn = Turn(generation.priority, generation.prompt_ids, generation.session, self._is_over, wanted)
        self._usage = Usage(len(generation.prompt_ids))
        self._drafts = {answer.choice: (0, 0) for answer in self.answers}
        self._queued_s = time.perf_counter()
        self._started_s: float | None = None
        self._first_s: float | None = None

    def cancel(self) -> None:
        """Stop at the next token or part of the prompt."""
        self.is_cancelled = True
        self._slots.wake()

    def work(self) -> None:
        """Run to the end, which is told whatever it is."""
        try:
            if len(self.generation.prompt_ids) >= self._window:
                self.end_open(StopReason.CONTEXT_FULL if self.generation.max_new_tokens else StopReason.MAX_NEW_TOKENS)
            while not self._is_over():
                if not self._slots.take(self._turn, self._find_deadline()):
                    break
                try:
                    self._use_turn()
                finally:
                    read = () if self._first_s is None else (*self.generation.prompt_ids, *self.answers[0].ids)
                    self._slots.give_back(self._turn, read)
            self.end_open(StopReason.CANCELLED if self.is_cancelled else self.find_expired() or StopReason.CANCELLED)
            # Who reads the end finds the slot free.
            for answer, delta in self._last:
                self._put(replace(delta, usage=self._count_usage(answer)))
        except Exception as error:
            self.told.put(error)

    def _is_over(self) -> bool:
        return self.is_cancelled or all(answer.stop_reason is not None for answer in self.answers)

    def _use_turn(self) -> None:
        self._started_s = self._started_s or time.perf_counter()
        while not self._is_over():
            open_answers = [answer for answer in self.answers if answer.stop_reason is None]
            is_fresh = all(not answer.ids for answer in open_answers)
            chosen = open_answers[: len(self._turn.slots)] if is_fresh else open_answers[:1]
            leg = Leg(self, chosen, self._turn.slots[0].number, self._call, self._tokenizer)
            leg.run()
            if leg.is_out_of_turn or self.gives_way():
                return

    def gives_way(self) -> bool:
        """Say whether somebody more urgent waits or runs."""
        return self._slots.must_give_way(self._turn)

    def end_open(self, reason: StopReason) -> None:
        """End what is open."""
        for answer in self.answers:
            if answer.stop_reason is None:
                answer.end(reason)
                self.tell(answer)

    def tell(self, answer: Answer) -> None:
        """Put what is new of an answer into the queue; a greedy one into all choices."""
        delta = answer.tell()
        if delta is None:
            return
        if delta.stop_reason is None:
            self._put(delta)
        else:
            self._last.append((answer, delta))

    def _put(self, delta: CompletionDelta) -> None:
        if len(self.answers) == self.generation.choices:
            self.told.put(delta)
            return
        for choice in range(self.generation.choices):
            self.told.put(replace(delta, choice=choice))

    def note_read(self, cached: int, evaluated: int) -> None:
        """Keep what the first reading of the prompt costs."""
        if self._first_s is None:
            self._usage = replace(self._usage, cached_tokens=cached, evaluated_tokens=evaluated)

    def note_token(self) -> None:
        """Keep when the first token came."""
        self._first_s = self._first_s or time.perf_counter()

    def note_drafts(self, answer: Answer, drafted: int, accepted: int) -> None:
        """Add what a call drafted."""
        before = self._drafts[answer.choice]
        self._drafts[answer.choice] = (before[0] + drafted, before[1] + accepted)

    def find_expired(self) -> StopReason | None:
        """Say which budget is used up."""
        deadline = self._find_deadline()
        if deadline is None or time.perf_counter() < deadline:
            return None
        return StopReason.PROMPT_BUDGET if self._first_s is None else StopReason.NEW_BUDGET

    def _find_deadline(self) -> float | None:
        is_reading = self._first_s is None
        budget_s = self.generation.prompt_budget_s if is_reading else self.generation.new_budget_s
        return None if budget_s is None else (self._first_s or self._queued_s) + budget_s

    def _count_usage(self, answer: Answer) -> Usage:
        now = time.perf_counter()
        started, first = self._started_s or now, self._first_s or now
        drafted, accepted = self._drafts[answer.choice]
        return replace(
            self._usage,
            new_tokens=len(answer.ids),
            drafted_tokens=drafted,
            accepted_tokens=accepted,
            queue_s=started - self._queued_s,
            prompt_s=first - started,
            new_s=now - first,
        )
