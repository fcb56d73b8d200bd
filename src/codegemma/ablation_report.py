"""An ablation as a page: whom each choice favours, by how much, and how the runs learned.

**In**: an `AblationTable`, and the folder of its runs.
**Out**: `report.html` in that folder.
**Not**: figures of its own.
"""

from pathlib import Path

from codegemma.ablation import REFERENCE, VARIANTS, AblationTable, locate_run
from codegemma.ablation_score import ScoreRow
from codegemma.report import Column, Estimate, Report, Series
from codegemma.train.loop import METRICS_FILE
from codegemma.train.meters import read_metrics

REPORT_FILE = "report.html"
_BITS = "bits_per_byte"


def write_report(out: Path, table: AblationTable) -> Path:
    """Write the page into the ablation's folder and return its path."""
    told = f"{table.tokens:,} tokens a run, {table.seeds} seeds; by codegemma ablate"
    report = Report("What the same tokens teach", told)
    names = list(dict.fromkeys(row.variant for row in table.rows))
    _add_verdicts(report, table)
    report.section("Bits per byte of the missing text")
    report.text(
        f"The reference: {REFERENCE.about}. A point is the variant minus the reference on the same holes, "
        "averaged over the seeds, with its 95 % interval over files; left of 0 the variant is better. Of a full point "
        "the interval leaves 0 out."
    )
    for name in names:
        _add_differences(report, name, table)
    _add_matches(report, table)
    _add_curves(report, out, names)
    path = out / REPORT_FILE
    report.write(path)
    return path


def _add_verdicts(report: Report, table: AblationTable) -> None:
    report.section("Which default the rows support")
    report.table(
        ["choice", "default", "variant", "for the default", "for the variant", "undecided"],
        [
            [f"`{one.setting}`", one.default, f"{one.other} ({one.variant})", one.for_default, one.for_variant,
             one.undecided]
            for one in table.supports
        ],
        "Rows are kinds of holes, modes and metrics. One decides where its interval leaves 0 out.",
    )  # fmt: skip


def _add_differences(report: Report, name: str, table: AblationTable) -> None:
    rows = [row for row in table.rows if row.variant == name and row.metric == _BITS]
    values = {f"{_spell_kind(row)}, {row.mode.upper()}": Estimate.of(row.difference) for row in rows}
    about = VARIANTS[name].about if name in VARIANTS else name
    report.differences(values, f"{name} − reference, bits per byte", f"`{name}`: {about}.")


def _add_matches(report: Report, table: AblationTable) -> None:
    report.section("Every row")
    report.table(
        ["variant", "holes", "mode", "metric", Column("reference", 4), Column("variant", 4), Column("difference", 4)],
        [
            [row.variant, _spell_kind(row), row.mode.upper(), row.metric.replace("_", " "), row.reference, row.value,
             Estimate.of(row.difference)]
            for row in table.rows
        ],
        "Exact match is by teacher forcing, as a share of the holes.",
    )  # fmt: skip


def _add_curves(report: Report, out: Path, names: list[str]) -> None:
    series = []
    for name in [REFERENCE.name, *names]:
        lines = read_metrics(locate_run(out, name, 0) / METRICS_FILE)
        if lines:
            values = [line["plain_cross_entropy"] for line in lines]
            series.append(Series(name, [line["tokens"] / 1e6 for line in lines], values))
    if series:
        report.section("Learning")
        report.lines(
            series,
            "tokens, millions",
            "nats a token",
            "Training loss of the first seed. Variants read other rows: their losses differ in what was asked too.",
        )


def _spell_kind(row: ScoreRow) -> str:
    return row.kind.replace("_", " ")
