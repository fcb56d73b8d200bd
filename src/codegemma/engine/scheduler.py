"""Decides what the device does next: whose prompt is read on, or who writes a token, or who must wait.

**In**: sequences with their priorities; which tokens each has read and written.
**Out**: `Step`s, which the engine carries out.
**Not**: tensors, texts, time: sequences, pages and queues are integers. Nothing here knows JAX.

A step is one chunk of one prompt, or one token of every sequence that writes. So nobody waits longer than one of them
to be heard, and nothing goes on for longer after it was cancelled. Where all is batch work and nobody must look at its
tokens one by one, a step is a block: several tokens of every sequence, no more in all than a chunk. Only the most
urgent work proceeds: chat writes along with keystrokes, because that costs them little; its prompts, and all batch
work, stand still meanwhile. A sequence that is more urgent and finds no row or page takes those of the least urgent,
which begins again where the cache still knows it.
"""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from codegemma.engine.cache import Copy, Lease, PageCache
from codegemma.records import Priority


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer under way: the ids of its prompt and of what it wrote, of which the cache holds the first."""

    ids: list[int]
    priority: Priority = Priority.KEYSTROKE
    # Guesses at what follows `ids`, which the next step of writing may check.
    drafts: list[int] = field(default_factory=list)
    lease: Lease | None = None
    # Ids that its first lease found read; `None` before it had one.
    cached_tokens: int | None = None
    serial: int = 0
    # Whose reading it shares: 0 is the model's, others are those of its adapters.
    space: int = 0
    # Whether each token is looked at before the next; where not, what is written beyond an end is thrown away.
    is_watched: bool = True
    # How many more it may write.
    left_tokens: int = 1

    @property
    def unread_tokens(self) -> int:
        """Ids that the cache does not hold; one of a sequence that writes."""
        return len(self.ids) - (self.lease.stored if self.lease else 0)


@dataclass(frozen=True, slots=True)
class Step:
    """Read up to `tokens` more of each sequence's ids, or let all sequences write (`tokens` 0). `copies` come first.

    Who writes does so for `block_tokens` tokens in a row.
    """

    sequences: tuple[Sequence, ...]
    tokens: int
    copies: tuple[Copy, ...] = ()
    block_tokens: int = 1


@dataclass(slots=True)
class Scheduler:
    """Who waits and who is active; at most `rows` sequences are active at once."""

    cache: PageCache
    rows: int
    chunk_tokens: int
    # The most that is written in one step, and the fewest sequences that are worth more than one token.
    block_tokens: int = 1
    min_block_rows: int = 2
    # Prompts of batch work of which no more is left than this are read together, a chunk of them; 0: never.
    short_tokens: int = 0
    waiting: list[Sequence] = field(default_factory=list)
    active: list[Sequence] = field(default_factory=list)
    _copies: list[Copy] = field(default_factory=list)
    _serial: int = 0
    _has_just_read: bool = False

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind all of its priority."""
        self._serial += 1
        sequence.serial = self._serial
        insort(self.waiting, sequence, key=_rank)

    def fork(self, sequence: Sequence, twins: Iterable[Sequence]) -> None:
        """Queue more answers to a prompt that was just read: each reads its last token again, and nothing else."""
        assert sequence.lease is not None  # noqa: S101
        self.cache.publish(sequence.lease, sequence.ids[: sequence.lease.stored])
        for twin in twins:
            self.add(twin)
            if lent := self.cache.fork(sequence.lease, len(twin.ids) - 1):
                twin.lease, copies = lent
                self._copies += copies
                twin.cached_tokens = twin.lease.stored

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, finished or not; what it read stays known."""
        if sequence in self.active:
            self.active.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._give_back(sequence)

    def plan(self) -> Step | None:
        """Choose the next step; `None` where nobody is left."""
        self._admit()
        while self.active:
            step = self._choose()
            sequences = [sequence for sequence in step.sequences if self._make_room(sequence, step)]
            # Making room may have taken it from one that was chosen before.
            sequences = [sequence for sequence in sequences if sequence.lease is not None]
            if sequences:
                self._has_just_read = step.tokens > 0
                copies, self._copies = tuple(self._copies), []
                return Step(tuple(sequences), step.tokens, copies, step.block_tokens)
        return None

    def note_stored(self, sequence: Sequence, tokens: int) -> None:
        """Note that a step stored the next so many of a sequence's ids; whole pages of them are shared at once."""
        assert sequence.lease is not None  # noqa: S101
        self.cache.publish(sequence.lease, sequence.ids[: sequence.lease.stored + tokens])

    def _choose(self) -> Step:
        top = min(sequence.priority for sequence in self.active)
        readers = [s for s in self.active if s.priority == top and s.unread_tokens > 1]
        writers = [s for s in self.active if s.unread_tokens <= 1 and s.priority <= max(top, Priority.CHAT)]
        has_writer = any(s.priority == top for s in writers)
        # Batch work fills its rows first: the more rows write together, the sooner all are done.
        if readers and (top == Priority.BATCH or not (has_writer and self._has_just_read)):
            return self._choose_readers(sorted(readers, key=_rank))
        return Step(tuple(writers), 0, block_tokens=self._count_block(writers))

    def _choose_readers(self, readers: list[Sequence]) -> Step:
        """Choose who reads: the first, or several with little left where the first is one of them."""
        first = readers[0]
        short = [reader for reader in readers if reader.unread_tokens <= self.short_tokens]
        if first.priority == Priority.BATCH and len(short) > 1 and short[0] is first:
            return Step(tuple(short[: self.chunk_tokens // self.short_tokens]), self.short_tokens)
        return Step((first,), min(self.chunk_tokens, first.unread_tokens))

    def _count_block(self, writers: list[Sequence]) -> int:
        """Count the tokens that may be written before somebody must look."""
        if len(writers) < self.min_block_rows or any(_needs_eyes(sequence) for sequence in writers):
            return 1
        longest = max(sequence.left_tokens for sequence in writers)
        return max(min(self.block_tokens, longest, self.chunk_tokens // len(writers)), 1)

    def _admit(self) -> None:
        """Give rows and the pages of their prompts to those who wait, the most urgent first."""
        while self.waiting:
            sequence = self.waiting[0]
            if len(self.active) >= self.rows and not self._stop_less_urgent(sequence):
                return
            if sequence.lease is None:
                # The last token is always read: its scores choose what follows.
                sequence.lease, copies = self.cache.lend(sequence.ids[:-1], sequence.space)
                self._copies += copies
            if sequence.cached_tokens is None:
                sequence.cached_tokens = sequence.lease.stored
            while not self._extend_to_prompt(sequence.lease, len(sequence.ids)):
                if not self._free_pages(sequence):
                    self._give_back(sequence)
                    return
            self.active.append(self.waiting.pop(0))

    def _extend_to_prompt(self, lease: Lease, tokens: int) -> bool:
        """Lend a prompt's pages if all who are active can still go on by a page: else they would be stopped at once."""
        missing = self.cache.count_pages(tokens) - len(lease.pages)
        return missing + len(self.active) <= self.cache.available_pages and self.cache.extend(lease, tokens)

    def _make_room(self, sequence: Sequence, step: Step) -> bool:
        """Lend the pages of the next step, if need be those of the least urgent, which may be the sequence itself."""
        written = max(1 + len(sequence.drafts), min(step.block_tokens, sequence.left_tokens))
        tokens = min(step.tokens, sequence.unread_tokens) or written
        while sequence.lease is not None:
            if self.cache.extend(sequence.lease, sequence.lease.stored + tokens):
                return True
            if not self._free_pages(sequence):
                self._stop(sequence)
        return False

    def _free_pages(self, sequence: Sequence) -> bool:
        """Take pages from one that waits, or else from the least urgent."""
        for other in reversed(self.waiting):
            if other is not sequence and other.lease is not None:
                self._give_back(other)
                return True
        return self._stop_less_urgent(sequence)

    def _stop_less_urgent(self, sequence: Sequence) -> bool:
        last = max(self.active, key=_rank, default=sequence)
        if _rank(last) <= _rank(sequence):
            return False
        self._stop(last)
        return True

    def _stop(self, sequence: Sequence) -> None:
        self.active.remove(sequence)
        self._give_back(sequence)
        insort(self.waiting, sequence, key=_rank)

    def _give_back(self, sequence: Sequence) -> None:
        if sequence.lease is not None:
            self.cache.give_back(sequence.lease, sequence.ids[: sequence.lease.stored])
            sequence.lease = None


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.priority, sequence.serial


def _needs_eyes(sequence: Sequence) -> bool:
    return sequence.is_watched or bool(sequence.drafts) or sequence.priority != Priority.BATCH
