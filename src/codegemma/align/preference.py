"""DPO: the model's own answers, some of which pass their tests and some do not, as pairs of preferred and not.

**In**: a model, problems, a judge.
**Out**: `pairs.jsonl`, written once, each answer with its log-probability under the model that the stage starts from;
`PairSource`, a stage's rows; `choose_best`, the answers of best-of-n as conversations to tune on.
**Not**: a second model in memory: what the reference says is in the file.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.align.choices import PreferenceChoices
from codegemma.align.exercises import Problem
from codegemma.align.objective import PairRows, TuneRows, lay_rows
from codegemma.align.rehearsal import Rehearsal
from codegemma.align.rewards import Judge, Judged
from codegemma.align.stage import Taken
from codegemma.align.writing import Writer, Written, find_in_order, rate_rows
from codegemma.engine.rollout import Writing
from codegemma.errors import InputError
from codegemma.files import write_whole
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.recipe import from_plain
from codegemma.runner import Progress
from codegemma.text.chat_format import Turn

PAIRS_FILE = "pairs.jsonl"
# Problems that are answered and judged together.
_CHUNK_PROBLEMS = 32
_RATED_ROWS = 64


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, as ids; `reference` holds the log-probability of each at the stage's start."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    reference: tuple[float, float] = (0.0, 0.0)


def sample_answers(
    params: Params, writer: Writer, problems: Sequence[Problem], judge: Judge, writing: Writing, on_progress: Progress
) -> Iterator[tuple[Problem, list[Written], list[Judged]]]:
    """Let problems be answered several times and judged; the next are written while the last are run."""
    waiting: Any = None
    for start in range(0, len(problems) + _CHUNK_PROBLEMS, _CHUNK_PROBLEMS):
        part = problems[start : start + _CHUNK_PROBLEMS]
        begun = None
        if part:
            written = writer.write(params, part, writing, (start, 17))
            begun = part, written, judge.judge_later(part, [[one.answer for one in group] for group in written])
        if waiting is not None:
            asked, groups, judged = waiting
            found = judged.result()
            for place, (problem, group) in enumerate(zip(asked, groups, strict=True)):
                yield problem, group, found[place * len(group) : (place + 1) * len(group)]
        waiting = begun
        on_progress("answers", min(start + len(part), len(problems)), len(problems))


def pick_pairs(written: Sequence[Written], judged: Sequence[Judged], most: int, rng: random.Random) -> list[Preference]:
    """Pair answers that passed with ones that did not, each answer once; equal texts count once."""
    different = {one.answer.text: (one, verdict) for one, verdict in zip(written, judged, strict=True)}
    passed = [one for one, verdict in different.values() if verdict.has_passed]
    failed = [one for one, verdict in different.values() if not verdict.has_passed and one.answer.has_ended]
    rng.shuffle(passed)
    rng.shuffle(failed)
    return [
        Preference(good.prompt, good.rollout.ids, bad.rollout.ids)
        for good, bad in list(zip(passed, failed, strict=False))[:most]
    ]


def rate_reference(params: Params, config: GemmaConfig, pairs: Sequence[Preference]) -> list[Preference]:
    """Write down what the model at the stage's start thinks of each answer: computed once, and kept."""
    rated: list[Preference] = []
    for start in range(0, len(pairs), _RATED_ROWS // 2):
        part = pairs[start : start + _RATED_ROWS // 2]
        laid = lay_rows([(p.prompt, answer) for p in part for answer in (p.chosen, p.rejected)], _RATED_ROWS)
        sums = rate_rows(params, config, laid).sum(axis=1).tolist()
        rated += [
            Preference(p.prompt, p.chosen, p.rejected, (sums[2 * n], sums[2 * n + 1])) for n, p in enumerate(part)
        ]
    return rated


def store_pairs(file: Path, pairs: Sequence[Preference], written_tokens: int) -> None:
    """Write the pairs, whole or not at all, after what it took to find them."""
    lines = [{"written_tokens": written_tokens}, *map(asdict, pairs)]
    write_whole(file, "".join(json.dumps(line) + "\n" for line in lines).encode())


def load_pairs(file: Path) -> tuple[list[Preference], int]:
    """Read pairs, and how many tokens were written to find them.

    Raises:
        InputError: the file does not hold pairs.
    """
    try:
        first, *lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [from_plain(Preference, line) for line in lines], int(first["written_tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} holds no pairs ({error}); remove it, and they are made anew") from error


class PairSource:
    """Pairs in an order that each pass draws anew; a step takes `batch_rows` / 2 of them."""

    def __init__(
        self, pairs: Sequence[Preference], choices: PreferenceChoices, rehearsal: Rehearsal, params: int
    ) -> None:
        """Start at the first pass; `params` is how many numbers the model has."""
        if not pairs:
            raise InputError(
                "no problem was answered both rightly and wrongly, so there is nothing to prefer: raise "
                "align.preference.sampling.answers or its temperature, or leave dpo out of align.stages"
            )
        self._pairs, self._choices, self._rehearsal, self._size = pairs, choices, rehearsal, params

    def take(self, step: int, params: Params) -> Taken:  # noqa: ARG002
        """Give the step's pairs."""
        count = self._choices.train.batch_rows // 2
        chosen = [self._pairs[number] for number in self._number(step * count, count)]
        laid = lay_rows([(p.prompt, answer) for p in chosen for answer in (p.chosen, p.rejected)])
        reference = np.asarray([value for p in chosen for value in p.reference], np.float32)
        rows: Any = PairRows(laid.ids, laid.answer, laid.segments, laid.positions, reference)  # type: ignore[arg-type]
        tokens = float(np.sum(laid.segments > 0)) + self._rehearsal.tokens
        return Taken(TuneRows(rows, self._rehearsal.take()), {"pairs": float(count)}, 6.0 * self._size * tokens)

    def _number(self, first: int, count: int) -> Iterator[int]:
        for place in range(first, first + count):
            yield find_in_order((self._choices.train.seed,), place, len(self._pairs))

    def get_state(self) -> dict[str, Any]:
        """Tell where the rehearsal is; the pairs go by the step's number."""
        return {"rehearsal": self._rehearsal.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the rehearsal."""
        self._rehearsal.set_state(state["rehearsal"])

    def close(self) -> None:
        """Stop reading."""
        self._rehearsal.close()


def choose_best(problem: Problem, written: Sequence[Written], judged: Sequence[Judged]) -> tuple[Turn, ...] | None:
    """Take the best of n answers as a conversation to tune on (rejection sampling); none where no answer passed."""
    best = max(zip(judged, written, strict=True), key=lambda pair: pair[0].reward)
    if not best[0].has_passed:
        return None
    return problem.turn, Turn("model", best[1].answer.text)
