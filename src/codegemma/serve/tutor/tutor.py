"""The tutor: exercises, hints and attempts by computing; questions by computing first and the model afterwards.

**In**: what a learner asks, whose it is.
**Out**: exercises, hints, judgements; an answer in parts, each looked at by the guard before it is told.
**Not**: wire formats (`api/tutor.py`), or how a model is asked (`service.py`).
"""

import functools
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from codegemma.errors import InputError
from codegemma.records import Turn
from codegemma.serve.bench import Bench, BusyError
from codegemma.serve.tutor.attempts import Judged, judge_attempt, judge_task, passes
from codegemma.serve.tutor.exercises import KINDS, TOPICS, Exercise, make_exercise, name_exercise
from codegemma.serve.tutor.explain import explain_error
from codegemma.serve.tutor.guard import Guard, guard_stream
from codegemma.serve.tutor.ladder import Hint, give_hint
from codegemma.serve.tutor.ledger import TASK_PREFIX, Ledger, Record
from codegemma.serve.tutor.mistakes import correct_syntax
from codegemma.serve.tutor.policy import LEVELS, Policy, Rung, Task, read_rung

_MAX_SEED = 10**6
_ANY_LENGTH = 10**9
_RULES = {
    Rung.NUDGE: "Ask one short question that makes the learner look at the right place. Give no code and no steps.",
    Rung.CONCEPT: "Name and explain the one idea that is needed, in two or three sentences. Give no code.",
    Rung.PSEUDO_CODE: "Describe the steps in plain words. Give no code.",
    Rung.CODE: "Explain shortly, with code where it helps.",
}
Ask = Callable[[Sequence[Turn]], AsyncGenerator[str, None]]


