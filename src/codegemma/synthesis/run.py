"""Goes with every snippet through all filters: writing, parsing, running, breaking, benchmarks, a judge, copies.

**In**: `SynthesisJob`: sources, whoever writes and judges, choices; boxes.
**Out**: `SynthesisResult`: an outcome for every seed, in the seeds' order; kept + dropped = seeds.
**Not**: files (`written.py`).

The server that writes never waits for the boxes nor they for it: each draft goes its own way as soon as it is there,
and a judge's question goes before the next draft's. All that was answered and found is kept in `kept.sqlite` under a
hash of what it hangs on, so a run that was killed goes on, and ends as if it had not been.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegemma.corpus.benchmarks import Benchmarks, read_benchmarks
from codegemma.corpus.choices import NearDuplicatePolicy
from codegemma.corpus.decontaminate import ContaminationIndex, describe_contaminations
from codegemma.corpus.dedup import hash_shingles
from codegemma.corpus.near_duplicates import find_near_duplicates
from codegemma.corpus.sketch_shards import make_shard
from codegemma.corpus.sketches import sketch_shingles
from codegemma.evals.store import Store, hash_parts
from codegemma.pace import Pace
from codegemma.recipe import from_plain
from codegemma.runner import Progress, ignore_progress
from codegemma.sandbox.box import Sandbox
from codegemma.synthesis.asking import Answerer, Asker, Spent, ask_until_read
from codegemma.synthesis.choices import Price, SynthesisChoices
from codegemma.synthesis.examination import Examined, Examiner
from codegemma.synthesis.outcomes import Draft, Drop, Outcome, Reason, Scores, Seed
from codegemma.synthesis.prompts import ask_for_draft, ask_for_scores, read_draft, read_scores
from codegemma.synthesis.seeds import read_seeds

# Servers take seeds of 32 bits, and each question has a few of its own.
_SAMPLING_SEED_BYTES = 3


@dataclass(frozen=True, slots=True)
class Model:
    """Whoever writes or judges: its server, a name for the records, what it costs, how it is paced.

    Models of one server share its pace.
    """

    answerer: Answerer
    name: str
    in_flight: int = 16
    price: Price = field(default_factory=Price)
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class SynthesisJob:
    """What is asked of whom. `judge` may be the generator itself."""

    sources: tuple[Path, ...]
    out: Path
    generator: Model
    judge: Model
    choices: SynthesisChoices = field(default_factory=SynthesisChoices)
    benchmarks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """What became of a job. `failures` are the tries of this run that brought no answer, by model and kind."""

    outcomes: tuple[Outcome, ...]
    spent: dict[str, Spent]
    failures: dict[str, Counter[str]]
    mean_in_flight: float
    notes: tuple[str, ...]

    @property
    def kept(self) -> list[Outcome]:
        """The drafts that stood all filters."""
        return [outcome for outcome in self.outcomes if outcome.drop is None]

    def count_drops(self) -> Counter[Reason]:
        """Count the dropped ones by reason."""
        return Counter(outcome.drop.reason for outcome in self.outcomes if outcome.drop is not None)


def synthesize(job: SynthesisJob, sandbox: Sandbox, on_progress: Progress = ignore_progress) -> SynthesisResult:
    """Go with every seed through all filters.

    Raises:
        InputError: sources or benchmarks that cannot be read.
        GoneError: a server that refuses, or answers nobody any more; what was answered is kept.
        OutputError: the store cannot be written.
    """
    seeds = read_seeds(job.sources, job.choices)
    benchmarks = read_benchmarks(job.benchmarks)
    with Store(job.out) as store:
        line = _Line(job, sandbox, store, benchmarks, on_progress)
        try:
            outcomes = drop_copies(asyncio.run(line.run(seeds)), job.choices.min_jaccard)
        finally:
            line.close()
    failures = count_failures((job.generator, job.judge))
    return SynthesisResult(
        tuple(outcomes), line.spent, failures, line.writers.mean_in_flight, benchmarks.describe()
    )  # fmt: skip


def count_failures(models: Sequence[Model]) -> dict[str, Counter[str]]:
    """Tell the failed tries by model; models that share a server's pace share its count, under both names."""
    names: dict[int, dict[str, Pace]] = {}
    for model in models:
        names.setdefault(id(model.pace), {})[model.name] = model.pace
    return {" and ".join(paces): next(iter(paces.values())).failures for paces in names.values()}


