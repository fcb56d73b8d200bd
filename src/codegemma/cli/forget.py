"""`codegemma forget`: remove a repository, or files of it, from a data folder, and keep it out.

**In**: a data folder; a repository's name, and patterns of paths in it.
**Out**: the data folder without them; on standard output what went and what is left to do, or one JSON object.
**Not**: the removal; that is `codegemma.forget`.
"""

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codegemma.cli.options import LOCAL, json_option

if TYPE_CHECKING:
    from codegemma.forget import Forgetting


@click.command(short_help="Remove a repository from a data folder.")
@click.argument("data", type=LOCAL, metavar="DATA")
@click.option(
    "--repo", metavar="ID", help="The repository, by its name in the report; without it, finish what was cut off."
)
@click.option(
    "--path", "patterns", multiple=True, metavar="GLOB",
    help="Only the files that this matches, in the manner of .gitignore; may be repeated.",
)  # fmt: skip
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Say what would go; change nothing.")
@json_option
def command(data: Path, repo: str | None, patterns: tuple[str, ...], is_dry_run: bool, as_json: bool) -> None:
    """Remove a repository, or some files of it, from DATA, the folder that `codegemma build` wrote.

    The sources are not needed. Texts, cuts, packs and names go; parts that hold nothing of it are left alone. Later
    builds into DATA keep it out. Cut off, the same command finishes it. What is published at an address: remove it from
    the work folder of that build, and build again.

    \b
    Example:
      codegemma forget data --repo team/service --dry-run
      codegemma forget data --repo team/service
      codegemma forget data --repo team/library --path 'src/people/**' --path src/names.py
    """
    if repo is None and (patterns or is_dry_run):
        raise click.UsageError("--path and --dry-run need --repo; without any of them, what was cut off is finished")
    from codegemma.corpus.forgotten import Removal
    from codegemma.forget import forget
    from codegemma.recipe import to_plain

    done = forget(data, None if repo is None else Removal(repo, patterns), is_dry_run=is_dry_run)
    if as_json:
        click.echo(json.dumps(to_plain(done)))
    else:
        _show(data, done)


def _show(data: Path, done: "Forgetting") -> None:
    what = done.repo + (f": {', '.join(done.patterns)}" if done.patterns else "")
    if done.is_nothing:
        click.echo(f"{what}: nothing of it is in {data}; it is kept out")
        return
    train, heldout = done.files["train"], done.files["heldout"]
    packs, changed = sum(done.packs_removed.values()), sum(done.packs_changed.values())
    click.echo(
        f"{what}: {train:,} files to train on and {heldout:,} held out, {done.size_bytes:,} bytes, "
        f"{done.names:,} names in lists " + ("are removed" if done.is_done else "would go")
    )
    click.echo(f"packs    {packs:,} go, {changed:,} lose files; every other pack stays as it is")
    click.echo(f"written  {len(done.parts):,} parts anew, {done.step_files:,} files of steps/ gone" if done.is_done
               else f"touched  {len(done.parts):,} parts, {done.step_files:,} files of steps/")  # fmt: skip
    if not done.is_done:
        for part in done.parts:
            click.echo(f"  {part}")
    if done.copies:
        click.echo(
            f"copies   {done.copies:,} files that nobody asked to remove are the same as one of these: name them too"
        )
    if done.is_trained_on:
        click.echo(
            "models   a model cannot forget: train again, with its tokenizer, what was trained on these packs. "
            f'The run.json of those runs has "data": "{done.data_hash}"'
        )
        for run in done.runs:
            click.echo(f"  {shlex.quote(run)}")
    if done.job is not None and (done.rounds.files or done.rounds.names):
        _show_rounds(Path(done.job), done)
    elif not done.is_trained_on and train + heldout:
        click.echo("models   none was trained on it")
    if heldout:
        click.echo("proofs   evaluations on the held-out files quote them: remove those folders and evaluate again")
    if re.search(r"#\d+$", done.repo):
        click.echo(f"name     {done.repo} is told from others of its name by its place among them: keep their order")
    if done.is_done:
        click.echo(f"kept out of later builds by {data / 'forgotten.json'}; for other folders, see corpus.opt_out")


def _show_rounds(job: Path, done: "Forgetting") -> None:
    from codegemma.round_files import describe_taint, explain

    rounds = done.rounds
    click.echo(
        f"rounds   {rounds.packs:,} of the packs that they keep lose {rounds.files:,} files, "
        f"and {rounds.names:,} names go from what they have learned"
    )
    for number in rounds.restarted:
        goes = "went" if done.is_done else "would go"
        click.echo(f"         round {number}, which was under way with them, {goes} as a whole and begins anew")
    if rounds.tainted:
        click.echo(f"models   {describe_taint(rounds.tainted)} from it. {explain(job, rounds.tainted)}")
