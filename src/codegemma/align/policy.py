"""GRPO and REINFORCE: a policy answers problems, tests reward its answers, and it learns from them.

**In**: the policy as it is at each step, problems, a judge.
**Out**: `PolicySource`, a stage's rows: answers with advantages, of the problems whose answers differ in reward.
**Not**: the losses (`losses.py`) and the loop (`stage.py`).

While the answers of a step are being run, those of the next are written: rewards never hold up an update. So answers
are of the policy before the last update, which the ratio in the loss accounts for. A group in which all answers have
the same reward says nothing, and is left out of the rows.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from codegemma.align.choices import PolicyChoices
from codegemma.align.exercises import Problem
from codegemma.align.losses import centre_by_group, leave_one_out, penalize_divergence
from codegemma.align.objective import PolicyRows, TuneRows, lay_rows, lay_values
from codegemma.align.rehearsal import Rehearsal
from codegemma.align.rewards import Judge, Judged
from codegemma.align.stage import Taken
from codegemma.align.writing import Writer, Written, find_in_order, rate_rows
from codegemma.engine.rollout import Rollout, Writing
from codegemma.engine.shapes import fit
from codegemma.model.gemma import Params


@dataclass(slots=True)
class _Pending:
    """Answers of a step, on their way through the judge."""

    problems: list[Problem]
    written: list[list[Written]]
    judged: "Future[list[Judged]]"
    write_s: float


# Rewards in another's place: answers and what tests say of them, to one number each.
Rescore = Callable[[Sequence[Written], Sequence[Judged]], np.ndarray]


def take_rewards(written: Sequence[Written], judged: Sequence[Judged]) -> np.ndarray:  # noqa: ARG001
    """Take the tests' own rewards."""
    return np.asarray([one.reward for one in judged], np.float32)


