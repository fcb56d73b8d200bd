"""Results as a page: the table against the card, bars with intervals, every failure with its program and its output.

**In**: a folder that `codegemma evaluate` wrote; for a comparison, two.
**Out**: `report.html`, one file.
**Not**: figures of its own: everything is read from what the evaluation wrote.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from codegemma.evals.babelcode.suites import find_ceiling
from codegemma.evals.card import CardRow, fill_card, read_columns
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import Measurement
from codegemma.evals.page_tables import (
    are_alike,
    choose_bars,
    count_equally,
    name_mode,
    tabulate,
    tabulate_alike,
)
from codegemma.evals.pairing import Change, Comparison
from codegemma.evals.results import Results, SuiteResults, read_results
from codegemma.evals.samples import Judged, Sample, is_samples, read_samples
from codegemma.evals.summary import list_headlines
from codegemma.records import InfillMode
from codegemma.report import Column, Estimate, Report

REPORT_FILE = "report.html"
# A page opens with some thousands of folded texts; of more, the records have the rest.
_MAX_SHOWN = 200
# It is in the results; a page of a phone has room for few columns.
_LEFT_OUT = ("bits_per_byte_with_stop",)
# A shift of a figure that chance brings in fewer than one of twenty comparisons.
_RARE = 0.05


def write_page(folder: Path) -> Path:
    """Write the page of an evaluation beside its results.

    Raises:
        InputError: no results there.
        OutputError: it cannot be written.
    """
    results = read_results(folder)
    asked = "; ".join(dict.fromkeys(_describe(suite.choices) for suite in results.suites if suite.measurements))
    report = Report(f"Evaluation of `{results.model}`", f"by codegemma{', ' * bool(asked)}{asked}")
    _add_summary(report, results)
    _add_card(report, results)
    notes = Counter(note for suite in results.suites for note in suite.notes)
    shared = [note for note, count in notes.items() if count > 1]
    for suite in results.suites:
        if suite.measurements:
            _add_suite(report, suite, shared)
    if shared:
        report.section("Of several suites")
    for note in shared:
        report.text(f"– {note}")
    _add_not_run(report, results.suites)
    judged = [suite for suite in results.suites if suite.measurements and is_samples(folder / suite.holes_file)]
    if judged:
        report.section("Failures")
    for suite in judged:
        _add_failures(report, suite, folder)
    report.write(folder / REPORT_FILE)
    return folder / REPORT_FILE


def _describe(choices: EvalChoices) -> str:
    limit = "" if choices.limit is None else f"at most {choices.limit:,} of each suite, "
    number = "one answer" if choices.samples == 1 else f"{choices.samples:,} answers"
    form = ", in conversations" if choices.is_chat else ""
    written = "greedy" if choices.temperature == 0 else f"at temperature {choices.temperature:g}"
    return f"{limit}{number} to each question, {written}{form}"


def _add_summary(report: Report, results: Results) -> None:
    """Show every suite in a line or a few, those that were not run among them."""
    report.section("Summary")
    lines = list(list_headlines(results.suites))
    rows = [
        [line.suite, line.about, line.spell(), line.measured.interval.items]
        for line in lines
        if line.measured is not None
    ]
    if rows:
        about = "The first figure of each kind, with its 95 % interval. All others are below."
        report.table(["suite", "figure", "measured", "asked"], rows, about)
    if lacking := list(dict.fromkeys(line.suite for line in lines if line.measured is None)):
        report.text(f"Not run, or in part: {', '.join(lacking)}. Why is below, of each.")


def _add_card(report: Report, results: Results) -> None:
    asked = {suite.suite for suite in results.suites}
    rows = [row for row in fill_card([results]) if row.published.suite in asked]
    if not any(row.measured for row in rows):
        return
    report.section("Beside the model card")
    columns = read_columns()
    report.table(
        ["benchmark", "asked", Column("measured, %", 1, 100), *(Column(name, 1) for name in columns)],
        [
            [
                row.published.name,
                _describe_part(row),
                Estimate.of(row.measured.interval) if row.measured else None,
                *(row.published.figures.get(name) for name in columns),
            ]
            for row in rows
        ],
        "Ours with its 95 % interval, and, in % too, what Google published of CodeGemma's releases. A figure of a part "
        "stands beside the whole's for orientation only.",
    )


def _describe_part(row: CardRow) -> str:
    if row.measured is None:
        return "not run"
    return "all" if row.is_whole else f"{row.measured.interval.items:,} of {row.published.tasks:,}"


def _add_suite(report: Report, suite: SuiteResults, shared: Collection[str]) -> None:
    report.section(suite.suite)
    shown = [m for m in suite.measurements if m.metric not in _list_left_out(suite)]
    told = f"Scored by {suite.scored_by}; 95 % intervals."
    ceiling = " The ceiling is what programs that know the answers pass."
    if are_alike(shown):
        find = partial(find_ceiling, suite.suite)
        asked = f" {count:,} were asked of each." if (count := count_equally(shown)) else ""
        told = f"Scored by {suite.scored_by}.{asked} The headline has its 95 % interval; all are in the results."
        report.table(*tabulate_alike(shown, find), told + ceiling * any(find(m.kind) for m in shown))
    else:
        for number, kind in enumerate(dict.fromkeys(m.kind for m in shown)):
            report.table(*tabulate(kind, [m for m in shown if m.kind == kind]), "" if number else told)
    _add_bars(report, suite.measurements)
    for note in suite.notes:
        if note not in shared:
            report.text(f"– {note}")


def _list_left_out(suite: SuiteResults) -> tuple[str, ...]:
    # Where every line was rated, the match of the fewer that were written says the same.
    is_rated = any(m.metric == "exact_match" for m in suite.measurements)
    return (*_LEFT_OUT, *(["generated_match"] if is_rated else []))


def _add_bars(report: Report, measurements: Sequence[Measurement]) -> None:
    if values := choose_bars(measurements):
        report.bars(
            values, "% of the items", "Bars with their 95 % intervals: those that overlap much say little.", digits=1
        )


def _add_not_run(report: Report, suites: Iterable[SuiteResults]) -> None:
    rows = [[suite.suite, kind.replace("_", " "), reason] for suite in suites for kind, reason in suite.not_run.items()]
    if rows:
        report.section("Not run")
        report.table(["suite", "kind", "why"], rows, "What is not here has no figure; none is taken for zero.")


def _add_failures(report: Report, suite: SuiteResults, folder: Path) -> None:
    """Tell how many answers of a suite failed in which way, then show the first of them."""
    counts: Counter[str] = Counter()
    shown: list[tuple[Sample, Judged]] = []
    for sample, judged in _list_headlines(read_samples(folder / suite.holes_file)):
        if judged.has_passed:
            continue
        counts[judged.outcome] += 1
        if len(shown) < _MAX_SHOWN:
            shown.append((sample, judged))
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    rest = f" The first {_MAX_SHOWN} are here, all are in `{suite.holes_file}`." if counts.total() > _MAX_SHOWN else ""
    about = f"did not pass, cut by the headline's policy: {told}.{rest}"
    report.text(f"{suite.suite}: {counts.total():,} answers {about}" if told else f"{suite.suite}: none.")
    for sample, judged in shown:
        report.fold(_name_failure(sample, judged), _show(sample, judged))


def _list_headlines(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Judged]]:
    """List samples with their verdict under the first policy, where there is one."""
    return ((sample, sample.judged[0]) for sample in samples if sample.judged and sample.judged[0].was_run)


def _name_failure(sample: Sample, judged: Judged) -> str:
    mode = f", {name_mode(sample.mode)}" if sample.mode else ""
    number = f", sample {sample.sample}" if sample.sample else ""
    return f"`{sample.task_id}`{mode}{number}: {judged.outcome} {judged.reason}"


def _show(sample: Sample, judged: Judged) -> list[tuple[str, str]]:
    printed = "\n".join(part for part in (judged.reason, judged.stdout, judged.stderr) if part)
    return [
        ("program", f"{sample.before}{judged.text}{sample.after}"),
        (f"{judged.outcome} after {judged.seconds:.2f} s", printed or "(it printed nothing)"),
    ]


def write_comparison(comparison: Comparison, first: Path, second: Path, out: Path) -> None:
    """Write the page of two results.

    Raises:
        InputError: records cannot be read.
        OutputError: it cannot be written.
    """
    report = Report(f"`{comparison.second}` beside `{comparison.first}`", "compared by codegemma, item by item")
    report.section("Differences")
    report.table(
        ["suite", "kind", "mode", "system", "figure", "first", "second", Column("second - first", 3), "only second",
         "only first", Column("by chance", 3)],
        [_list_cells(change) for change in comparison.changes],
        "Paired on the same items, 95 % intervals by bootstrap over groups (files or solutions). `only second` and "
        "`only first` count items that one of the two answers; `by chance` is McNemar's exact probability of such a "
        "split, which takes every item for independent: where holes share a solution, trust the interval. Of many "
        "figures one in twenty differs by chance.",
        strong_rows=[i for i, c in enumerate(comparison.changes) if c.chance is not None and c.chance < _RARE],
    )  # fmt: skip
    for note in comparison.notes:
        report.text(note)
    _add_answers(report, first, second)
    report.write(out)


def _list_cells(change: Change) -> list[object]:
    names = [change.suite, change.kind.replace("_", " "), change.mode.upper(), change.system, change.metric]
    means = [f"{change.first:.3f}", f"{change.second:.3f}"]
    return [*names, *means, Estimate.of(change.difference), change.gained, change.lost, change.chance]


def _add_answers(report: Report, first: Path, second: Path) -> None:
    """Show what one of the two answers and the other does not, both answers side by side."""
    suites = {suite.suite: suite.holes_file for suite in read_results(second).suites if suite.holes_file}
    for name, file in suites.items():
        if not is_samples(first / file) or not is_samples(second / file):
            continue
        before = {_identify(s): (s, judged) for s, judged in _list_headlines(read_samples(first / file))}
        pairs = [
            (before[key], (sample, judged))
            for sample, judged in _list_headlines(read_samples(second / file))
            if (key := _identify(sample)) in before and before[key][1].has_passed != judged.has_passed
        ]
        report.section(f"{name}: answered by one of the two")
        for (old, was), (new, judged) in pairs[:_MAX_SHOWN]:
            winner = "second" if judged.has_passed else "first"
            report.fold(
                f"`{new.task_id}`{f', {name_mode(new.mode)}' if new.mode else ''}: only by the {winner}",
                [(f"first: {was.outcome} {was.reason}", f"{old.before}{was.text}{old.after}"),
                 (f"second: {judged.outcome} {judged.reason}", f"{new.before}{judged.text}{new.after}")],
            )  # fmt: skip
        report.text(f"{len(pairs):,} answers, under the headline's policy.")


def _identify(sample: Sample) -> tuple[str, str, InfillMode | None, int]:
    return sample.task_id, sample.kind, sample.mode, sample.sample