class Tutor:
    """One tutor for all learners of a server."""

    def __init__(self, policy: Policy | None = None, bench: Bench | None = None, ledger: Ledger | None = None) -> None:
        self.policy, self._bench, self.ledger = policy or Policy(), bench or Bench(), ledger or Ledger()
        secret = secrets.token_hex(16)
        self._make = functools.lru_cache(4096)(lambda name: make_exercise(name, secret))

    def describe(self) -> dict[str, Any]:
        """Tell what there is and what is allowed; never a solution."""
        policy = self.policy
        return {
            "levels": list(LEVELS) if policy.may_set_level else [policy.level],
            "level": policy.level, "kinds": list(KINDS), "topics": list(policy.topics or TOPICS),
            "highest_hint": policy.highest.label, "code_after_attempts": policy.code_after_attempts,
            "free_chat": policy.free_chat, "completion": policy.completion,
            "tasks": [{"exercise": TASK_PREFIX + task.name, "statement": task.statement} for task in policy.tasks],
        }  # fmt: skip

    def choose_exercise(self, kind: str, level: str, topic: str, seed: int | None) -> Exercise:
        """Make an exercise as it is wished and as the policy lets.

        Raises:
            InputError: an unknown kind, level or topic, or one that the policy leaves out.
        """
        policy = self.policy
        if not policy.may_set_level:
            level = policy.level
        allowed = policy.topics or TOPICS
        topic = topic or random.choice(allowed)
        if topic in TOPICS and topic not in allowed:
            raise InputError(f"topic is {topic!r}; the teacher's policy has {', '.join(allowed)}")
        seed = random.randrange(_MAX_SEED) if seed is None else seed
        return self.find_exercise(name_exercise(kind, level or policy.level, topic, seed))

    def find_exercise(self, name: str) -> Exercise:
        """Make the exercise of a name again."""
        return self._make(name)

    def check_name(self, name: str) -> None:
        """Refuse a name of nothing; an empty one means no exercise.

        Raises:
            InputError: neither an exercise nor a task has it.
        """
        if name and self._find_task(name) is None:
            self.find_exercise(name)

    async def attempt(self, owner: str, name: str, text: str) -> Judged:
        """Judge an attempt and count it."""
        task = self._find_task(name)
        # Found first: a name of nothing takes no place in the records.
        exercise = None if task is not None else self.find_exercise(name)
        record = self.ledger.find(owner, name)
        if task is not None:
            judged = await judge_task(self._bench, task, text)
        else:
            assert exercise is not None  # noqa: S101  # one of both is there
            judged = await judge_attempt(self._bench, exercise, text)
        record.attempts += 1
        record.is_solved |= judged.passed
        self.ledger.keep(owner, name)
        return judged

    def hint(self, owner: str, name: str) -> Hint:
        """Give the next hint of an exercise; a teacher's task has none but those of its policy, by question."""
        if self._find_task(name) is not None:
            raise InputError("for this task ask a question, with what you have so far; it has no ladder of its own")
        exercise = self.find_exercise(name)
        record = self.ledger.find(owner, name)
        hint = give_hint(exercise, record, self.policy)
        record.tell(hint.code.splitlines() if hint.rung is Rung.CODE else [])
        self.ledger.keep(owner, name)
        return hint

    def compute_facts(self, code: str, error: str) -> list[str]:
        """Say what can be computed of a learner's code and error before a model is asked."""
        facts = []
        if code.strip():
            for mistake in correct_syntax(code).mistakes:
                repair = f": `{mistake.repair.strip()}`" if mistake.repair and mistake.repair.strip() else ""
                facts.append(f"line {mistake.line}: {mistake.reason}{repair}")
        return facts + explain_error(error, code)

    async def answer(self, owner: str, name: str, turns: Sequence[Turn], ask: Ask) -> AsyncGenerator[str, None]:
        """Have the model answer, at the rung that the learner stands on; nothing that gives a solution away is told."""
        task = self._find_task(name) or self.recognize(turns)
        exercise = None if task is not None or not name else self.find_exercise(name)
        name = TASK_PREFIX + task.name if task is not None else name
        record = self.ledger.find(owner, name)
        highest = min(self.policy.highest, read_rung(task.highest_hint)) if task is not None else self.policy.highest
        has_worked = record.is_solved or record.attempts >= self.policy.code_after_attempts
        rung = highest if not (exercise or task) else min(highest, Rung(min(max(record.rung, 1), 4)))
        if rung is Rung.CODE and (exercise or task) and not has_worked:
            rung = Rung.PSEUDO_CODE
        about = exercise.statement if exercise else task.statement if task else ""
        guard = self._make_guard(exercise, task, record, rung)
        known = len(guard.told)  # meanwhile another answer may tell the record more
        stream = guard_stream(ask(_instruct(turns, rung, about)), guard)
        try:
            async for part in stream:
                yield part
        finally:
            await stream.aclose()
            if news := guard.told[known:]:
                record.tell(news)
                self.ledger.keep(owner, name)

    def make_plain_guard(self) -> Guard | None:
        """Make the guard of free chat: where a teacher listed tasks, their solutions are not told there either."""
        solutions = [task.solution for task in self.policy.tasks if task.solution]
        if not solutions:
            return None
        return Guard(_ANY_LENGTH, solutions, self.policy.max_solution_share)

    def recognize(self, turns: Sequence[Turn]) -> Task | None:
        """Find the teacher's task that a conversation is about."""
        said = " ".join(turn.text for turn in turns if turn.role == "user").lower()
        return next((task for task in self.policy.tasks if any(w.lower() in said for w in task.about)), None)

    def _find_task(self, name: str) -> Task | None:
        if not name.startswith(TASK_PREFIX):
            return None
        wanted = name.removeprefix(TASK_PREFIX)
        found = next((task for task in self.policy.tasks if task.name == wanted), None)
        if found is None:
            known = ", ".join(task.name for task in self.policy.tasks) or "none"
            raise InputError(f"no task {wanted[:60]!r}; the teacher's policy has {known}")
        return found

    def _make_guard(self, exercise: Exercise | None, task: Task | None, record: Record, rung: Rung) -> Guard:
        policy = self.policy
        is_free = rung is Rung.CODE
        solutions = [task.solution] if task is not None and task.solution else []
        if exercise is not None and not is_free and exercise.kind != "predict":
            solutions.append(exercise.solution)
        others = [t.solution for t in policy.tasks if t.solution and t is not task]

        async def examine(text: str) -> bool:
            try:
                return exercise is not None and await passes(self._bench, exercise, text)
            except BusyError:
                return True  # what could not be looked at is not told

        return Guard(
            _ANY_LENGTH if is_free else policy.max_code_lines, [*solutions, *others], policy.max_solution_share,
            None if is_free or exercise is None else examine, list(record.told),
        )  # fmt: skip


def _instruct(turns: Sequence[Turn], rung: Rung, about: str) -> list[Turn]:
    task = f"\nThe learner works on this exercise: {about}" if about else ""
    rules = f"You are a patient programming tutor. You guide and do not solve. {_RULES[rung]}{task}"
    return [Turn("system", rules), *(turn for turn in turns if turn.role != "system")]
