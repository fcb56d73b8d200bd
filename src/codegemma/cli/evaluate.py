"""`codegemma evaluate`: measure a model and print the figures with their intervals.

**In**: a model folder, names of suites, the folders that hold their data.
**Out**: a table on standard output (or JSON), and `results.json` with every hole in the output folder.
**Not**: a server's address; that comes with the remote completer.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from codegemma.cli.options import json_option
from codegemma.cli.progress import show_progress
from codegemma.errors import InputError

if TYPE_CHECKING:
    from codegemma.evals.measure import Measurement
    from codegemma.evals.run import SuiteResults

# An interval is never broken over two lines.
MIN_WIDTH = 11
# metric -> (column title, what the value is multiplied by, digits); `results.json` has the others too
COLUMNS = {
    "exact_match": ("exact match, %", 100, 1),
    "line_match": ("line match, %", 100, 1),
    "generated_match": ("generated match, %", 100, 1),
    "edit_similarity": ("edit similarity", 1, 3),
    "bits_per_byte": ("bits per byte", 1, 3),
}


@click.command(
    epilog="""\b
Examples:
  codegemma evaluate my-model/model --suite heldout --data my-model/data --out figures
  codegemma evaluate my-model/model --suite infilling-single --data benchmarks --out figures --limit 100"""
)
@click.argument("model")
@click.option("--suite", "suites", multiple=True, required=True, help="heldout or infilling-single; may be repeated.")
@click.option(
    "--data", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    help="Where a suite's data lies: for heldout the folder of `codegemma build`, for infilling-single the folder of "
    "HumanEval-SingleLineInfilling.jsonl.gz; may be repeated.",
)  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where the results go.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N holes or tasks a suite.")
@json_option
def command(
    model: str, suites: Sequence[str], data: Sequence[Path], out: Path, limit: int | None, as_json: bool
) -> None:
    """Measure MODEL, a model folder or a hub id, on one or more suites.

    heldout: holes in files that training has not seen, in the learned modes, beside an n-gram and a retrieval baseline.
    infilling-single: HumanEval single-line infilling, by exact match.
    """
    from codegemma.evals.choices import EvalChoices
    from codegemma.evals.run import check_suite, evaluate
    from codegemma.evals.scoring import Subject
    from codegemma.recipe import to_plain

    for suite in suites:
        check_suite(suite)
    folder = _read_folder(model)

    from codegemma.engine.engine import Engine

    engine = Engine.load(folder)
    subject = Subject(engine, engine.tokenizer, engine.max_context_tokens, engine.infill_modes)
    choices = EvalChoices(limit=limit)
    with show_progress() as on_progress:
        results = evaluate(subject, suites, data=data, out=out, model=model, choices=choices, on_progress=on_progress)
    if as_json:
        click.echo(json.dumps(to_plain(results), ensure_ascii=False))
        return
    for found in results.suites:
        print_suite(found, Console())
    click.echo(f"Written: {out / 'results.json'}")


def _read_folder(model: str) -> Path:
    if re.match(r"https?://", model):
        raise InputError(f"{model} is an address; this version measures a model folder, the kind that `adapt` writes")
    from codegemma.model.hub import locate_model

    return locate_model(model)


def print_suite(found: "SuiteResults", console: Console) -> None:
    """Print one table for each kind of hole: a row for each system and mode, intervals below the figures."""
    for kind in dict.fromkeys(m.kind for m in found.measurements):
        measured = [m for m in found.measurements if m.kind == kind]
        metrics = [metric for metric in COLUMNS if any(m.metric == metric for m in measured)]
        if "exact_match" in metrics and "generated_match" in metrics:
            metrics.remove("generated_match")  # the same of fewer holes, and 80 columns hold four figures
        files = max(m.interval.clusters for m in measured)
        title = (
            f"{found.suite}: {kind.replace('_', ' ')} ({max(m.interval.items for m in measured)} holes, {files} files)"
        )
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for heading in ("system", "mode"):
            table.add_column(heading)
        for metric in metrics:
            table.add_column(COLUMNS[metric][0], justify="right", min_width=MIN_WIDTH)
        for system, mode in dict.fromkeys((m.system, m.mode) for m in measured):
            row = {m.metric: m for m in measured if (m.system, m.mode) == (system, mode)}
            cells = [_format(row[metric]) if metric in row else "–" for metric in metrics]
            table.add_row(system, mode.upper() if mode else "", *cells)
        console.print(table)
    console.print(
        f"Scored by {found.scored_by}. Below each figure: 95 % interval, by bootstrap over files "
        "(a binomial bound at 0 and 100 %).",
        style="dim",
    )
    for note in found.notes:
        console.print(f"- {note}", style="dim", highlight=False)


def _format(measurement: "Measurement") -> str:
    _, scale, digits = COLUMNS[measurement.metric]
    interval = measurement.interval
    shown = f"{interval.mean * scale:.{digits}f}"
    if interval.low is None or interval.high is None:
        return f"{shown}\n[dim]no interval[/dim]"
    return f"{shown}\n[dim]{interval.low * scale:.{digits}f}–{interval.high * scale:.{digits}f}[/dim]"
