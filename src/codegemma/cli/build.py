"""`codegemma build`: repositories to packs.

**In**: repositories, the `corpus` and `pack` choices of a recipe.
**Out**: the data folder; on standard output what was kept and dropped, or one JSON object.
**Not**: the build; that is `codegemma.build`.
"""

import json
import shlex
from pathlib import Path

import click

from codegemma.cli.options import (
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


@click.command(short_help="Repositories to packs.")
@click.argument("repos", nargs=-1, required=True, type=PLACE, metavar="REPO...")
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
    repos: tuple[Path, ...],
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

    A REPO is a git working tree, a bare repository, a plain folder, or an archive of one (.zip, .tar.zst and the like).
    The same command again does only what changed. REPO and --out may also be addresses in an object store, where REPO
    is an archive, a table, a file of documents, or a prefix of those or of a tree of files.

    \b
    Example:
      codegemma build ~/code/service ~/code/library --out data
      codegemma build ~/code/service --out data --set corpus.heldout_by=time --set pack.order=codegemma
      codegemma build s3://code/the-stack/ ~/code/service --out s3://code/data
    """
    if work is not None and not is_remote(out):
        raise click.UsageError("--work is for a build whose --out is an address; a build in a folder is made in there")
    from codegemma.build import REPORT_FILE, build_data, choose_work, count_drops, share_colocated
    from codegemma.records import Split
    from codegemma.runner import parse_runner

    chosen, runner = choose_recipe(recipe, settings), parse_runner(runner_text, workers)
    with show_progress() as on_progress:
        build = build_data(repos, out, chosen, runner, on_progress, work=work)
    if as_json:
        click.echo(json.dumps(to_plain(build)))
        return
    train, heldout = build.packs.splits[Split.TRAIN], build.packs.splits[Split.HELDOUT]
    packs = f"{train.packs:,} pack{'s' * (train.packs != 1)}"
    click.echo(f"{train.files_packed:,} files to train on in {packs}, {heldout.files_packed:,} held out")
    for reason, files in list(count_drops(build).items())[:8]:
        click.echo(f"  dropped {files:6,}  {reason}")
    for order, share in share_colocated(build).items():
        click.echo(f"  imports in one pack, {order:13} {share:6.1%}")
    click.echo(f"report   {out / REPORT_FILE}")
    if is_remote(out):
        click.echo(f"made in  {work or choose_work(out, runner)}, which the next build goes on from")
    click.echo(
        f"next     codegemma train --data {shlex.quote(str(out))} --out run --recipe {shlex.quote(recipe)} --minutes 10"
    )
