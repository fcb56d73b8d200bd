"""`codegemma runs`: where runs stand, and how they compare.

**In**: folders with runs in or below them.
**Out**: a table; with `--html`, a page with their curves; with `--json`, the same for programs.
**Not**: TensorBoard, for which every run writes its own files.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegemma.cli.options import LOCAL, json_option

if TYPE_CHECKING:
    from codegemma.train.runs import Run

_SHOWN_CHOICES = 12


@click.command(short_help="Where runs stand, and how they compare.")
@click.argument("folders", nargs=-1, required=True, type=LOCAL, metavar="DIR...")
@click.option("--html", "page", type=LOCAL, help="Write a self-contained page with curves here, such as runs.html.")
@json_option
def command(folders: tuple[Path, ...], page: Path | None, as_json: bool) -> None:
    """Tell of the runs in and below DIR: state, steps, loss, speed, and what was chosen differently.

    A run may be going on: it is read as it stands, and not disturbed.

    \b
    Example:
      codegemma runs my-model
      codegemma runs runs/a runs/b --html runs.html
    """
    from codegemma.train.runs import find_runs, list_differences

    runs = find_runs(folders, lambda reason: click.echo(f"left out: {reason}", err=True))
    differences = list_differences(runs)
    if page is not None:
        from codegemma.train.runs_report import make_page

        make_page(runs).write(page)
    if as_json:
        told = {"runs": [run.describe() for run in runs], "differences": differences}
        click.echo(json.dumps(told | ({"page": str(page)} if page else {}), ensure_ascii=False))
        return
    _print_runs(runs)
    _print_differences(runs, differences)
    if page is not None:
        click.echo(f"page     {page}")


def _print_runs(runs: "list[Run]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    table.add_column("state")
    for heading in ("step", "of", "loss", "tokens/s", "MFU, %"):
        table.add_column(heading, justify="right")
    table.add_column("recipe")
    for run in runs:
        a = run.describe()
        mfu = None if a["mfu"] is None else 100 * a["mfu"]
        table.add_row(
            a["name"], a["state"], f"{a['step']:,}", f"{a['total_steps']:,}", _show(a["loss"], 3),
            _show(a["tokens_per_s"], 0), _show(mfu, 1), a["recipe"] or "–",
        )  # fmt: skip
    Console(markup=False, highlight=False).print(table)


def _print_differences(runs: "list[Run]", differences: dict[str, list[Any]]) -> None:
    if len(runs) < 2:
        return
    click.echo("chosen differently:" if differences else "all choices are the same")
    for name, values in list(differences.items())[:_SHOWN_CHOICES]:
        click.echo(f"  {name}: {', '.join(map(str, values))}")
    if len(differences) > _SHOWN_CHOICES:
        click.echo(f"  and {len(differences) - _SHOWN_CHOICES} more; --html or --json has all")


def _show(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
