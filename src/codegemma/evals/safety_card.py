"""What a model's card says of safety, from the results of the suites that measure it.

**In**: results of evaluations.
**Out**: lines of Markdown: figures with intervals, and "not measured" where a suite was not run.
**Not**: a threshold, or the word "safe". People's ratings are `codegemma.rating`'s.
"""

from collections.abc import Iterator, Sequence

from codegemma.evals.bias_tasks import BIAS_TASKS
from codegemma.evals.conduct.suite import CONDUCT
from codegemma.evals.insecure.suite import INSECURE
from codegemma.evals.measure import Measurement
from codegemma.evals.memorization import CONTROL, MEMORIZATION, TRAINING
from codegemma.evals.offence.suite import OFFENCE
from codegemma.evals.results import Results, SuiteResults
from codegemma.evals.statistics import Interval
from codegemma.evals.summary import list_headlines

NOT_MEASURED = "not measured"
# Suites that this section tells of, and the section of evaluation need not.
SAFETY_SUITES = frozenset({CONDUCT.name, INSECURE.name, OFFENCE.name, MEMORIZATION.name, *BIAS_TASKS})


def write_safety(results: Sequence[Results]) -> Iterator[str]:
    """Write a line or a table for each suite, measured or not."""
    suites = {suite.suite: suite for result in results for suite in result.suites if suite.measurements}
    yield from _write_conduct(suites.get(CONDUCT.name))
    yield from _write_insecure(suites.get(INSECURE.name))
    yield from _write_offence(suites.get(OFFENCE.name))
    yield from _write_memorization(suites.get(MEMORIZATION.name))
    yield from _write_bias([suites[name] for name in BIAS_TASKS if name in suites])


def _write_bias(suites: Sequence[SuiteResults]) -> Iterator[str]:
    """Write the first figure of each test of bias; what it leaves out is in `docs/safety.md`."""
    if not suites:
        yield f"- Published tests of toxicity and bias: {NOT_MEASURED}."
    for line in list_headlines(suites):
        if line.measured is not None:
            asked = f"{line.measured.interval.items:,} questions"
            yield f"- {BIAS_TASKS[line.suite].title}: {line.about} {line.spell()}, {asked}."


def write_limits(results: Sequence[Results]) -> Iterator[str]:
    """Say what the results show that a user has to know: memory beyond prediction, and weak code."""
    suites = {suite.suite: suite for result in results for suite in result.suites}
    memory = suites.get(MEMORIZATION.name)
    differences = [] if memory is None else _select(memory, f"{TRAINING} - {CONTROL}", "memorized_near")
    if any(m.interval.is_above_zero() for m in differences):
        most = max(differences, key=lambda m: m.interval.mean)
        yield f"It writes out parts of its training files: {_spell(most.interval)} more of their passages than of files"
        yield "that it has not seen."
    insecure = suites.get(INSECURE.name)
    for m in [] if insecure is None else _select(insecure, "model", "insecure"):
        yield f"Where a function's head invited a known weakness, {_spell(m.interval)} of its answers had it."


def _select(suite: SuiteResults, system: str, metric: str) -> list[Measurement]:
    return [m for m in suite.measurements if (m.system, m.metric) == (system, metric)]


def _write_conduct(suite: SuiteResults | None) -> Iterator[str]:
    if suite is None:
        yield f"- Content safety, representational harms, child safety, large-scale harms: {NOT_MEASURED}."
        return
    yield f"- Refusals of harmful requests and of harmless ones that look alike, judged by {suite.scored_by}:\n"
    yield "| category | judge | harmful refused | harmless refused | no answer |\n|---|---|---|---|---|"
    for kind, judge in dict.fromkeys((m.kind, m.system) for m in suite.measurements):
        row = {m.metric: m.interval for m in suite.measurements if (m.kind, m.system) == (kind, judge)}
        cells = [_spell(row[name]) if name in row else "" for name in ("refused", "over_refused", "no_answer")]
        yield f"| {kind.replace('_', ' ')} | {judge} | {' | '.join(cells)} |"
    yield ""


def _write_insecure(suite: SuiteResults | None) -> Iterator[str]:
    found = {} if suite is None else {m.metric: m.interval for m in suite.measurements if m.kind == "all"}
    if "insecure" not in found:
        yield f"- Insecure code: {NOT_MEASURED}."
        return
    line = (
        f"- Insecure code: {_spell(found['insecure'])} of {found['insecure'].items} answers had the weakness asked for"
    )
    of_reached = found.get("insecure_of_reached")
    yield line + (f", {_spell(of_reached)} of those that did the dangerous thing at all." if of_reached else ".")


def _write_offence(suite: SuiteResults | None) -> Iterator[str]:
    solved = [] if suite is None else [m for m in suite.measurements if m.kind == "all"]
    if not solved:
        yield f"- Cyber-offence: {NOT_MEASURED}."
    for m in solved:
        yield f"- Cyber-offence: {_spell(m.interval)} of {m.interval.items} small capture-the-flag challenges solved."


def _write_memorization(suite: SuiteResults | None) -> Iterator[str]:
    if suite is None:
        yield f"- Memorization: {NOT_MEASURED}."
        return
    yield "- Memorization: shares of passages of 50 tokens that are written out after the 50 before them:\n"
    yield "| form | order | files | exact | within 10 % | passages |\n|---|---|---|---|---|---|"
    for kind, mode, system in dict.fromkeys((m.kind, m.mode, m.system) for m in suite.measurements):
        rows = [m for m in suite.measurements if (m.kind, m.mode, m.system) == (kind, mode, system)]
        row = {m.metric: m.interval for m in rows}
        if system in (TRAINING, CONTROL) and "memorized_exact" in row:
            exact, near = row["memorized_exact"], row["memorized_near"]
            order = mode.upper() if mode else ""
            yield f"| {kind} | {order} | {system} | {_spell(exact)} | {_spell(near)} | {exact.items:,} |"
    yield ""
    yield from (f"  {note}." for note in suite.notes if note.startswith("personal data"))


def _spell(interval: Interval) -> str:
    spread = ""
    if interval.low is not None and interval.high is not None:
        spread = f" ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    return f"{100 * interval.mean:.1f} %{spread}"
