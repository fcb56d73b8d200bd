"""`codegemma compare`: two results item by item, and a page with what one answers and the other does not.

**In**: two folders that `codegemma evaluate` wrote.
**Out**: a table on standard output (or JSON), and the page that is asked for.
**Not**: figures of suites that only one of them ran; it says which.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from codegemma.cli.options import LOCAL, json_option

if TYPE_CHECKING:
    from codegemma.evals.pairing import Change

# Narrow enough that a terminal of 80 columns has room for them and for the names.
_HEADINGS = ("first", "second", "difference", "only\nsecond", "only\nfirst", "by\nchance")


@click.command(
    epilog="""\b
Examples:
  codegemma compare figures-base figures-tuned
  codegemma compare figures-base figures-tuned --out differences.html"""
)
@click.argument("first", type=LOCAL)
@click.argument("second", type=LOCAL)
@click.option("--out", type=LOCAL, metavar="FILE", help="Page to write: the table, and answers side by side.")
@json_option
def command(first: Path, second: Path, out: Path | None, as_json: bool) -> None:
    """Compare the results in FIRST and SECOND: second minus first, on the items that both answered.

    Intervals are of 95 %, by a paired bootstrap over files or solutions. Only second and only first count the items
    that one of the two answers; by chance is the exact probability of such a split of equals (McNemar).
    """
    from codegemma.evals.page import write_comparison
    from codegemma.evals.pairing import compare_results
    from codegemma.recipe import to_plain

    found = compare_results(first, second)
    if out is not None:
        write_comparison(found, first, second, out)
    if as_json:
        click.echo(json.dumps(to_plain(found), ensure_ascii=False))
        return
    console = Console()
    for suite in dict.fromkeys(change.suite for change in found.changes):
        console.print(_make_table(suite, [change for change in found.changes if change.suite == suite]))
    for note in found.notes:
        console.print(f"- {note}", style="dim", highlight=False, markup=False)
    if out is not None:
        click.echo(f"Written: {out}")


def _make_table(suite: str, changes: "list[Change]") -> Table:
    table = Table(title=suite, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("figure", overflow="fold")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for change in changes:
        kind = f"{change.kind.replace('_', ' ')} {change.mode.upper()}".strip()
        table.add_row(Text(f"{kind}\n{change.system}\n{change.metric}"), *_spell(change))
    return table


def _spell(change: "Change") -> list[str]:
    low, high = change.difference.low, change.difference.high
    spread = "no interval" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
    counts = ["–" if count is None else str(count) for count in (change.gained, change.lost)]
    chance = "–" if change.chance is None else f"{change.chance:.3f}"
    means = f"{change.first:.3f}", f"{change.second:.3f}"
    return [*means, f"{change.difference.mean:+.3f}\n[dim]{spread}[/dim]", *counts, chance]
