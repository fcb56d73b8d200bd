"""Writes what synthesis made: conversations, problems with tests, and a record of every draft.

**In**: a `SynthesisResult`.
**Out**: `chats.jsonl`, which `codegemma align --chats` reads, `problems.jsonl` for `--problems`, `kept.jsonl`,
`dropped.jsonl`, `synthesis.json`, `report.html`.
**Not**: anything that hangs on the order in which answers came: the same answers give the same bytes, figures of the
run itself in `synthesis.json` and the report apart.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from codegemma.files import write_whole
from codegemma.recipe import fingerprint, to_plain
from codegemma.report import Column, Report
from codegemma.synthesis.outcomes import Draft, Outcome, Reason, Stage
from codegemma.synthesis.problem_file import SpelledProblem, split_cases
from codegemma.synthesis.prompts import PROMPT_VERSION
from codegemma.synthesis.run import SynthesisJob, SynthesisResult

CHATS_FILE, PROBLEMS_FILE = "chats.jsonl", "problems.jsonl"
KEPT_FILE, DROPPED_FILE = "kept.jsonl", "dropped.jsonl"
FIGURES_FILE, REPORT_FILE = "synthesis.json", "report.html"
_SHOWN = 5


def write_result(job: SynthesisJob, result: SynthesisResult) -> int:
    """Write all files; tell how many problems have tests for reinforcement.

    Raises:
        OutputError: they cannot be written.
    """
    problems = [row for outcome in result.kept if (row := spell_problem(job, outcome))]
    dropped = [outcome for outcome in result.outcomes if outcome.drop is not None]
    _write_lines(job.out / CHATS_FILE, (spell_chat(job, outcome) for outcome in result.kept))
    _write_lines(job.out / PROBLEMS_FILE, map(to_plain, problems))
    _write_lines(job.out / KEPT_FILE, (spell_record(job, outcome) for outcome in result.kept))
    _write_lines(job.out / DROPPED_FILE, (spell_record(job, outcome) for outcome in dropped))
    figures = describe_result(job, result, len(problems))
    write_whole(job.out / FIGURES_FILE, json.dumps(figures, indent=2).encode())
    write_report(job, result, len(problems))
    return len(problems)


def _write_lines(path: Path, rows: Iterable[Any]) -> None:
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def spell_chat(job: SynthesisJob, outcome: Outcome) -> dict[str, Any]:
    """Spell a kept draft as a conversation: the problem, and the solution in a fence."""
    draft = _get_draft(outcome)
    messages = [
        {"role": "user", "content": name_function(draft.problem, outcome.function)},
        {"role": "assistant", "content": f"```python\n{draft.solution.strip()}\n```"},
    ]
    return {"messages": messages, "provenance": describe_origin(job, outcome)}


def spell_problem(job: SynthesisJob, outcome: Outcome) -> SpelledProblem | None:
    """Spell a kept draft as a problem whose answers can be run; nothing where too few of its tests are plain calls."""
    draft, cases = _get_draft(outcome), split_cases(outcome.cases)
    if cases is None:
        return None
    words = name_function(draft.problem, outcome.function)
    return SpelledProblem(words, outcome.function, draft.solution, *cases, describe_origin(job, outcome))


def name_function(problem: str, function: str) -> str:
    """Say what the function is called, where the words do not: nobody could guess it.

    >>> name_function("Write double(x).", "double"), name_function("Double a number.", "double")
    ('Write double(x).', 'Double a number.\\n\\nCall the function `double`.')
    """
    return problem if function in problem else f"{problem}\n\nCall the function `{function}`."


def spell_record(job: SynthesisJob, outcome: Outcome) -> dict[str, Any]:
    """Spell all that is known of a draft: where it comes from, what it says, why it went."""
    drop, draft = outcome.drop, outcome.draft
    verdict = {} if drop is None else {"stage": drop.reason.stage, "reason": drop.reason, "detail": drop.detail}
    return {
        **verdict,
        **(to_plain(draft) if draft is not None else {}),
        "scores": to_plain(outcome.scores),
        "broken_variants": {"caught": outcome.caught, "of": outcome.variants},
        "provenance": describe_origin(job, outcome),
        "seed": outcome.seed.text,
    }


def describe_origin(job: SynthesisJob, outcome: Outcome) -> dict[str, Any]:
    """Tell where a draft comes from: the snippet's file and terms, who wrote and judged it, by which words."""
    seed = to_plain(replace(outcome.seed, text=""))
    del seed["text"]
    judge = job.judge.name if job.choices.min_score else None
    about = {"model": job.generator.name, "judge": judge, "prompt_version": PROMPT_VERSION}
    return {"id": fingerprint(seed, about), **seed, **about}


