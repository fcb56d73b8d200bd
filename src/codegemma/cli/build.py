"""`codegemma build`: repositories and documents to packs.

**In**: repositories and documents, the `corpus` and `pack` choices of a recipe.
**Out**: the data folder; on standard output what was kept and dropped, or one JSON object.
**Not**: the build; that is `codegemma.build`.
"""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codegemma.cli.options import (
    INPUT,
    LOCAL,
    PLACE,
    choose_recipe,
    json_option,
    recipe_options,
    runner_option,
    workers_option,
)
from codegemma.cli.progress import show_progress
from codegemma.places import is_remote
from codegemma.recipe import to_plain

if TYPE_CHECKING:
    from codegemma.corpus.inputs import Input

# The report has all of them.
_SHOWN_REASONS = _SHOWN_NOTES = 8


@click.command(short_help="Repositories to packs.")
@click.argument("repos", nargs=-1, required=True, type=INPUT, metavar="REPO...")
@click.option("--out", required=True, type=PLACE, help="Folder for packs and report, or an address: s3:// or gs://.")
@click.option(
    "--work",
    type=LOCAL,
    help="Where a build for an address is made and resumed [default: in ~/.cache/codegemma, or the runner's folder].",
)
@workers_option
@runner_option
@recipe_options
@json_option
def command(
    repos: "tuple[Input, ...]",
    *,
    out: Path,
    work: Path | None,
    workers: int,
    runner_text: str,
    recipe: str,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Turn repositories into packs that explain themselves, and say what became of every file.

    A REPO is a git working tree, a bare repository, a plain folder, or an archive of one (.zip, .tar.zst and the like),
    a table of source files (.parquet), or documents: .txt, .md, .jsonl and .json (also .gz, .zst), or a folder of them.
    REPO and --out may also be addresses in an object store. The same command again does only what changed.

    For a mixture, every file is of a kind: code, mathematics, text or synthetic. A document says its own where it can,
    as GSM8K and MATH do; KIND=REPO says it of all files of a REPO. text= and mathematics= read documents only, from a
    repository too. `codegemma train --set feed.mixture.shares=code_and_text` trains on 80 % code and 20 % text and
    mathematics; feed.mixture.shares=code=0.7,synthetic=0.1,text+mathematics=0.2 is a mixture of your own.

    \b
    Example:
      codegemma build ~/code/service ~/code/library --out data
      codegemma build ~/code/service text=~/docs gsm8k.jsonl synthetic=made.jsonl --out data
      codegemma build ~/code/service --out data --set corpus.heldout_by=time --set pack.order=codegemma
      codegemma build s3://code/the-stack/ ~/code/service --out s3://code/data
    """
    if work is not None and not is_remote(out):
        raise click.UsageError("--work is for a build whose --out is an address; a build in a folder is made in there")
    from codegemma.build import REPORT_FILE, build_data, choose_work, count_drops, share_colocated, tell_kinds
    from codegemma.records import Split
    from codegemma.runner import parse_runner

    chosen, runner = choose_recipe(recipe, settings), parse_runner(runner_text, workers)
    with show_progress() as on_progress:
        build = build_data(repos, out, chosen, runner, on_progress, work=work)
    if as_json:
        click.echo(json.dumps(to_plain(build) | {"kinds": to_plain(tell_kinds(build))}))
        return
    train, heldout = build.packs.splits[Split.TRAIN], build.packs.splits[Split.HELDOUT]
    packs = f"{train.packs:,} pack{'s' * (train.packs != 1)}"
    click.echo(f"{train.files_packed:,} files to train on in {packs}, {heldout.files_packed:,} held out")
    for told in tell_kinds(build):
        size = f"{told.size_bytes / 1e6:.2f} MB, about {told.tokens:,} tokens"
        click.echo(f"  {told.kind:11} {told.files:6,} files, {size}")
    for reason, files in list(count_drops(build).items())[:_SHOWN_REASONS]:
        click.echo(f"  dropped {files:6,}  {reason}")
    for note in build.corpus.notes[:_SHOWN_NOTES]:
        click.echo(f"  note    {note}")
    for order, share in share_colocated(build).items():
        click.echo(f"  imports in one pack, {order:13} {share:6.1%}")
    click.echo(f"report   {out / REPORT_FILE}")
    if is_remote(out):
        click.echo(f"made in  {work or choose_work(out, runner)}, which the next build goes on from")
    click.echo(
        f"next     codegemma train --data {shlex.quote(str(out))} --out run --recipe {shlex.quote(recipe)} --minutes 10"
    )