class PolicySource:
    """Groups of answers, written and judged a step ahead."""

    def __init__(  # noqa: PLR0917
        self,
        problems: Sequence[Problem],
        reference: Params,
        writer: Writer,
        judge: Judge,
        choices: PolicyChoices,
        rehearsal: Rehearsal,
        rescore: Rescore = take_rewards,
    ) -> None:
        self._problems, self._reference, self._writer, self._judge = problems, reference, writer, judge
        self._choices, self._rehearsal, self._rescore = choices, rehearsal, rescore
        sampling = choices.sampling
        self._writing = Writing(sampling.answers, sampling.max_new_tokens, sampling.temperature)
        self._pending: _Pending | None = None
        # Answers to the step that comes next, of a stage that was interrupted.
        self._restored: list[Rollout] | None = None

    def take(self, step: int, params: Params) -> Taken:
        """Give the rows of a step, and begin the next one's."""
        if self._pending is None:
            self._pending = self._begin(step, params, self._restored)
        current = self._pending
        self._pending = self._begin(step + 1, params)
        began = time.perf_counter()
        judged = current.judged.result()
        waited_s = time.perf_counter() - began
        written = [one for group in current.written for one in group]
        told = describe_answers(written, judged, self._writing.answers)
        told |= {"reward_wait_s": waited_s, "write_s": current.write_s}
        rows, tokens = self._lay(written, judged)
        size = self._writer.config.count_parameters()
        new = sum(len(one.rollout.ids) for one in written) + sum(len(group[0].prompt) for group in current.written)
        # To write or to rate a token takes a third of what learning from it takes.
        return Taken(rows, told, 2.0 * size * (new + tokens) + 6.0 * size * (tokens + self._rehearsal.tokens))

    def _begin(self, step: int, params: Params, rollouts: Sequence[Rollout] | None = None) -> _Pending:
        began = time.perf_counter()
        problems = [self._problems[number] for number in self._number(step)]
        if rollouts is None:
            written = self._writer.write(params, problems, self._writing, (self._choices.train.seed, step))
        else:
            size, read, spell = self._writing.answers, self._writer.read, self._writer.spell
            written = [
                [Written(spell(p), one, read(one)) for one in rollouts[place * size : (place + 1) * size]]
                for place, p in enumerate(problems)
            ]
        write_s = time.perf_counter() - began
        answers = [[one.answer for one in group] for group in written]
        return _Pending(problems, written, self._judge.judge_later(problems, answers), write_s)

    def _number(self, step: int) -> list[int]:
        """Number the problems of a step: each comes once before one comes again."""
        count, size, seed = len(self._problems), self._choices.problems, self._choices.train.seed
        return [find_in_order((seed, 3), place, count) for place in range(step * size, (step + 1) * size)]

    def _lay(self, written: Sequence[Written], judged: Sequence[Judged]) -> tuple[TuneRows | None, int]:
        choices, group = self._choices, self._writing.answers
        rewards = self._rescore(written, judged)
        reference: Any = None
        if choices.algorithm == "reinforce":
            # The penalty is part of the reward, so every answer must be rated first.
            laid = lay_rows([(one.prompt, one.rollout.ids) for one in written])
            reference = rate_rows(self._reference, self._writer.config, laid)
            old = lay_values([one.rollout.logprobs for one in written], laid)
            earned, drawn, start, mask = map(jnp.asarray, (rewards, old, reference, laid.answer))
            rewards = np.asarray(penalize_divergence(earned, drawn, start, mask, choices.beta))
            advantages = np.asarray(leave_one_out(jnp.asarray(rewards), group))
        else:
            advantages = np.asarray(centre_by_group(jnp.asarray(rewards), group, choices.scaling))
        kept = np.flatnonzero(np.repeat(np.ptp(rewards.reshape(-1, group), axis=1) > 1e-6, group))
        if not len(kept):
            return None, 0
        count = fit(tuple(sorted({-(-len(written) // share) for share in (1, 2, 4)})), len(kept))
        learned = [written[n] for n in kept.tolist()]
        laid = lay_rows([(one.prompt, one.rollout.ids) for one in learned], count)
        old = lay_values([one.rollout.logprobs for one in learned], laid)
        reference = rate_rows(self._reference, self._writer.config, laid)
        weighed = np.zeros(count, np.float32)
        weighed[: len(kept)] = advantages[kept]
        rows: Any = PolicyRows(
            laid.ids, laid.answer, laid.segments, laid.positions, old, reference, weighed  # type: ignore[arg-type]
        )  # fmt: skip
        return TuneRows(rows, self._rehearsal.take()), int(np.sum(laid.segments > 0))

    def get_state(self) -> dict[str, Any]:
        """Tell where the source is; answers that are written already belong to it."""
        pending = None
        if self._pending is not None:
            pending = [[list(o.rollout.ids), list(o.rollout.logprobs), o.rollout.has_ended]
                       for group in self._pending.written for o in group]  # fmt: skip
        return {"rehearsal": self._rehearsal.get_state(), "pending": pending}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on; answers that were being judged are judged again."""
        self._rehearsal.set_state(state["rehearsal"])
        if state["pending"] is not None:
            self._restored = [Rollout(tuple(ids), tuple(rated), ended) for ids, rated, ended in state["pending"]]

    def close(self) -> None:
        """Stop reading."""
        self._rehearsal.close()


def describe_answers(written: Sequence[Written], judged: Sequence[Judged], group: int) -> dict[str, float]:
    """Say how a step's answers did.

    `gap` is what rewards see and audits do not: answers that pass the tests and fail others of the same problem.
    """
    passed = np.asarray([one.has_passed for one in judged], float)
    by_group = passed.reshape(-1, group).mean(axis=1)
    return {
        "reward": float(np.mean([one.reward for one in judged])),
        "passed": float(passed.mean()),
        "gap": float(np.mean([one.has_passed and not one.is_audited for one in judged])),
        "formed": float(np.mean([one.is_formed for one in judged])),
        "late": float(np.mean([one.is_late for one in judged])),
        "answer_tokens": float(np.mean([one.answer.tokens for one in written])),
        "unended": float(np.mean([not one.answer.has_ended for one in written])),
        "different": len({(one.prompt, one.answer.text) for one in written}) / len(written),
        "groups_all_passed": float(np.mean(by_group == 1)),
        "groups_all_failed": float(np.mean(by_group == 0)),
    }
