"""`codegemma adapt`: repositories to a model that knows them, with the proof.

**In**: repositories, a recipe, a base, minutes.
**Out**: the job's folder; on standard output the proof, completions and what to type next, or one JSON object.
Of a folder that holds a model already, what a further round was about.
**Not**: the job; that is `codegemma.adapt`.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from codegemma.cli.figures import make_table, spell_losses
from codegemma.cli.headline import make_headline
from codegemma.cli.options import INPUT, LOCAL, choose_recipe, json_option, settings_option, workers_option
from codegemma.cli.progress import show_progress
from codegemma.places import is_remote

if TYPE_CHECKING:
    from codegemma.adapt import AdaptJob, AdaptResult
    from codegemma.adapt_report import Showcase
    from codegemma.corpus.inputs import Input

# Of one training run, where neither --minutes nor train.steps says it.
DEFAULT_MINUTES = 5.0


@click.command(short_help="Turn repositories into a model that knows them.")
@click.argument("repos", nargs=-1, required=True, type=INPUT, metavar="REPO...")
@click.option("--out", required=True, type=LOCAL, help="Folder for the model and everything else.")
@click.option("--base", help="Model folder, hub id or shipped base to start from; 'none' is random parameters.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Time for one training run [default: {DEFAULT_MINUTES:g}, unless train.steps is set].",
)
@click.option(
    "--control",
    default="auto",
    show_default=True,
    help="Repository of the first round's control run: the same steps on other code; 'none' leaves it out.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would take, and stop.")
@workers_option
@click.option(
    "--recipe",
    help="A recipe's name, or the path of your own .py file [default: by the base: adapt_2b_lora, which trains "
    "adapters, for one of published size (2,048 wide or more), else tiny, which trains the whole model].",
)
@settings_option
@json_option
def command(  # noqa: PLR0913, PLR0917
    repos: "tuple[Input, ...]",
    out: Path,
    base: str | None,
    minutes: float | None,
    control: str,
    dry_run: bool,
    workers: int,
    recipe: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Adapt a model to repositories and measure it on files it has not seen.

    Reads, packs, trains, trains a control on other code, measures, and writes OUT/model and OUT/report.html.
    A REPO is anything that `codegemma build` takes, text=DOCUMENTS and addresses in object stores included; the files
    that are measured on are held out of all of them.
    The loss on general code is printed beside the repository's, before and after; where it grew by more than
    evals.max_general_loss, the model is kept aside and the command fails.
    Interrupted or killed, the same command goes on where it was. Run again after the repositories have changed, it
    trains a further round from the last model, on what changed and a rehearsal, and compares with the model before.

    \b
    Example:
      codegemma adapt ~/code/service --out my-model --minutes 10
      codegemma adapt ~/code/service ~/code/library --out my-model --dry-run
      codegemma adapt ~/code/service --out my-model --base google/codegemma-2b
      codegemma adapt ~/code/service --out my-model --base google/codegemma-2b --set train.lora.rank=none
    """
    from codegemma.adapt import AdaptJob, adapt, choose_recipe_name, find_base, find_other, summarize
    from codegemma.adapt_report import choose_showcases, write_report
    from codegemma.errors import InputError
    from codegemma.files import write_whole
    from codegemma.forgetting import ForgettingError
    from codegemma.model_card import CARD_FILE, gather_evidence, write_card

    named = find_base(base) if base not in (None, "none") else None
    chosen = choose_recipe(recipe or choose_recipe_name(named), settings)
    other = (
        None
        if control == "none"
        else find_other([repo.place for repo in repos], chosen.corpus.languages)
        if control == "auto"
        else Path(control)
    )
    if minutes is None and chosen.train.steps is None:
        minutes = DEFAULT_MINUTES
    for place, _ in repos:
        if not is_remote(place) and not place.exists():
            raise InputError(f"no such repository: {place}; name a folder or an archive of source files")
    job = AdaptJob(
        repos=repos,
        out=out,
        recipe=chosen,
        base=named if base is not None or chosen.base is None else find_base(chosen.base),
        other=other,
        minutes=minutes,
        workers=workers,
    )
    if dry_run:
        _print_plan(job, as_json)
        return
    forgot: ForgettingError | None = None
    with show_progress() as on_progress:
        try:
            result = adapt(job, on_progress)
        except ForgettingError as error:
            # What was measured is shown all the same.
            result, forgot = error.result, error
    showcases = choose_showcases(result)
    report = write_report(result, showcases)
    evidence = gather_evidence(result.run.model, out / "data", (), result.measurements, name=out.resolve().name)
    for model in {result.run.model, job.model}:
        if model.is_dir():  # one that forgot too much is not put in the place of the last
            write_whole(model / CARD_FILE, write_card(evidence).encode())
    if as_json:
        click.echo(json.dumps(summarize(result)))
    else:
        print_ending(result, showcases, report, Console())
    if forgot is not None:
        raise forgot


