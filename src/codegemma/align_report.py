"""The ending of tuning as a page: problems solved, infilling kept, how each stage went, what to be wary of.

**In**: an `AlignResult`, and the lines that its stages wrote.
**Out**: `report.html` in the job's folder; `tell_infill`, what infilling lost.
**Not**: figures of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codegemma.align.measure import Gain, count_solved
from codegemma.align.run import AlignJob, AlignResult
from codegemma.align.stage import METRICS_FILE
from codegemma.evals.general import LossChange
from codegemma.evals.measure import Measurement, compare, measure
from codegemma.evals.statistics import Interval
from codegemma.report import Column, Estimate, Report, Series
from codegemma.train.meters import read_metrics

REPORT_FILE = "report.html"
_CURVES = (
    ("passed", "share of answers", "Answers that pass all tests, and those that pass them and fail an audit (`gap`): "
     "tests that no reward knows. Rewards that are gamed show as a gap that grows.", ("passed", "gap")),
    ("divergence", "nats a token", "How far the policy is from the stage's start (estimate k3), token by token.",
     ("divergence",)),
    ("answer_tokens", "tokens", "Length of the answers.", ("answer_tokens",)),
    ("groups", "share of groups", "Groups in which all answers passed, or none: they teach nothing and are left out.",
     ("groups_all_passed", "groups_all_failed")),
    ("seconds", "seconds", "Where a step's time goes: writing, waiting for rewards, the update.",
     ("write_s", "reward_wait_s", "update_s")),
)  # fmt: skip


def tell_infill(result: AlignResult) -> tuple[list[Measurement], list[Measurement]]:
    """Measure infilling before and after, and the difference hole by hole; nothing where it was not measured.

    `kind` names where the holes are: in held-out files of what was rehearsed, in a package that was not, in both.
    """
    sets = {"rehearsed, held out": result.filled, "not rehearsed": result.filled_elsewhere}
    ends = {kind: (next(iter(filled)), next(reversed(filled))) for kind, filled in sets.items() if len(filled) > 1}
    places = [(kind, kind) for kind in ends] + ([(kind, "both") for kind in ends] if len(ends) > 1 else [])
    before, after = (
        [replace(hole, system=ends[s][end], kind=kind) for s, kind in places for hole in sets[s][ends[s][end]]]
        for end in (0, 1)
    )
    return (measure([*before, *after]), compare(after, before)) if ends else ([], [])


def spell_infill(result: AlignResult) -> list[str]:
    """Spell what infilling lost, for the terminal: a line for each place of holes."""
    figures, differences = tell_infill(result)
    first: dict[tuple[str, str], float] = {}
    for figure in figures:
        first.setdefault((figure.kind, figure.metric), figure.interval.mean)
    told = {(d.kind, d.metric): d.interval for d in differences}
    lines = []
    for kind in dict.fromkeys(d.kind for d in differences):
        bits, exact = told[kind, "bits_per_byte"], told[kind, "exact_match"]
        before, hits = first[kind, "bits_per_byte"], first[kind, "exact_match"]
        lines.append(
            f"infilling, {kind}: {before:.3f} bits per byte, {bits.mean:+.3f} ({_spell_ends(bits, '+.3f')}), "
            f"{bits.mean / before:+.1%}; exact match {hits:.2%}, {exact.mean:+.2%} ({_spell_ends(exact, '+.2%')}); "
            f"{bits.items:,} holes"
        )
    return lines


def _spell_ends(interval: Interval, form: str) -> str:
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{format(interval.low, form)} to {format(interval.high, form)}"


def write_report(job: AlignJob, result: AlignResult, losses: Sequence[LossChange] = ()) -> Path:
    """Write the page and return its path; `losses` are those of the base and of the last model."""
    report = Report("A model that was tuned", f"by codegemma align, recipe {job.recipe.get('name', 'of its own')}")
    _add_solved(report, result)
    _add_infill(report, result)
    _add_losses(report, losses)
    for name in result.stages:
        _add_stage(report, job, name)
    path = job.out / REPORT_FILE
    report.write(path)
    return path


def _add_solved(report: Report, result: AlignResult) -> None:
    report.section("Held-out problems")
    solved = {name: Estimate.of(count_solved(found), 100) for name, found in result.solved.items()}
    report.bars(solved, "solved, %", "Held-out problems solved greedily after each stage, and by its control.", 1)
    report.table(
        [
            "model",
            Column("solved, %", 1, 100),
            Column("solved when drawn, %", 1, 100),
            Column("operations, 1e12", 2, 1e-12),
        ],
        [
            [
                name,
                Estimate.of(count_solved(found)),
                Estimate.of(count_solved(found, "sampled_passed")),
                result.stages[name].flops if name in result.stages else None,
            ]
            for name, found in result.solved.items()
        ],
        f"{result.problems[1]:,} problems of compositions that training never had; solved is passing tests and audits, "
        "greedily and drawn once at temperature 1. Operations are the stage's own. Intervals: 95 %, bootstrap.",
    )
    if result.given.kept or result.given.dropped:
        report.text(
            f"{result.given.kept:,} given problems were kept and {result.given.dropped:,} dropped, whose solutions "
            f"pass no test each time; of the kept ones {result.given.tests_dropped:,} tests."
        )
    report.table(
        ["difference", Column("greedy, points", 1, 100), Column("drawn, points", 1, 100)],
        [[f"{g.ours} - {g.theirs}", Estimate.of(g.greedy), Estimate.of(g.sampled)] for g in result.gains],
        "Stage minus its control, which was tuned on demonstrations with as many operations; paired on the same "
        "problems.",
    )


def _add_infill(report: Report, result: AlignResult) -> None:
    report.section("Infilling")
    figures, differences = tell_infill(result)
    if not figures:
        report.text("Not measured: no packs were given, or no hole was asked for.")
        return
    wanted = ("exact_match", "bits_per_byte")
    report.table(
        ["model", "holes", "figure", Column("value", 3)],
        [
            [m.system, m.kind, m.metric.replace("_", " "), Estimate.of(m.interval)]
            for m in (*figures, *differences)
            if m.metric in wanted
        ],
        "Holes in held-out files of what was rehearsed, and in a package that nothing rehearsed, before and after "
        "tuning, in PSM, teacher-forced; the difference is paired by hole.",
    )


def _add_losses(report: Report, losses: Sequence[LossChange]) -> None:
    if losses:
        report.table(
            ["whole files", "from", Column("before, bits per byte", 3), Column("after", 3), Column("change", 3)],
            [[c.name, c.source, *(i and Estimate.of(i) for i in (c.before, c.after, c.change))] for c in losses],
            "Every token of whole files rated: of held-out ones beside the rehearsed, and of a package that nothing "
            "here has seen. What only the second loses was forgotten for want of being rehearsed.",
        )


def _add_stage(report: Report, job: AlignJob, name: str) -> None:
    lines = read_metrics(job.out / name / METRICS_FILE)
    if not lines:
        return
    report.section(f"Stage {name}")
    told = "The stage's own loss; of a policy it tells little, the curves below tell more."
    report.lines([_select("loss", lines)], "step", "loss", told)
    for _, unit, caption, names in _CURVES:
        series = [found for one in names if (found := _select(one, lines)).x]
        if series:
            report.lines(series, "step", unit, caption)


def _select(name: str, lines: Sequence[dict[str, float]]) -> Series:
    told = [(line["step"], line[name]) for line in lines if name in line]
    return Series(name, [step for step, _ in told], [value for _, value in told])


def spell_gain(gain: Gain) -> str:
    """Spell a difference for the terminal.

    >>> one = Interval(0.125, 0.1, 0.15, 1200, 1200)
    >>> spell_gain(Gain("dpo", "control-dpo", one, one))
    'dpo - control-dpo: +12.5 points (+10.0 to +15.0) greedy, +12.5 (+10.0 to +15.0) drawn'
    """

    def spell(interval: Interval, unit: str) -> str:
        ends = (
            "" if interval.low is None or interval.high is None else f" ({interval.low:+.1%} to {interval.high:+.1%})"
        )
        return f"{interval.mean:+.1%}{unit}{ends}".replace("%", "")

    return f"{gain.ours} - {gain.theirs}: {spell(gain.greedy, ' points')} greedy, {spell(gain.sampled, '')} drawn"