class _Line:
    """The way of every seed, many at once."""

    def __init__(
        self, job: SynthesisJob, sandbox: Sandbox, store: Store, benchmarks: Benchmarks, on_progress: Progress
    ) -> None:
        self._choices, self._store, self._on_progress = job.choices, store, on_progress
        self._index = ContaminationIndex(benchmarks.texts) if benchmarks.texts else None
        self._examiner = Examiner(sandbox, job.choices.examination)
        self._boxes = ThreadPoolExecutor(self._examiner.boxes, thread_name_prefix="examine")
        self.writers = Asker(job.generator.answerer, job.generator.name, store, job.generator.in_flight)
        is_same = job.judge.answerer is job.generator.answerer
        self._judges = (
            self.writers if is_same else Asker(job.judge.answerer, job.judge.name, store, job.judge.in_flight)
        )
        self.spent = {"generator": Spent(job.generator.price), "judge": Spent(job.judge.price)}
        self._examined_by = self._examiner.describe()
        self._written = self._finished = 0

    async def run(self, seeds: Sequence[Seed]) -> list[Outcome]:
        """Start a seed whenever fewer than two for each request wait for their draft."""
        window = asyncio.Semaphore(2 * self.writers.in_flight)
        tasks: list[asyncio.Task[Outcome]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for seed in seeds:
                    await window.acquire()
                    tasks.append(group.create_task(self._make(seed, len(seeds), window)))
        except* Exception as several:  # the first that failed cancelled the others
            raise several.exceptions[0] from None
        return [task.result() for task in tasks]

    def close(self) -> None:
        """Ask nothing more, and end the boxes."""
        self.writers.close()
        self._judges.close()
        self._boxes.shutdown(cancel_futures=True)
        self._examiner.close()

    async def _make(self, seed: Seed, total: int, window: asyncio.Semaphore) -> Outcome:
        try:
            draft = await self._write(seed)
        finally:
            window.release()
        self._written += 1
        self._on_progress("drafts written", self._written, total)
        outcome = Outcome(seed, drop=draft) if isinstance(draft, Drop) else await self._sift(seed, draft)
        self._finished += 1
        self._on_progress("drafts through all filters", self._finished, total)
        return outcome

    async def _write(self, seed: Seed) -> Draft | Drop:
        """Let a draft be written; a snippet that stands in several places is as many different questions."""
        name = hash_parts(self._choices.seed, seed.place, seed.blob)
        words, first = ask_for_draft(seed), int.from_bytes(name[:_SAMPLING_SEED_BYTES], "big")
        return await ask_until_read(
            self.writers, words, self._choices.generator, first, read_draft, self.spent["generator"]
        )

    async def _sift(self, seed: Seed, draft: Draft) -> Outcome:
        loop = asyncio.get_running_loop()
        examined = await loop.run_in_executor(self._boxes, self._examine, draft)
        outcome = Outcome(
            seed, draft, examined.drop, None, examined.function, examined.cases, examined.caught, examined.variants
        )
        if outcome.drop is None and self._index is not None:
            outcome = replace(outcome, drop=find_overlap(draft, self._index))
        if outcome.drop is None and self._choices.min_score:
            scores = await self._judge(draft)
            if isinstance(scores, Drop):
                return replace(outcome, drop=scores)
            outcome = replace(outcome, scores=scores, drop=weigh(scores, self._choices.min_score))
        return outcome

    def _examine(self, draft: Draft) -> Examined:
        key = hash_parts("examined", draft, self._choices.examination, self._examined_by)
        known = self._store.find(key)
        if known is not None:
            return _read_examined(known)
        found = self._examiner.examine(draft)
        self._store.keep(key, found)
        return found

    async def _judge(self, draft: Draft) -> Scores | Drop:
        found = await ask_until_read(
            self._judges, ask_for_scores(draft), self._choices.judge, 0, read_scores, self.spent["judge"],
            is_urgent=True,
        )  # fmt: skip
        return Drop(Reason.NO_VERDICT, f"{found.reason}: {found.detail}") if isinstance(found, Drop) else found


def _read_examined(known: Any) -> Examined:
    found: Examined = from_plain(Examined, known)
    return found


def weigh(scores: Scores, min_score: int) -> Drop | None:
    """Drop what a judge likes too little.

    >>> weigh(Scores(5, 3, "Fails on an empty list."), 4)
    Drop(reason=<Reason.INCORRECT: 'incorrect'>, detail='3 of 5: Fails on an empty list.')
    """
    if scores.correctness < min_score:
        return Drop(Reason.INCORRECT, f"{scores.correctness} of 5: {scores.words}")
    if scores.helpfulness < min_score:
        return Drop(Reason.UNHELPFUL, f"{scores.helpfulness} of 5: {scores.words}")
    return None


def find_overlap(draft: Draft, index: ContaminationIndex) -> Drop | None:
    """Drop what holds an item of a benchmark."""
    found = index.find(f"{draft.problem}\n{draft.solution}\n{draft.tests}")
    return Drop(Reason.BENCHMARK_OVERLAP, describe_contaminations(found)) if found else None


def drop_copies(outcomes: Sequence[Outcome], min_jaccard: float) -> list[Outcome]:
    """Drop what is almost a kept draft before it, by the words of the problem and the program."""
    drafts = {number: outcome.draft for number, outcome in enumerate(outcomes) if outcome.drop is None}
    sketches = {
        ("", f"{number:09d}"): sketch_shingles(hash_shingles(f"{draft.problem}\n{draft.solution}"))
        for number, draft in drafts.items()
        if draft is not None
    }
    found = list(outcomes)
    if not sketches:
        return found
    for copy in find_near_duplicates([make_shard(sketches)], NearDuplicatePolicy.EVERYWHERE, min_jaccard):
        number, kept = int(copy.key[1]), outcomes[int(copy.kept[1])].seed
        place = f"{kept.repo}/{kept.path}:{kept.line}"
        detail = f"like the draft from {place}, Jaccard index {copy.jaccard:.2f}"
        found[number] = replace(found[number], drop=Drop(Reason.NEAR_DUPLICATE, detail))
    return found