def _print_plan(job: "AdaptJob", as_json: bool) -> None:
    from codegemma.adapt_plan import plan

    planned = plan(job)
    if as_json:
        click.echo(json.dumps(planned))
        return
    for name, value in planned.items():
        told = f"{value:,}" if isinstance(value, int) else value
        click.echo(f"{name.replace('_', ' '):22} {told}")


def print_ending(result: "AdaptResult", showcases: "list[Showcase]", report: Path, console: Console) -> None:
    """Print the proof, three completions, what it comes to, where everything lies, and what to type next."""
    from codegemma.model_card import CARD_FILE

    for kind in dict.fromkeys(m.kind for m in result.measurements):
        measured = [m for m in result.measurements if m.kind == kind]
        console.print(make_table(f"held out: {kind.replace('_', ' ')}", measured, strong="adapted"))
    console.print(
        "Below each figure: 95 % interval by bootstrap over files (where no hole differs, a binomial bound); exact "
        "match and bits per byte by teacher forcing.",
        style="dim",
    )
    for note in result.notes:
        console.print(f"- {note}", style="dim", highlight=False, markup=False)
    for gain in result.gains:
        if gain.metric == "exact_match" and gain.mode is not None:
            low, high = gain.interval.low, gain.interval.high
            bounds = f"{low:+.1%} to {high:+.1%}" if low is not None and high is not None else "no interval"
            kind = gain.kind.replace("_", " ")
            console.print(
                f"  {gain.system:28} {kind:13} {gain.mode.upper():4}  {gain.interval.mean:+.1%}  ({bounds})",
                highlight=False,
            )
    for line in spell_losses(result.losses):
        console.print(line, highlight=False, markup=False)
    for case in showcases:
        _print_showcase(case, console)
    for told in make_headline(result.measurements, result.gains, "adapted"):
        console.print(told)
    lines = [f"\nmodel    {result.model}", f"report   {report}", f"card     {result.model / CARD_FILE}"]
    if showcases:
        lines.append(f"next     {_spell_next(result.model, result.job.places, showcases[0])}")
    lines.append(f"measure  {_spell_measure(result)}")
    for line in lines:  # paths are text, whatever brackets they hold, and are never broken over two lines
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _spell_next(model: Path, repos: Sequence[Path], case: "Showcase") -> str:
    """Spell the command that completes at a showcase's cursor, with the path that training saw."""
    from codegemma.text.cursor import spell_path

    hole = case.hole
    here = (repo / hole.path for repo in repos if not is_remote(repo))  # `complete` reads files of this machine
    file = next((file for file in here if file.is_file()), None)
    if file is None:
        return f"codegemma complete {shlex.quote(str(model))} FILE:LINE:COLUMN"
    path = "" if spell_path(file) == hole.path else f" --path {shlex.quote(hole.path)}"
    if file.is_relative_to(Path.cwd()):  # shorter to read, and good where the command was typed
        file = file.relative_to(Path.cwd())
    return f"codegemma complete {shlex.quote(str(model))} {shlex.quote(f'{file}:{hole.line}:{hole.column}')}{path}"


def _spell_measure(result: "AdaptResult") -> str:
    """Spell the command that measures the rest of the card: the repositories' own suites, and those of BENCHMARKS."""
    here = [repo for repo in result.job.places if not is_remote(repo) and repo.is_dir()]
    data = " ".join(f"--data {shlex.quote(str(place))}" for place in (result.job.out / "data", *here))
    out = shlex.quote(str(result.job.out / "figures"))
    model = shlex.quote(str(result.model))
    return f"codegemma evaluate {model} --suite all {data} --data BENCHMARKS --out {out}"


def _print_showcase(case: "Showcase", console: Console) -> None:
    hole = case.hole
    console.print(Text(f"\n{hole.path}:{hole.line}:{hole.column}", "bold"))
    shown = case.before + "▌"
    lexer = Syntax.guess_lexer(hole.path, shown)
    console.print(Syntax(shown, lexer, theme="ansi_dark", background_color="default"))
    verdict = "[green]right[/green]" if case.is_match else "[red]wrong[/red]"
    console.print("  adapted ", Text(repr(case.written)), verdict, highlight=False)
    if case.base_written is not None:
        console.print("  base    ", repr(case.base_written), markup=False, highlight=False)
    console.print("  truth   ", repr(hole.middle), markup=False, highlight=False)
