"""`codegemma instruct`: conversations to tune on that no model has to write.

**In**: train splits of mathematics, a seed, a repository's history.
**Out**: JSON Lines for `codegemma align --chats`; on standard output what was kept and dropped, or one JSON object.
**Not**: how conversations are made; `codegemma.instruct` does that.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from codegemma.cli.options import LOCAL, choose_recipe, json_option, recipe_options
from codegemma.cli.progress import show_progress

if TYPE_CHECKING:
    from codegemma.instruct.examples import Tally

F = TypeVar("F", bound=Callable[..., Any])
_SHOWN_NOTES = 8


def writing_options(function: F) -> F:
    """Add `--out`, `--against` and `--json`."""
    against = click.option(
        "--against",
        multiple=True,
        type=LOCAL,
        metavar="FILE",
        help="Test data of a benchmark, file or folder: what has ten words of it in a row, or all, is dropped.",
    )
    out = click.option("--out", required=True, type=LOCAL, help="File of JSON Lines to write.")
    return out(against(json_option(function)))


@click.group(
    name="instruct",
    epilog="""\b
Examples:
  codegemma instruct math gsm8k/main/train*.parquet MATH/train --against gsm8k/main/test*.parquet --out math.jsonl
  codegemma instruct algebra --count 20000 --out algebra.jsonl
  codegemma instruct history ~/code/service --data data --out history.jsonl
  codegemma align --base tiny --chats math.jsonl --chats algebra.jsonl --data data --stages sft --out tuned""",
)
def command() -> None:
    """Write conversations to tune on that no model has to write: mathematics, algebra, a repository's history.

    Each line is {"messages": [...], "origin": {...}}; `codegemma align --chats` reads the messages, and the origin says
    where they are from. What is dropped is counted by reason; a question that was asked before is written once.
    """


@command.command()
@click.argument("files", nargs=-1, required=True, type=LOCAL, metavar="FILE...")
@writing_options
def math(files: tuple[Path, ...], out: Path, against: tuple[Path, ...], as_json: bool) -> None:
    """Turn the train splits of GSM8K, MATH and MathQA into conversations with worked steps.

    A FILE is what was published: Parquet, JSON or JSON Lines (also .gz), or a folder of it. Answers end as the suites
    gsm8k and math read them. A test split is refused, by its name, its field `split`, or because its problems stand in
    the test data given with --against; in a folder it is left out. What does not say that it is a train split is taken
    only where --against is given.

    \b
    Example:
      codegemma instruct math MATH/train gsm8k/train.jsonl --against gsm8k/test.jsonl --out math.jsonl
    """
    from codegemma.instruct.examples import open_guard, write_examples
    from codegemma.instruct.mathematics import find_train_files, read_mathematics

    notes: list[str] = []
    guard = open_guard(against)
    found = find_train_files(files, notes, has_guard=guard is not None)
    with show_progress() as on_progress:
        tally = write_examples(out, read_mathematics(found, guard), guard, on_progress)
    tally.notes += notes
    _tell(tally, out, as_json=as_json)


@command.command()
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(min=1), help="Conversations to write.")
@click.option(
    "--families", help="Some of linear,systems,quadratic,expansion,... [default: all; a wrong name lists them]."
)
@click.option("--levels", default="1,2,3,4,5", show_default=True, help="From 1, a step or two, to 5, a dozen.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The same seed, the same file.")
@writing_options
def algebra(  # noqa: PLR0917
    count: int, families: str | None, levels: str, seed: int, out: Path, against: tuple[Path, ...], as_json: bool
) -> None:
    """Generate algebra problems with worked steps, correct by construction.

    Families: linear equations, systems, quadratic equations, expansion, factoring, rational expressions, sequences,
    percentages, remainders; they take turns, and so do the levels. A line's origin names its problem, which anybody can
    make again: family, level, seed.

    \b
    Example:
      codegemma instruct algebra --count 20000 --families quadratic,systems --levels 3,4,5 --out algebra.jsonl
    """
    from codegemma.instruct.algebra.families import FAMILIES, tell_examples
    from codegemma.instruct.examples import open_guard, write_examples

    chosen = families.split(",") if families else list(FAMILIES)
    examples = tell_examples(chosen, _parse_levels(levels), seed)
    with show_progress() as on_progress:
        tally = write_examples(out, examples, open_guard(against), on_progress, count)
    _tell(tally, out, as_json=as_json)


@command.command()
@click.argument("repos", nargs=-1, required=True, type=LOCAL, metavar="REPO...")
@click.option("--data", multiple=True, type=LOCAL, help="What `codegemma build` wrote: what it holds out is not told.")
@click.option("--kinds", default="repair,review", show_default=True, help="Which conversations.")
@click.option(
    "--tests/--no-tests", "has_tests", default=True, show_default=True, help="Run changed Python tests in boxes."
)
@click.option(
    "--verified", is_flag=True, help="Of repairs, only those whose tests were seen to fail before and to pass after."
)
@click.option(
    "--commits", type=click.IntRange(min=1), help="Read so many commits of each repository, the newest first."
)
@recipe_options
@writing_options
def history(  # noqa: PLR0913, PLR0917
    repos: tuple[Path, ...], data: tuple[Path, ...], kinds: str, has_tests: bool, verified: bool, commits: int | None,
    recipe: str, settings: tuple[str, ...], out: Path, against: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Turn the commits of git repositories, bare or not, into conversations of repair and review.

    A review shows the diff and answers with the author's message. A repair shows the code before a commit and its
    tests, and answers with the message and the code after it: whole where it is short, else a diff. Python tests are
    run in a box, with the repository's own .venv where it has one: where they fail on the old code and pass twice on
    the new one, the failure is shown and the origin says verified; else it says why not. Nothing is checked out. As
    many commits are tried at once as there are processors. What tests said is kept in a folder beside OUT (OUT.kept):
    the same command after a kill, or next month, runs none of them again.

    What `codegemma build` refuses is refused here, by the same choices (--set corpus.licenses=permissive); so are
    merges, first commits, vendored and generated files, and what is too large. Name with --data each build by which a
    model is to be measured: held-out files are recognised under former names, and by what they hold.

    \b
    Example:
      codegemma instruct history ~/code/service --data data --out history.jsonl
      codegemma instruct history ~/code/service.git --kinds repair --verified --out repairs.jsonl
    """
    from contextlib import ExitStack

    from codegemma.instruct.examples import Tally, open_guard, write_examples
    from codegemma.instruct.history.read import HistoryJob, read_history
    from codegemma.sandbox.box import Sandbox

    corpus = choose_recipe(recipe, settings).corpus
    job = HistoryJob(repos, corpus, data, tuple(kinds.split(",")), max_commits=commits, only_verified=verified,
                     kept=out.with_name(f"{out.name}.kept"))  # fmt: skip
    tally = Tally()
    with ExitStack() as opened:
        sandbox = opened.enter_context(Sandbox()) if has_tests else None
        on_progress = opened.enter_context(show_progress())
        examples = read_history(job, sandbox, tally.notes, on_progress)
        guard = open_guard((*against, *map(Path, corpus.decontaminate)), corpus.decontamination_allow_list)
        write_examples(out, examples, guard, on_progress, tally=tally)
    _tell(tally, out, as_json=as_json)


def _parse_levels(text: str) -> Sequence[int]:
    try:
        return [int(level) for level in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: wanted numbers divided by commas, such as 3,4,5") from error


def _tell(tally: "Tally", out: Path, *, as_json: bool) -> None:
    if as_json:
        told = {"kept": tally.kept, "dropped": tally.dropped, "notes": tally.notes, "out": str(out)}
        click.echo(json.dumps(told))
        return
    click.echo(f"{tally.kept.total():,} conversations, {tally.dropped.total():,} dropped")
    for kind, count in tally.kept.most_common():
        click.echo(f"  kept    {count:7,}  {kind}")
    for reason, count in tally.dropped.most_common():
        click.echo(f"  dropped {count:7,}  {reason}")
    for note in tally.notes[:_SHOWN_NOTES]:
        click.echo(f"  note    {note}")
    if len(tally.notes) > _SHOWN_NOTES:
        click.echo(f"  note    and {len(tally.notes) - _SHOWN_NOTES:,} more of the kind")
    click.echo(f"chats    {out}")
    click.echo(f"next     codegemma align --base tiny --chats {shlex.quote(str(out))} --stages sft --out tuned")
