"""`codegemma freeze`: the rows that a training reads, as token shards.

**In**: a run and its data, or a data folder and a recipe.
**Out**: a folder of Parquet files with ids, loss weights, segments, positions and provenance, and `frozen.json`.
**Not**: a step of the way to a model: `codegemma train` reads packs and cuts afresh in every epoch.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from codegemma.cli.options import PLACE, check_run, choose_recipe, json_option, recipe_options, replay_options
from codegemma.cli.progress import show_progress

if TYPE_CHECKING:
    from codegemma.feed.loader import Loader
    from codegemma.recipes import Recipe
    from codegemma.records import Batch

    Opened = tuple[Loader, dict[str, Any], int, Callable[[int, Batch], None] | None]


@click.command(short_help="Rows as token shards.")
@replay_options
@click.option("--out", required=True, type=PLACE, help="Folder or address for the shards.")
@click.option("--steps", type=click.IntRange(min=1), help="How many steps [default: all of the run's or recipe's].")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that write shards.")
@recipe_options
@json_option
@click.pass_context
def command(  # noqa: PLR0913, PLR0917
    context: click.Context,
    run: Path | None,
    data: Path | None,
    tokenizer: Path | None,
    out: Path,
    steps: int | None,
    workers: int,
    recipe: str,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the very rows that RUN reads, or that a recipe would read from DATA, for audit and for other trainers.

    Killed and started again, the same command keeps the shards that are whole. Every row tells the pieces of files that
    it is made of.

    \b
    Example:
      codegemma freeze my-model --out rows
      codegemma freeze --data data --recipe tiny --steps 1000 --out rows
    """
    is_chosen = context.get_parameter_source("recipe") is ParameterSource.COMMANDLINE or bool(settings)
    if run is not None and is_chosen:
        raise click.UsageError("a run has its own choices: leave out --recipe and --set, or leave out RUN")
    if run is None and data is None:
        raise click.UsageError("wanted a RUN, or --data with --recipe")
    if not is_chosen:
        check_run(run, data)

    from codegemma.build import lend_data
    from codegemma.errors import InputError
    from codegemma.feed.frozen import FROZEN_FILE, freeze_rows
    from codegemma.folders import hold_folder

    chosen = choose_recipe(recipe, settings) if run is None else None
    if chosen is not None and steps is None and chosen.train.steps is None:
        raise click.UsageError("how many steps? The recipe leaves it to --minutes: give --steps")
    _check_folder(out)
    with show_progress() as on_progress, hold_folder(out):
        packs = None if data is None else lend_data(data, on_progress)
        if chosen is not None and packs is not None:
            opened = _open_recipe(packs, tokenizer, out, chosen)
        else:
            opened = _open_run(run, packs, tokenizer)
        with opened as (loader, about, all_steps, check_batch):
            if run is not None and steps is not None and steps > all_steps:
                raise InputError(f"no step {steps}: the run in {run} has steps 1 to {all_steps}")
            frozen = freeze_rows(
                loader,
                out,
                steps or all_steps,
                about,
                workers=workers,
                on_progress=on_progress,
                check_batch=check_batch,
            )
    tokens = sum(shard.tokens for shard in frozen.shards)
    size_bytes = sum(shard.size_bytes for shard in frozen.shards)
    shards = len(frozen.shards)
    if as_json:
        told = {"steps": frozen.steps, "rows": frozen.steps * frozen.batch_rows, "tokens": tokens, "shards": shards}
        click.echo(json.dumps({"out": str(out), **told, "size_bytes": size_bytes}))
        return
    click.echo(f"{frozen.steps:,} steps of {frozen.batch_rows} rows, {tokens:,} tokens")
    click.echo(f"shards   {shards:,} of {size_bytes:,} bytes in all, named in {out / FROZEN_FILE}")
    click.echo("next     read them with codegemma.feed.frozen.read_frozen, or as any Parquet")


def _check_folder(out: Path) -> None:
    from codegemma.errors import OutputError
    from codegemma.pack.report import MANIFEST
    from codegemma.places import list_names
    from codegemma.train.manifest import RUN_FILE

    there = list_names(out)
    for name in (RUN_FILE, MANIFEST):
        if name in there:
            raise OutputError(f"{out} is another job's folder, it holds a {name}; choose one of its own for --out")


@contextlib.contextmanager
def _open_run(run: Path | None, data: Path | None, tokenizer: Path | None) -> "Iterator[Opened]":
    from codegemma.train.replay import open_replay

    with open_replay(run, data, tokenizer) as replay:
        if not replay.is_marked:
            click.echo(f"not checked: {replay.files.run} holds no marks, so the versions here are trusted", err=True)
        yield replay.loader, replay.files.describe_rows(), replay.files.manifest.total_steps, replay.check_batch


@contextlib.contextmanager
def _open_recipe(data: Path, tokenizer: Path | None, out: Path, recipe: "Recipe") -> "Iterator[Opened]":
    from codegemma.adapt import find_base
    from codegemma.feed.frozen import FROZEN_FILE
    from codegemma.feed.loader import RowShape, open_loader
    from codegemma.places import list_names, open_local
    from codegemma.text.tokenizer import TOKENIZER_FILE, Tokenizer
    from codegemma.train.job import choose_tokenizer
    from codegemma.train.replay import describe_rows

    if tokenizer is not None:
        chosen = Tokenizer.load(tokenizer)
    elif {FROZEN_FILE, TOKENIZER_FILE} <= set(list_names(out)):
        with open_local(out / TOKENIZER_FILE) as file:
            chosen = Tokenizer.load(file)
    else:
        base = None if recipe.base in (None, "none") else find_base(recipe.base)
        with tempfile.TemporaryDirectory(prefix="codegemma-") as folder:
            chosen = choose_tokenizer(data, Path(folder), base, recipe.model.vocab_size)
    train = recipe.train
    shape = RowShape(train.batch_rows, train.row_tokens)
    about = describe_rows(data, chosen, recipe.feed, train.seed)
    with contextlib.closing(open_loader(data, chosen, recipe.feed, shape, train.seed)) as loader:
        yield loader, about, train.steps or 0, None
