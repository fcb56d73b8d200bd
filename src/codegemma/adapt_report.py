"""The ending of the main job as a page: the proof first, then completions, the course of training, and the data.

**In**: an `AdaptResult`.
**Out**: `report.html` in the job's folder; `Showcase`s, completions beside the truth.
**Not**: figures of its own: everything is read from what the steps wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.adapt import AdaptResult
from codegemma.build import add_build_sections
from codegemma.evals.heldout import Hole, make_holes
from codegemma.evals.measure import Measurement
from codegemma.model.infill_modes import read_infill_modes
from codegemma.records import InfillMode, Pack
from codegemma.report import Column, Estimate, Report, Series
from codegemma.shards import read_records
from codegemma.train.loop import METRICS_FILE
from codegemma.train.meters import read_metrics

REPORT_FILE = "report.html"
_SHOWN_LINES_BEFORE, _SHOWN_LINES_AFTER = 4, 2
# A figure, its column, and on which side of zero the better system is.
_DIFFERENCES = (
    ("exact_match", Column("exact match, points", 1, 100), "above"),
    ("bits_per_byte", Column("bits per byte", 3), "below"),
)
_MIDDLE_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True, slots=True)
class Showcase:
    """A hole with what the adapted model wrote into it, and what the base wrote."""

    hole: Hole
    written: str
    base_written: str | None

    @property
    def is_match(self) -> bool:
        """Whether the adapted model wrote what stands in the file."""
        return self.written == self.hole.middle.rstrip()

    @property
    def is_gain(self) -> bool:
        """Whether that is so, and the base wrote something else."""
        return self.is_match and self.base_written not in {None, self.written}

    @property
    def before(self) -> str:
        """The last lines before the cursor."""
        return "".join(self.hole.prefix.splitlines(keepends=True)[-_SHOWN_LINES_BEFORE:])

    @property
    def after(self) -> str:
        """The first lines after the hole."""
        return "".join(self.hole.suffix.splitlines(keepends=True)[:_SHOWN_LINES_AFTER]).rstrip("\n")


def choose_showcases(result: AdaptResult) -> list[Showcase]:
    """Take two middles that were written right, of different files, and the longest of the misses.

    Of those written right the ones that the base missed come first, and of equals the longest.
    The choice favours the model; the page says so.
    """
    packs = read_records(result.job.out / "data" / "packs-heldout.parquet", Pack)
    holes = {hole.hole_id: hole for hole in make_holes(packs, result.job.recipe.evals)}
    shown = read_infill_modes(result.model)[0]
    written: dict[str, dict[str, str]] = {}
    for r in result.results:
        if r.mode is shown and r.generated_text is not None and r.hole_id in holes:
            written.setdefault(r.hole_id, {})[r.system] = r.generated_text
    cases = [
        Showcase(holes[hole_id], texts["adapted"], texts.get("base"))
        for hole_id, texts in written.items()
        if "adapted" in texts
    ]
    cases.sort(key=lambda case: (-len(case.hole.middle), case.hole.hole_id))
    hits: list[Showcase] = []
    for case in sorted(cases, key=lambda case: not case.is_gain):
        if case.is_match and len(hits) < 2 and case.hole.path not in {hit.hole.path for hit in hits}:
            hits.append(case)
    misses = [case for case in cases if not case.is_match and case.written.strip()]
    return [*hits, *misses[: 3 - len(hits)]]


def write_report(result: AdaptResult, showcases: Sequence[Showcase]) -> Path:
    """Write the page and return its path."""
    repos = ", ".join(repo.repo for repo in result.build.corpus.repos)
    report = Report(f"A model that knows {repos}", f"adapted by codegemma, recipe {result.job.recipe.name}")
    _add_proof(report, result)
    _add_completions(report, showcases)
    _add_training(report, result)
    _add_feed(report, result)
    add_build_sections(report, result.build, result.job.out / "data")
    path = result.job.out / REPORT_FILE
    report.write(path)
    return path


def _add_proof(report: Report, result: AdaptResult) -> None:
    report.section("Held-out holes")
    for kind in dict.fromkeys(m.kind for m in result.measurements):
        rows = [m for m in result.measurements if m.kind == kind]
        table = [
            [system, mode.upper() if mode else "", *_find_cells(rows, system, mode)]
            for system, mode in dict.fromkeys((m.system, m.mode) for m in rows)
        ]
        items, files = max(m.interval.items for m in rows), max(m.interval.clusters for m in rows)
        report.table(
            [
                "system",
                "mode",
                Column("exact match, %", 1, 100),
                Column("edit similarity", 3),
                Column("bits per byte", 3),
            ],
            table,
            f"{kind.replace('_', ' ').capitalize()}: {items:,} holes in {files:,} files that no run has seen. "
            "Intervals: 95 %, bootstrap over files (where no hole differs, a binomial bound). Exact match and bits are "
            "teacher-forced; edit similarity is of text written greedily.",
            strong_rows=[i for i, row in enumerate(table) if row[0] == "adapted"],
        )
    for note in result.notes:
        report.text(note)
    report.table(
        ["whole files", "from", Column("before, bits per byte", 3), Column("after", 3), Column("change", 3)],
        [[c.name, c.source, *(i and Estimate.of(i) for i in (c.before, c.after, c.change))] for c in result.losses],
        "Every token of whole files rated: of the repository's, which no run has seen, and of an installed package, "
        "for what the base could do before. Below zero is better.",
    )
    for metric, column, better in _DIFFERENCES:
        report.table(
            ["difference", "hole", "mode", column],
            [
                [m.system, m.kind.replace("_", " "), m.mode.upper() if m.mode else "", Estimate.of(m.interval)]
                for m in result.gains
                if m.metric == metric
            ],
            f"Adapted minus rival, paired on the same holes: better is {better} zero.",
        )


def _find_cells(rows: Sequence[Measurement], system: str, mode: InfillMode | None) -> list[Estimate | None]:
    found = {m.metric: Estimate.of(m.interval) for m in rows if (m.system, m.mode) == (system, mode)}
    return [found.get(metric) for metric in ("exact_match", "edit_similarity", "bits_per_byte")]


def _add_completions(report: Report, showcases: Sequence[Showcase]) -> None:
    report.section("Completions")
    report.text(
        "At cursors in held-out files, written greedily (SPM where the model learned it): two that are right, of "
        "different files, if possible such that the base missed, and the longest that is wrong. The table above tells "
        "how often which happens."
    )
    for case in showcases:
        hole = case.hole
        place = f"{hole.path}:{hole.line}:{hole.column}"
        report.completion(place, case.before, case.written, hole.middle, case.after)


def _add_training(report: Report, result: AdaptResult) -> None:
    report.section("Training")
    series = []
    for name, run in (("adapted", result.run), ("other repository", result.other_run)):
        if run is not None:
            lines = read_metrics(run.model.parent / METRICS_FILE)
            series.append(Series(name, [li["step"] for li in lines], [li["bits_per_token"] for li in lines]))
    report.lines(
        series,
        "step",
        "bits per token",
        f"Loss on the training rows. {result.run.steps:,} steps, {result.run.tokens / 1e6:.2f} M tokens, "
        f"{result.run.seconds:.0f} s, {result.run.tokens / max(result.run.seconds, 1e-9):,.0f} tokens/s; the trainer "
        f"waited for data {result.run.data_wait_share:.1%} of the time.",
    )


def _add_feed(report: Report, result: AdaptResult) -> None:
    survey = result.survey
    report.section("Holes in training")
    report.table(
        ["share", Column("%", 1, 100)],
        [
            ["pieces with a hole", survey.infill_share],
            [f"holes in {result.job.recipe.feed.spm_mode.upper()}", survey.spm_share],
            ["holes with prefix, middle and suffix", survey.full_share],
            ["suffixes that start at a natural cut", survey.natural_share],
        ],
        f"As cut in the first epoch: {survey.pieces:,} pieces of files in {survey.windows:,} windows, "
        f"{survey.epoch_tokens / 1e6:.2f} M tokens an epoch.",
    )
    report.histogram(
        {"middles": survey.middle_chars},
        _MIDDLE_EDGES,
        "length of the middle, characters",
        "Middles are short on purpose: a cursor meets the rest of a line more often than half a file.",
        is_x_log=True,
    )