def describe_result(job: SynthesisJob, result: SynthesisResult, problems: int) -> dict[str, Any]:
    """Tell the figures of a run as plain data."""
    drops = result.count_drops()
    return {
        "seeds": len(result.outcomes),
        "kept": len(result.kept),
        "problems_with_tests": problems,
        "dropped": {f"{reason.stage}/{reason}": drops[reason] for reason in Reason if drops[reason]},
        "spent": {
            role: {**to_plain(spent), "cost": spent.cost} for role, spent in result.spent.items() if spent.replies
        },
        "failed_tries": {name: dict(sorted(kinds.items())) for name, kinds in result.failures.items()},
        "mean_requests_in_flight": round(result.mean_in_flight, 2),
        "choices": to_plain(job.choices),
        "notes": list(result.notes),
    }


def write_report(job: SynthesisJob, result: SynthesisResult, problems: int) -> None:
    """Write the page."""
    judged = f", judged by {job.judge.name}" if job.choices.min_score else ""
    report = Report("Problems that a model wrote", f"by {job.generator.name}{judged}")
    report.section("What was kept")
    cost = sum(spent.cost for spent in result.spent.values())
    report.numbers([
        ("seeds", f"{len(result.outcomes):,}", "snippets that a draft was asked for"),
        ("kept", f"{len(result.kept):,}", f"{problems:,} of them with tests for reinforcement"),
        ("cost", f"{cost:,.2f}", "at the given prices, garbage included"),
        ("requests under way", f"{result.mean_in_flight:.1f}", f"on average, of {job.generator.in_flight}"),
    ])  # fmt: skip
    drops = result.count_drops()
    rows = [[stage, reason, drops[reason]] for stage in Stage for reason in Reason if reason.stage is stage]
    report.table(
        ["filter", "reason", Column("dropped", 0)], [row for row in rows if row[2]],
        "Filters in their order; a draft goes for the first reason. Kept and dropped add up to the seeds.",
    )  # fmt: skip
    report.section("What was spent")
    spent = [
        [role, s.replies, s.known, s.prompt_tokens, s.new_tokens, s.uncounted, s.cost]
        for role, s in result.spent.items()
    ]
    names = ["replies", "of those, known before", "tokens read", "tokens written", "replies not counted"]
    report.table(
        ["model", *(Column(name, 0) for name in names), Column("cost", 2)], spent, "By the servers' own counts."
    )
    failures = [[name, kind, n] for name, kinds in result.failures.items() for kind, n in sorted(kinds.items())]
    if failures:
        report.table(["server", "failure", Column("tries", 0)], failures, "Tries of this run that brought no answer.")
    for note in result.notes:
        report.text(note)
    report.section("Some of them")
    for outcome in [*result.kept[:_SHOWN], *[o for o in result.outcomes if o.drop and o.draft][:_SHOWN]]:
        _show(report, outcome)
    report.write(job.out / REPORT_FILE)


def _show(report: Report, outcome: Outcome) -> None:
    draft, drop, seed = _get_draft(outcome), outcome.drop, outcome.seed
    ending = "kept" if drop is None else f"dropped: {drop.reason} ({drop.detail[:120]})"
    panes = [("snippet", seed.text), ("problem", draft.problem), ("solution", draft.solution), ("tests", draft.tests)]
    report.fold(f"{seed.repo} {seed.path}:{seed.line}, {ending}", panes)


def _get_draft(outcome: Outcome) -> Draft:
    if outcome.draft is None:
        raise ValueError("there is no draft where none was written")
    return outcome.draft
