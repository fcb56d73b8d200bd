"""The suite `content-safety`: what a model refuses, and what it refuses without need, by the card's categories.

**In**: a subject; requests (`prompts.toml`, and `conduct.toml` of `--data`); perhaps a second judge.
**Out**: each answer with its verdicts; shares of refusals and over-refusals with Wilson's intervals.
**Not**: people's judgement, and not how harmful an answer is. A model that was not tuned to converse refuses nothing
and helps nobody: its figures tell only that. Published tests of toxicity and bias are suites beside it
(`bias_tasks.py`).
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codegemma.errors import InputError
from codegemma.evals.conduct.judges import Judge, ModelJudge, RuleJudge, Stance
from codegemma.evals.conduct.prompts import Prompt, read_file, read_own
from codegemma.evals.examination import AbsentError, Answers, Examination, Suite
from codegemma.evals.measure import Measurement
from codegemma.evals.statistics import count_share
from codegemma.places import choose_cache
from codegemma.records import Request, Turn

OPERATORS_FILE = "conduct.toml"
_MAX_NEW_TOKENS = 160


@dataclass(frozen=True, slots=True)
class ConductResult:
    """One answer. `second` is the second judge's verdict, `None` without one or where it could not tell."""

    prompt_id: str
    category: str
    is_harmful: bool
    request: str
    answer: str
    stance: Stance
    second: Stance | None = None

    @property
    def item_id(self) -> str:
        """Name the request."""
        return self.prompt_id

    @property
    def metrics(self) -> dict[str, float]:
        """Tell what is compared item by item."""
        refused = "refused" if self.is_harmful else "over_refused"
        return {refused: float(self.stance is Stance.REFUSED), "no_answer": float(self.stance is Stance.NONE)}


def run_conduct(exam: Examination) -> Answers:
    """Ask everything, and have it judged by rules and, where one is named, by a model."""
    prompts, notes = _gather(exam)
    answers, lacking = exam.ask({prompt.prompt_id: _spell(exam, prompt) for prompt in prompts})
    answered = [prompt for prompt in prompts if prompt.prompt_id in answers]
    results = judge_answers(answered, [answers[prompt.prompt_id].text for prompt in answered], RuleJudge())
    if exam.judge is not None:
        second = ModelJudge(exam.judge, exam.judge_name, choose_cache("judged"))
        results = add_second(results, second)
        notes.append(describe_agreement(results, second.name))
    if not exam.choices.is_chat:
        notes.append("asked as plain text; --chat asks in turns, as a model that was tuned to converse expects")
    scored = "rules" if exam.judge is None else f"rules, beside them {exam.judge_name}"
    measured = tuple(measure_conduct(results))
    return Answers(scored, len(prompts), results, tuple(notes), measured, lacking=lacking)


def _gather(exam: Examination) -> tuple[list[Prompt], list[str]]:
    prompts, notes = read_own(), []
    try:
        added = read_file(exam.find(OPERATORS_FILE, "requests of your own"))
        prompts += [
            dataclasses.replace(p, category=f"own: {p.category}", prompt_id=f"own/{p.prompt_id}") for p in added
        ]
        notes.append(f"{len(added)} requests of {OPERATORS_FILE} beside those that ship")
    except AbsentError:
        pass
    if exam.choices.limit is not None:
        prompts = _spread(prompts, exam.choices.limit)
    return prompts, notes


def _spread(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """Take the first of every category and kind before the second of any."""
    rank: dict[str, int] = {}
    seen: dict[tuple[str, bool], int] = {}
    for prompt in prompts:
        key = (prompt.category, prompt.is_harmful)
        rank[prompt.prompt_id] = seen[key] = seen.get(key, -1) + 1
    chosen = {p.prompt_id for p in sorted(prompts, key=lambda p: rank[p.prompt_id])[:limit]}
    return [p for p in prompts if p.prompt_id in chosen]


def _spell(exam: Examination, prompt: Prompt) -> Request:
    room = min(_MAX_NEW_TOKENS, exam.subject.max_context_tokens // 4)
    if exam.choices.is_chat:
        return Request("", "", mode=None, max_new_tokens=room, turns=(Turn("user", prompt.text),))
    asked = f"Request: {prompt.text}\nAnswer:"
    return Request(asked, "", mode=None, max_new_tokens=room, stop_strings=("\nRequest:",))


def judge_answers(prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge) -> list[ConductResult]:
    """Judge every answer once.

    Raises:
        InputError: the judge could not tell of an answer; the rules always can.
    """
    results = []
    stances = judge.judge([(p.text, answer) for p, answer in zip(prompts, answers, strict=True)])
    for prompt, answer, stance in zip(prompts, answers, stances, strict=True):
        if stance is None:
            raise InputError(f"{judge.name} gave no verdict on {prompt.prompt_id}")
        results.append(ConductResult(prompt.prompt_id, prompt.category, prompt.is_harmful, prompt.text, answer, stance))
    return results


def add_second(results: Sequence[ConductResult], judge: Judge) -> list[ConductResult]:
    """Have the same answers judged a second time."""
    stances = judge.judge([(r.request, r.answer) for r in results])
    return [dataclasses.replace(r, second=stance) for r, stance in zip(results, stances, strict=True)]


def describe_agreement(results: Sequence[ConductResult], name: str) -> str:
    """Say how often two judges agree where both gave a verdict, and how often the second gave none."""
    both = [r for r in results if r.second is not None]
    silent = len(results) - len(both)
    agreed = sum(r.second is r.stance for r in both)
    said = f"{name} and the rules agree on {agreed} of {len(both)} answers"
    return said + (f"; it gave no verdict on {silent}" if silent else "")


def measure_conduct(results: Sequence[ConductResult]) -> Iterator[Measurement]:
    """Count refusals of harmful requests, over-refusals of benign ones and empty answers, by judge and category."""
    has_second = any(r.second is not None for r in results)
    for judge in ("rules", "model judge") if has_second else ("rules",):
        rows = [(r, r.stance if judge == "rules" else r.second) for r in results]
        told = [(r, stance) for r, stance in rows if stance is not None]
        yield from _count("all", judge, told)
        for category in dict.fromkeys(r.category for r in results):
            yield from _count(category, judge, [(r, stance) for r, stance in told if r.category == category])


def _count(kind: str, judge: str, rows: Sequence[tuple[ConductResult, Stance]]) -> Iterator[Measurement]:
    for metric, is_harmful in (("refused", True), ("over_refused", False)):
        stances = [stance for r, stance in rows if r.is_harmful is is_harmful]
        if stances:
            interval = count_share(sum(s is Stance.REFUSED for s in stances), len(stances))
            yield Measurement(judge, kind, None, metric, "share", interval)
    if rows:
        empty = count_share(sum(stance is Stance.NONE for _, stance in rows), len(rows))
        yield Measurement(judge, kind, None, "no_answer", "share", empty)


CONDUCT = Suite(
    "content-safety",
    "harmful requests by the card's policy categories, and harmless ones that look alike: refusal and over-refusal",
    run_conduct,
)
