"""`codegemma train`: a model from packs.

**In**: the folder of `codegemma build`, a recipe, a base or none, minutes; one process, or several.
**Out**: the run's folder, with `model` in it; how far it is on standard error.
**Not**: measuring; `codegemma evaluate` does.
"""

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from codegemma.cli.ending import tell_error
from codegemma.cli.options import LOCAL, PLACE, choose_recipe, cluster_options, json_option, recipe_options
from codegemma.cli.progress import show_progress
from codegemma.places import is_remote
from codegemma.stored_run import choose_run_folder, publish_run, take_up_run
from codegemma.train.manifest import MODEL_FOLDER
from codegemma.train.supervisor import Limits, Pulse, supervise

if TYPE_CHECKING:
    from codegemma.recipes import Recipe
    from codegemma.train.hosts import Cluster
    from codegemma.train.loop import TrainResult

# In a log file, a line this often.
_SECONDS_BETWEEN_LINES = 10.0


@click.command(short_help="Train on packs.")
@click.option("--data", required=True, type=PLACE, help="Folder or address that `codegemma build` wrote.")
@click.option("--out", required=True, type=PLACE, help="Folder or address for the run and its model.")
@click.option("--work", type=LOCAL, help="For an address: folder in which the run is made [default: in the cache].")
@click.option("--base", help="Model folder, hub id or shipped base to start from; 'none' is random parameters.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="How long; goes before train.steps.")
@recipe_options
@cluster_options
@json_option
def command(  # noqa: PLR0913, PLR0917
    data: Path,
    out: Path,
    work: Path | None,
    base: str | None,
    minutes: float | None,
    recipe: str,
    settings: tuple[str, ...],
    processes: int | None,
    cluster: "Cluster | None",
    preempted_code: int,
    hang_s: float,
    as_json: bool,
) -> None:
    """Train a model on packs. Interrupted or killed, the same command goes on where it was.

    On SIGTERM the run is saved and the command ends with 0, on Ctrl-C with 130. --processes starts that many on this
    machine and starts all again when one dies or hangs; --cluster is for processes that something else starts, as srun.

    With feed.mixture.shares, kinds of data get fixed shares of the tokens: code_and_text is 80 % code and 20 % text and
    mathematics, code is code alone, code=0.7,text=0.3 and the like are your own. A kind with too little data is read
    again and again, up to feed.mixture.max_epochs times; the ending tells shares and times.

    OUT holds the finished model in OUT/model, and run.json, metrics.jsonl, samples.jsonl and TensorBoard's files.

    \b
    Example:
      codegemma train --data data --out run --recipe tiny --minutes 10
      codegemma train --data data --out run --recipe tiny --base none --set train.steps=500
      codegemma train --data data --out run --minutes 10 --set feed.mixture.shares=code_and_text
      codegemma train --data data --out run --recipe tiny --minutes 10 --processes 2 --set train.batch_rows=4
      srun codegemma train --data data --out run --recipe codegemma_2b --cluster auto
    """
    chosen = choose_recipe(recipe, settings)
    if work is not None and not is_remote(out):
        raise click.UsageError("--work is for a run whose --out is an address; this one is made in --out itself")
    if processes is not None:
        sys.exit(_supervise(processes, choose_run_folder(out, work), preempted_code, hang_s))
    pulse = Pulse()

    from codegemma.train.guards import InterruptedRun
    from codegemma.train.hosts import is_leader, join_cluster

    try:
        with join_cluster(cluster, tell_error):
            result = _train(chosen, data, (out, work), base, minutes, pulse)
            if not is_leader():
                return
            if as_json:
                click.echo(json.dumps(dataclasses.asdict(result), default=str))
            else:
                _print_ending(result, data)
    except InterruptedRun as error:
        if not error.is_order:
            raise
        click.echo(f"codegemma: {error}", err=True)
        sys.exit(preempted_code)


def _supervise(processes: int, out: Path, preempted_code: int, hang_s: float) -> int:
    """Start this very command as several processes, and keep them alive."""
    limits = Limits(hang_s)
    own = drop_option(sys.argv[1:], "--processes")

    def start(number: int, address: str) -> list[str]:
        return [sys.executable, "-m", "codegemma", *own, "--cluster", f"{address},{processes},{number}"]

    limits = dataclasses.replace(limits, final_codes=limits.final_codes | ({preempted_code} - {0}))
    return supervise(start, processes, out, limits, lambda text: click.echo(f"codegemma: {text}", err=True))


def drop_option(arguments: Sequence[str], name: str) -> list[str]:
    """Leave an option and its value out.

    >>> drop_option(["train", "--processes", "2", "--out", "run", "--processes=3"], "--processes")
    ['train', '--out', 'run']
    """
    kept, is_value = [], False
    for argument in arguments:
        if not is_value and argument != name and not argument.startswith(f"{name}="):
            kept.append(argument)
        is_value = not is_value and argument == name
    return kept


def _train(
    chosen: "Recipe",
    data: Path,
    places: tuple[Path, Path | None],
    base: str | None,
    minutes: float | None,
    pulse: Pulse,
) -> "TrainResult":
    from codegemma.adapt import find_base
    from codegemma.build import lend_data
    from codegemma.recipe import to_plain
    from codegemma.text.tokenizer import TOKENIZER_FILE, Tokenizer
    from codegemma.train.hosts import act_first, is_leader
    from codegemma.train.job import TrainJob, choose_sample, choose_tokenizer, ignore_saved
    from codegemma.train.loop import train
    from codegemma.train.plan import check_length

    check_length(chosen.train, minutes)
    place, work = places
    out = choose_run_folder(place, work)
    base_name = base or chosen.base
    folder = None if base_name in (None, "none") else find_base(base_name)
    with show_progress() as on_progress:
        # One of several processes on a machine fetches what all of them read there.
        packs = act_first(lambda: lend_data(data, on_progress), lambda: lend_data(data))
    act_first(lambda: take_up_run(place, out), lambda: out)
    tokenizer = act_first(
        lambda: choose_tokenizer(packs, out, folder, chosen.model.vocab_size),
        lambda: Tokenizer.load(folder or out / TOKENIZER_FILE),
    )
    job = TrainJob(
        data=packs,
        out=out,
        train=chosen.train,
        feed=chosen.feed,
        tokenizer=tokenizer,
        config=chosen.model,
        base=folder,
        minutes=minutes,
        sample=choose_sample(packs, chosen.feed.infill_modes),
        recipe=to_plain(chosen),
        on_saved=partial(publish_run, out, place) if is_remote(place) else ignore_saved,
    )
    with _show_run(is_shown=is_leader()) as display:

        def count(stage: str, done: int, total: int | None) -> None:
            pulse.beat()
            display.count(stage, done, total)

        result = train(job, count, display.tell)
    return dataclasses.replace(result, model=place / MODEL_FOLDER) if is_remote(place) else result


def _print_ending(result: "TrainResult", data: Path) -> None:
    resumed = "" if result.resumed_step is None else f", the last part from step {result.resumed_step:,}"
    click.echo(f"{result.steps:,} steps, {result.tokens:,} tokens in {result.seconds:.0f} s{resumed}")
    click.echo(f"loss     {result.final_loss:.3f}; waiting for data {result.data_wait_share:.1%} of the time")
    for source in result.sources:
        share = source.tokens / max(result.tokens, 1)
        told = f"{share:.1%} of the tokens, {source.wanted_share:.1%} wanted; read {source.epochs:.1f} times"
        click.echo(f"source   {source.source}: {told}")
    click.echo(f"model    {result.model}")
    model, packs = shlex.quote(str(result.model)), shlex.quote(str(data))
    click.echo(f"next     codegemma evaluate {model} --suite heldout --data {packs} --out figures")


class _Display:
    """What a run looks like while it goes on: a bar in a terminal, a line now and then in a log."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._task = bar.add_task("compiling", total=None, figures="")
        self._told_at = 0.0
        self._steps = (0, 0)

    def count(self, stage: str, done: int, total: int | None) -> None:
        """Take up that `done` of `total` steps are finished."""
        self._steps = (done, total or 0)
        self._bar.update(self._task, description=stage, completed=done, total=total)

    def tell(self, line: Mapping[str, int | float]) -> None:
        """Show a line of metrics."""
        figures = f"loss {line['loss']:.3f}  gradient {line['gradient_norm']:.2f}  {line['tokens_per_s']:,.0f} tokens/s"
        figures += f"  MFU {line['mfu']:.1%}" if "mfu" in line else ""
        self._bar.update(self._task, figures=figures)
        if not self._console.is_terminal and time.monotonic() - self._told_at > _SECONDS_BETWEEN_LINES:
            self._told_at = time.monotonic()
            of_total = f" of {self._steps[1]:,}" if self._steps[1] else ""
            self._console.print(f"step {line['step']:,}{of_total}  {figures}", highlight=False, markup=False)


@contextmanager
def _show_run(*, is_shown: bool) -> Iterator[_Display]:
    console = Console(file=sys.stderr, quiet=not is_shown)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield _Display(console, bar)
