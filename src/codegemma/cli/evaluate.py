"""`codegemma evaluate`: measure a model and print the figures with their intervals.

**In**: a model or the address of a server, names of suites, the folders that hold their data.
**Out**: a table on standard output (or JSON), and `results.json` with every hole in the output folder.
**Not**: scores of a model behind a server, which cannot rate given tokens: those figures are not run.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from codegemma.cli.figures import make_table
from codegemma.cli.options import LOCAL, PLACE, engine_option, json_option
from codegemma.cli.progress import show_progress
from codegemma.errors import InputError

if TYPE_CHECKING:
    from codegemma.evals.results import SuiteResults
    from codegemma.evals.scoring import Subject
    from codegemma.records import Completer


class SuiteCommand(click.Command):
    """A command whose help lists the suites, which are imported for that alone."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the suites before the options."""
        from codegemma.evals.suites import SUITES

        with formatter.section("Suites"):
            formatter.write_dl([(suite.name, suite.about) for suite in SUITES.values()])
        super().format_options(ctx, formatter)


@click.command(
    cls=SuiteCommand,
    epilog="""\b
Examples:
  codegemma evaluate my-model/model --suite heldout --data my-model/data --out figures
  codegemma evaluate my-model/model --suite infilling-single --data benchmarks --out figures --limit 100
  codegemma evaluate my-model/model --profile codegemma-2024 --data benchmarks --out figures
  codegemma evaluate http://127.0.0.1:8080 --suite infilling-single --template qwen --data benchmarks --out figures""",
)
@click.argument("model")
@click.option("--suite", "suites", multiple=True, help="Its name, above, or all; may be repeated.")
@click.option(
    "--data", multiple=True, type=PLACE, metavar="DIR",
    help="Where a suite's data lies: for heldout the folder or address of `codegemma build`, for benchmarks the folder "
    "of their published files; may be repeated.",
)  # fmt: skip
@click.option("--out", required=True, type=LOCAL, metavar="DIR", help="Where the results go.")
@click.option(
    "--profile",
    metavar="NAME",
    help="codegemma-2024: the suites of CodeGemma's card as it was measured: every task, one greedy answer, PSM.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N holes or tasks a suite.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers to each problem.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), help="Of the likeliest tokens.")
@click.option("--template", metavar="NAME", help="Spell holes for a server's model: codegemma, qwen, starcoder, ...")
@click.option("--path-line", is_flag=True, help="Ask infilling sets also with a path line before the prefix.")
@click.option("--chat", is_flag=True, help="Ask in turns of a conversation, for a model that was tuned to converse.")
@click.option("--judge", metavar="URL", help="A server whose model gives a second opinion on refusals.")
@click.option("--online", is_flag=True, help="Download the data of language suites that is not in --data.")
@click.option("--unsafe", is_flag=True, help="Run programs that the model wrote without a box around them.")
@engine_option
@json_option
def command(  # noqa: PLR0913, PLR0917
    model: str,
    suites: Sequence[str],
    profile: str | None,
    data: Sequence[Path],
    out: Path,
    limit: int | None,
    samples: int,
    temperature: float,
    top_p: float | None,
    template: str | None,
    path_line: bool,
    chat: bool,
    judge: str | None,
    online: bool,
    unsafe: bool,
    engine_name: str,
    as_json: bool,
) -> None:
    """Measure MODEL, on one or more suites: a model folder, a GGUF file, a hub id, or the address of a server.

    heldout asks for the folder of `codegemma build`, the benchmarks for their published files. Answers that are
    programs are run, in boxes. `--suite all` runs every suite whose data is at hand, and says why others are not run.
    """
    from codegemma.build import lend_data
    from codegemma.evals.card import (
        check_profile,
        check_profile_name,
        choose_profile,
        fill_card,
        list_profile_suites,
        spell_card,
    )
    from codegemma.evals.choices import EvalChoices
    from codegemma.evals.page import write_page
    from codegemma.evals.run import evaluate
    from codegemma.evals.suites import check_suite
    from codegemma.recipe import to_plain

    for suite in suites:
        check_suite(suite)
    if profile is not None:
        check_profile_name(profile)
    elif not suites:
        raise click.UsageError("nothing to measure; wanted --suite NAME or --profile codegemma-2024")
    subject = _open_subject(model, template, engine_name)
    opinion = _open_judge(judge)
    choices = EvalChoices(
        limit=limit,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        is_chat=chat,
        has_path_line=path_line,
        unsafe=unsafe,
        online=online,
    )
    optional: list[str] = []
    if profile is not None:
        subject = replace(subject, infill_modes=choose_profile(profile, choices, subject.infill_modes))
        optional = list_profile_suites()
    with show_progress() as on_progress:
        places = [lend_data(place, on_progress) for place in data]
        results = evaluate(
            subject, suites, data=places, out=out, model=model, choices=choices, judge=opinion, optional=optional,
            on_progress=on_progress,
        )  # fmt: skip
    page = write_page(out)
    if as_json:
        click.echo(json.dumps(to_plain(results), ensure_ascii=False))
        return
    named = [found for found in results.suites if found.suite in suites]
    for found in named:
        print_suite(found, Console())
    others = [found for found in results.suites if found not in named]
    if "all" in suites or profile is not None:
        print_summary(others, Console())
    elif others:
        click.echo(f"Beside them in {out}: {', '.join(found.suite for found in others)}")
    if profile is not None:
        rows = fill_card([results])
        click.echo(spell_card(rows))
        for note in check_profile([results], rows):
            click.echo(f"- {note}", err=True)
    click.echo(f"Written: {out / 'results.json'}, {page}")


def _open_judge(address: str | None) -> "tuple[Completer, str] | None":
    """Find the server that gives second opinions."""
    if address is None:
        return None
    from codegemma.engine.remote import RemoteCompleter

    remote = RemoteCompleter(address, api_key=os.environ.get("CODEGEMMA_JUDGE_KEY"))
    return remote, remote.model_name


def _open_subject(model: str, template: str | None, engine_name: str) -> "Subject":
    """Load a model, or find the server that has it."""
    from codegemma.evals.scoring import Subject

    if re.match(r"https?://", model):
        from codegemma.adapt import BASES
        from codegemma.engine.remote import RemoteCompleter
        from codegemma.text.tokenizer import Tokenizer

        remote = RemoteCompleter(model, api_key=os.environ.get("CODEGEMMA_API_KEY"), template=template)
        # The server's own tokenizer is not known: the base's counts more tokens than any, so that windows hold.
        fingerprint = f"{remote.wire.address} {remote.model_name} {remote.route} {template}"
        window, modes = remote.max_context_tokens, remote.infill_modes
        return Subject(remote, Tokenizer.load(BASES / "tiny"), window, modes, fingerprint, remote.at_once)
    if template is not None:
        raise InputError(f"--template is for the address of a server; {model} is spelled by its own format")
    from codegemma.engine.choose import open_model
    from codegemma.engine.completer import GeneratorCompleter
    from codegemma.model.hub import locate_model
    from codegemma.model.identity import hash_files

    place = locate_model(model)
    engine = open_model(place, engine_name, lambda said: click.echo(said, err=True))
    fingerprint = f"{hash_files(place)} {engine.describe()['engine']}"
    told = engine.tokenizer, engine.max_context_tokens, engine.infill_modes, fingerprint
    return Subject(GeneratorCompleter(engine), *told)


def print_summary(suites: "Sequence[SuiteResults]", console: Console) -> None:
    """Print a line for each suite and kind, then why others were not run; the page has all figures."""
    from codegemma.evals.summary import list_headlines

    lines = list(list_headlines(suites))
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("suite", "figure"):
        table.add_column(heading, overflow="fold")
    for heading in ("measured", "asked"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        if line.measured is not None:
            table.add_row(line.suite, line.about, line.spell(), f"{line.measured.interval.items:,}")
    if table.row_count:
        console.print(table)
    for line in lines:
        if line.measured is None:
            name = f"{line.suite}{', ' * bool(line.kind)}{line.about}"
            console.print(f"{name}: not run: {line.reason}", highlight=False, markup=False)


def print_suite(found: "SuiteResults", console: Console) -> None:
    """Print one table for each kind of hole: a row for each system and mode, intervals below the figures."""
    for kind in dict.fromkeys(m.kind for m in found.measurements):
        measured = [m for m in found.measurements if m.kind == kind]
        console.print(make_table(f"{found.suite}: {kind.replace('_', ' ')}", measured))
    for kind, reason in found.not_run.items():
        console.print(f"{found.suite}{': ' * bool(kind)}{kind}: not run: {reason}", highlight=False, markup=False)
    if not found.measurements:
        return
    console.print(
        f"Scored by {found.scored_by}. Below each figure: 95 % interval, by bootstrap over files or solutions "
        "(Wilson's where each problem stands alone, a binomial bound at 0 and 100 %).",
        style="dim",
    )
    for note in found.notes:
        console.print(f"- {note}", style="dim", highlight=False, markup=False)
