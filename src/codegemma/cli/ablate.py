"""`codegemma ablate`: which choices learn most from the same tokens, by small trainings that differ in one of them.

**In**: repositories, a recipe, steps, seeds.
**Out**: a table on standard output (or JSON); `ablation.json` and the page `report.html` in the output folder.
**Not**: the comparison; that is `codegemma.ablation`.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codegemma.cli.options import INPUT, LOCAL, choose_recipe, json_option, settings_option, workers_option
from codegemma.cli.progress import show_progress

if TYPE_CHECKING:
    from codegemma.ablation import AblationTable
    from codegemma.corpus.inputs import Input


@click.command(
    short_help="Compare ways to cut, order and pack.",
    epilog="""\b
Example:
  codegemma ablate path/to/repo --out ablation --steps 2000 --variant spm1 --variant raw-cuts""",
)
@click.argument("repos", nargs=-1, required=True, type=INPUT, metavar="REPO...")
@click.option("--out", required=True, type=LOCAL, help="Folder for data, runs and table; taken up again, it goes on.")
@click.option("--steps", type=click.IntRange(min=1), default=2000, show_default=True, help="Of each run.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each variant.")
@click.option("--variant", "variants", multiple=True, metavar="NAME", help="Beside the reference; all by default.")
@click.option("--recipe", default="tiny_base", show_default=True, help="Whose model and rows: a name or a .py file.")
@settings_option
@workers_option
@json_option
def command(  # noqa: PLR0913
    repos: "tuple[Input, ...]",
    *,
    out: Path,
    steps: int,
    seeds: int,
    variants: tuple[str, ...],
    recipe: str,
    settings: tuple[str, ...],
    workers: int,
    as_json: bool,
) -> None:
    """Train small models on the same tokens, each differing from the reference in one choice, and compare them.

    Choices: cuts (natural, raw), SPM variant 2 and 1, paths, pack order (grouped, the report's, by name, shuffled).
    Choose rows that hold several files where orders are compared: --set train.row_tokens=1024.
    Scores: single lines, random spans and places that other files explain, in held-out files.
    """
    from codegemma.ablation import AblationJob, ablate, choose_variants
    from codegemma.ablation_report import write_report
    from codegemma.recipe import to_plain

    chosen = choose_recipe(recipe, settings)
    chosen = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, steps=steps))
    job = AblationJob(tuple(repos), out, chosen, choose_variants(variants), seeds, workers)
    with show_progress() as on_progress:
        table = ablate(job, on_progress)
    report = write_report(out, table)
    click.echo(json.dumps(to_plain(table)) if as_json else f"{spell_table(table)}\n\nreport   {report}")


def spell_table(table: "AblationTable") -> str:
    """Spell the table as Markdown: a row for each variant, kind and metric, SPM and PSM beside each other."""
    counted = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in table.holes.items())
    lines = [
        f"{table.tokens:,} tokens a run, {table.seeds} seeds; holes: {counted}. Variant minus reference, 95 % interval",
        "over files; an interval without 0 in it is bold.",
        "",
        "| variant | holes | mode | metric | reference | variant | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table.rows:
        interval = row.difference
        shown = f"{interval.mean:+.4f}"
        if interval.low is not None and interval.high is not None:
            shown += f" ({interval.low:+.4f} to {interval.high:+.4f})"
            shown = f"**{shown}**" if interval.low * interval.high > 0 else shown
        named = f"{row.variant} | {row.kind} | {row.mode} | {row.metric}"
        lines.append(f"| {named} | {row.reference:.4f} | {row.value:.4f} | {shown} |")
    lines += [
        "",
        "What the rows say of the defaults: those with an interval without 0, by whom they favour.",
        "",
        "| choice | default | variant | for the default | for the variant | undecided |",
        "|---|---|---|---|---|---|",
    ]
    for one in table.supports:
        counts = f"{one.for_default} | {one.for_variant} | {one.undecided}"
        lines.append(f"| {one.setting} | {one.default} | {one.other} ({one.variant}) | {counts} |")
    return "\n".join(lines)
