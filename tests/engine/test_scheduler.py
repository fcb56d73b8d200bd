"""The scheduler against random histories: everyone ends, the urgent come first, and no page is lost."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.engine.test_cache import check_pages

from codegemma.engine.cache import PageCache
from codegemma.engine.scheduler import Scheduler, Sequence, Step
from codegemma.records import Priority

ROWS, CHUNK, CONTEXT = 3, 4, 24


class Histories(RuleBasedStateMachine):
    """Plays an engine whose model writes `(sum of the ids) % 3`; `content` is what each page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = PageCache(pages=11, page_tokens=3)
        self.scheduler = Scheduler(self.cache, ROWS, CHUNK, block_tokens=3, min_block_rows=2, short_tokens=2)
        self.content: dict[int, dict[int, int]] = {page: {} for page in range(11)}
        self.wanted: dict[Sequence, int] = {}
        self.added = self.finished = self.cancelled = 0

    @rule(
        ids=st.lists(st.integers(0, 2), min_size=1, max_size=12),
        priority=st.sampled_from(list(Priority)),
        new_tokens=st.integers(1, 12),
        is_watched=st.booleans(),
    )
    def add(self, ids: list[int], priority: Priority, new_tokens: int, is_watched: bool) -> None:
        sequence = Sequence(list(ids), priority, is_watched=is_watched)
        self.wanted[sequence] = min(len(ids) + new_tokens, CONTEXT)
        sequence.left_tokens = self.wanted[sequence] - len(ids)
        self.scheduler.add(sequence)
        self.added += 1

    @rule(place=st.integers(0, 30))
    def cancel(self, place: int) -> None:
        if self.wanted:
            sequence = list(self.wanted)[place % len(self.wanted)]
            self.scheduler.remove(sequence)
            del self.wanted[sequence]
            self.cancelled += 1

    @rule(accepted=st.integers(0, 3), twins=st.integers(0, 2))
    def run_step(self, accepted: int, twins: int) -> None:
        before = list(self.scheduler.active)
        step = self.scheduler.plan()
        assert (step is None) == (not self.wanted)
        if step is None:
            return
        self.check_order(step, before)
        for source, target in step.copies:
            self.content[target] = dict(self.content[source])
        for sequence in step.sequences:
            if step.block_tokens > 1:
                self.write_block(sequence, step.block_tokens)
            else:
                self.read_and_write(sequence, min(step.tokens, sequence.unread_tokens), accepted, twins)

    def check_order(self, step: Step, before: list[Sequence]) -> None:
        scheduler = self.scheduler
        assert 0 < len(scheduler.active) <= ROWS
        assert set(step.sequences) <= set(scheduler.active)
        top = min(s.priority for s in scheduler.active)
        # Nobody waits for someone less urgent, and a chunk is read only for the most urgent.
        assert all(top <= s.priority for s in scheduler.waiting)
        assert any(s.priority == top for s in step.sequences)
        assert all(s.priority in {top, Priority.CHAT} and s.priority <= max(top, 1) for s in step.sequences)
        if step.tokens:
            assert {s.priority for s in step.sequences} == {top}
            assert sum(min(step.tokens, s.unread_tokens) for s in step.sequences) <= CHUNK
        if step.block_tokens > 1:
            assert step.block_tokens * len(step.sequences) <= CHUNK
            assert not any(s.is_watched or s.drafts or s.priority < Priority.BATCH for s in step.sequences)
        # Who was active and is not any more gave way to someone more urgent, or to one that was there before.
        for gone in set(before) - set(scheduler.active):
            assert any((s.priority, s.serial) < (gone.priority, gone.serial) for s in scheduler.active)

    def write_block(self, sequence: Sequence, tokens: int) -> None:
        """Write up to the end; what the device writes beyond it has no page or is no part of the text."""
        lease = sequence.lease
        assert lease is not None and lease.stored == len(sequence.ids) - 1
        pages, written = lease.pages, min(tokens, self.wanted[sequence] - len(sequence.ids))
        for _ in range(written):
            place = len(sequence.ids) - 1
            self.content[pages[place // 3]][place % 3] = sequence.ids[place]
            sequence.ids.append(sum(sequence.ids) % 3)
        self.scheduler.note_stored(sequence, written)
        self.note_written(sequence)

    def note_written(self, sequence: Sequence) -> None:
        sequence.left_tokens = self.wanted[sequence] - len(sequence.ids)
        if sequence.left_tokens <= 0:
            self.scheduler.remove(sequence)
            del self.wanted[sequence]
            self.finished += 1

    def read_and_write(self, sequence: Sequence, tokens: int, accepted: int, twins: int) -> None:
        lease = sequence.lease
        assert lease is not None
        is_written = tokens == 0
        tokens = tokens or 1
        pages = lease.pages
        # What the device would attend to is this sequence's own text.
        told = [self.content[pages[p // 3]].get(p % 3) for p in range(lease.stored)]
        assert told == sequence.ids[: lease.stored]
        for p in range(lease.stored, lease.stored + tokens + (len(sequence.drafts) if is_written else 0)):
            text = [*sequence.ids, *sequence.drafts]
            self.content[pages[p // 3]][p % 3] = text[p]
        kept = sequence.drafts[:accepted] if is_written else []
        is_first = sequence.unread_tokens == tokens and len(sequence.ids) not in (0, self.wanted[sequence] - 1)
        self.scheduler.note_stored(sequence, tokens)
        if not sequence.unread_tokens:
            room = self.wanted[sequence] - len(sequence.ids)
            sequence.ids += kept[: room - 1]
            self.scheduler.note_stored(sequence, len(kept[: room - 1]))
            if is_first and not is_written and twins:
                self.fork(sequence, twins)
            sequence.ids.append(sum(sequence.ids) % 3)
            left = self.wanted[sequence] - len(sequence.ids)
            sequence.drafts = [2] * min(3, max(left - 1, 0)) if sequence.is_watched else []
            self.note_written(sequence)

    def fork(self, sequence: Sequence, twins: int) -> None:
        made = [Sequence(list(sequence.ids), sequence.priority) for _ in range(twins)]
        for twin in made:
            self.wanted[twin] = self.wanted[sequence]
            twin.left_tokens = self.wanted[twin] - len(twin.ids)
        self.scheduler.fork(sequence, made)
        self.added += twins

    @invariant()
    def no_page_is_lost_and_who_came_in_is_there_or_ended(self) -> None:
        assert self.added == self.finished + self.cancelled + len(self.wanted)
        known = [*self.scheduler.waiting, *self.scheduler.active]
        assert set(known) == set(self.wanted) and len(known) == len(self.wanted)
        check_pages(self.cache, [s.lease for s in known if s.lease is not None])

    def teardown(self) -> None:
        for _ in range(2000):
            if not self.wanted:
                break
            self.run_step(0, 0)
        assert not self.wanted
        assert self.cache.available_pages == self.cache.page_count


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_random_histories = Histories.TestCase


def test_keystroke_is_read_and_written_before_batch_work_goes_on() -> None:
    scheduler = Scheduler(PageCache(32, 4), rows=2, chunk_tokens=8)
    batch = [Sequence([1, 2, 3, n], Priority.BATCH) for n in range(2)]
    for sequence in batch:
        scheduler.add(sequence)
    for _ in batch:
        step = scheduler.plan()
        assert step is not None and step.tokens == 4 - (step.sequences[0].cached_tokens or 0)
        scheduler.note_stored(step.sequences[0], step.tokens)
        step.sequences[0].ids.append(9)
    assert scheduler.plan() == Step(tuple(batch), 0)
    typed = Sequence(list(range(50, 60)))
    scheduler.add(typed)
    for tokens in (8, 2):
        step = scheduler.plan()
        assert step == Step((typed,), tokens)
        scheduler.note_stored(typed, tokens)
    typed.ids.append(9)
    assert scheduler.plan() == Step((typed,), 0)
    # It took the row of the batch sequence that came last, all of which is still known when its turn comes again.
    assert scheduler.active == [batch[0], typed]
    scheduler.remove(typed)
    assert scheduler.plan() == Step(tuple(batch), 0)


def test_batch_work_that_nobody_watches_is_read_together_and_written_in_blocks() -> None:
    scheduler = Scheduler(PageCache(32, 4), rows=4, chunk_tokens=8, block_tokens=3, min_block_rows=2, short_tokens=4)
    batch = [Sequence([n, 2, 3], Priority.BATCH, is_watched=False, left_tokens=4) for n in range(3)]
    for sequence in batch:
        scheduler.add(sequence)
    for read in (batch[:2], batch[2:]):
        assert (step := scheduler.plan()) is not None
        assert step.sequences == tuple(read)
        for sequence in read:
            scheduler.note_stored(sequence, 3)
            sequence.ids.append(9)
    # Three times two is the most that is no more than a chunk.
    assert scheduler.plan() == Step(tuple(batch), 0, block_tokens=2)
    batch[1].is_watched = True
    assert scheduler.plan() == Step(tuple(batch), 0)
    scheduler.remove(batch[1])
    assert scheduler.plan() == Step((batch[0], batch[2]), 0, block_tokens=3)
    scheduler.add(Sequence([5, 5]))
    assert (step := scheduler.plan()) is not None
    assert (step.tokens, step.block_tokens) == (2, 1)
