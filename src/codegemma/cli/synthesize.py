"""`codegemma synthesize`: problems with solutions and tests, from snippets of a corpus, by any model behind a server.

**In**: data folders or source files; the address of a server, and of another that judges.
**Out**: a folder of conversations, problems and records; the figures on standard output.
**Not**: the filters; `codegemma.synthesis` has them.
"""

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegemma.cli.options import LOCAL, json_option
from codegemma.cli.progress import show_progress

if TYPE_CHECKING:
    from codegemma.pace import Pace
    from codegemma.synthesis.run import Model, SynthesisJob, SynthesisResult

# A snippet with the words around it, and a problem with solution and tests.
_LEAST_WINDOW = 2048


def _parse_price(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    from codegemma.synthesis.choices import Price

    try:
        return None if text is None else Price.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(short_help="Let a model write problems with solutions and tests; keep what stands.")
@click.argument("sources", nargs=-1, required=True, type=LOCAL, metavar="SOURCE...")
@click.option("--url", required=True, help="The server whose model writes: http://HOST:PORT, any OpenAI-compatible.")
@click.option("--model", help="Which of its models [default: the first].")
@click.option(
    "--judge", "judge_url", metavar="URL", help="The server whose model judges [default: the one that writes]."
)
@click.option("--judge-model", help="Which of the judge's models [default: the first].")
@click.option("--out", required=True, type=LOCAL, help="Folder for what is made; the same again goes on.")
@click.option("--seeds", type=click.IntRange(min=1), default=1000, show_default=True, help="Snippets to ask about.")
@click.option(
    "--min-score", type=click.IntRange(0, 5), default=4, show_default=True,
    help="What a judge must give for helpfulness and for correctness; 0 asks no judge.",
)  # fmt: skip
@click.option("--benchmarks", multiple=True, type=LOCAL, help="Files that no problem may overlap; may be repeated.")
@click.option(
    "--in-flight", type=click.IntRange(min=1), default=16, show_default=True,
    help="Requests always under way at each server: its slots or its largest batch.",
)  # fmt: skip
@click.option("--requests-per-s", type=click.FloatRange(min=0, min_open=True), help="At most so many tries a second.")
@click.option(
    "--timeout-s", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Wait for one answer."
)
@click.option("--price", callback=_parse_price, metavar="READ,WRITTEN", help="Of a million tokens, such as 0.15,0.60.")
@click.option("--judge-price", callback=_parse_price, metavar="READ,WRITTEN", help="The same of the judge's.")
@click.option("--unsafe", is_flag=True, help="Run what the model writes without a box, where the machine has none.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change what is named above; may be repeated."
)
@json_option
def command(  # noqa: PLR0913, PLR0917
    sources: tuple[Path, ...],
    url: str,
    model: str | None,
    judge_url: str | None,
    judge_model: str | None,
    out: Path,
    seeds: int,
    min_score: int,
    benchmarks: tuple[Path, ...],
    in_flight: int,
    requests_per_s: float | None,
    timeout_s: float,
    price: Any,
    judge_price: Any,
    unsafe: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Let a model write programming problems, inspired by snippets of your code, and keep what stands all filters.

    A SOURCE is a data folder of `codegemma build`, whose held-out side is never read, or a single source file. For each
    snippet the model writes a problem, a Python solution and tests (OSS-Instruct). A draft stays if it can be read and
    parsed; if its solution runs in the sandbox and passes its tests every time; if the tests fail on broken variants of
    the solution; if it holds nothing of --benchmarks; if a judge finds it helpful and correct; and if no earlier one is
    almost the same. Every draft that goes is written down with its filter and reason.

    Full servers (429, 5xx), time-outs and garbage are counted and tried again. Killed or interrupted, the same command
    goes on: nothing that was answered is asked or paid for twice. Keys are read from CODEGEMMA_API_KEY and
    CODEGEMMA_JUDGE_KEY. What is sent to the server are snippets of the SOURCE: mind whose server it is.

    --set changes what a draft must stand: seed, per_file, snippet_lines, min_jaccard, generator.temperature,
    generator.max_new_tokens, generator.tries, judge.*, examination.runs, .variants, .min_caught, .seconds.

    \b
    Example:
      codegemma serve my-model/model                        # or any server of a larger model
      codegemma synthesize data --url http://127.0.0.1:8012 --out made --seeds 5000
      codegemma synthesize data --url https://api.example.com --model big --price 0.15,0.60 --out made
      codegemma synthesize data --url http://gpu:8000 --judge http://gpu2:8000 --benchmarks mbpp.jsonl --out made
      codegemma align --base tiny --out tuned --chats made/chats.jsonl --problems made/problems.jsonl
    """
    from dataclasses import replace

    from codegemma.folders import hold_folder
    from codegemma.pace import Pace
    from codegemma.recipe import override
    from codegemma.sandbox.box import Safety, Sandbox
    from codegemma.synthesis.choices import SynthesisChoices
    from codegemma.synthesis.run import SynthesisJob, synthesize
    from codegemma.synthesis.written import write_result
    from codegemma.wire import name_server

    choices = override(replace(SynthesisChoices(), seeds=seeds, min_score=min_score), settings)
    limits = (in_flight, timeout_s)
    pace = Pace(requests_per_s)
    writer = _open_model(url, model, os.environ.get("CODEGEMMA_API_KEY"), price, limits, pace)
    judge = writer
    if judge_url or judge_model:
        key = os.environ.get("CODEGEMMA_JUDGE_KEY" if judge_url else "CODEGEMMA_API_KEY")
        price = judge_price if judge_url else judge_price or price
        # What a server wants is wanted of all that ask it, whichever of its models they ask.
        is_elsewhere = judge_url is not None and name_server(judge_url) != name_server(url)
        judge_pace = Pace(requests_per_s) if is_elsewhere else pace
        judge = _open_model(judge_url or url, judge_model, key, price, limits, judge_pace)
    job = SynthesisJob(sources, out, writer, judge, choices, benchmarks)
    with hold_folder(out), Sandbox(safety=Safety.UNSAFE if unsafe else Safety.BOXED) as sandbox:
        with show_progress() as on_progress:
            result = synthesize(job, sandbox, on_progress)
        problems = write_result(job, result)
    _tell(job, result, problems, as_json=as_json)


def _open_model(
    url: str, model: str | None, key: str | None, price: Any, limits: tuple[int, float], pace: "Pace"
) -> "Model":
    from codegemma.engine.remote import RemoteCompleter
    from codegemma.synthesis.choices import Price
    from codegemma.synthesis.run import Model
    from codegemma.wire import Wire

    in_flight, timeout_s = limits
    remote = RemoteCompleter(url, model=model, wire=Wire(url, api_key=key, timeout_s=timeout_s, pace=pace))
    if remote.max_context_tokens < _LEAST_WINDOW:
        told = f"{url} has a window of {remote.max_context_tokens:,} tokens"
        click.echo(f"{told}; questions and answers are wanted {_LEAST_WINDOW:,}: expect garbage", err=True)
    return Model(remote, f"{remote.model_name} at {remote.wire.address}", in_flight, price or Price(), pace)


def _tell(job: "SynthesisJob", result: "SynthesisResult", problems: int, *, as_json: bool) -> None:
    from codegemma.synthesis.written import CHATS_FILE, PROBLEMS_FILE, REPORT_FILE, describe_result

    figures = describe_result(job, result, problems)
    if as_json:
        click.echo(json.dumps(figures))
        return
    click.echo(
        f"{len(result.outcomes):,} seeds: {len(result.kept):,} kept, {problems:,} of them with tests to reward by"
    )
    for reason, count in figures["dropped"].items():
        click.echo(f"  dropped {count:6,}  {reason}")
    for role, spent in figures["spent"].items():
        told = f"{spent['replies']:,} replies ({spent['known']:,} known before), "
        told += f"{spent['prompt_tokens']:,} tokens read, {spent['new_tokens']:,} written"
        click.echo(f"{role:10}{told}" + (f", cost {spent['cost']:,.2f}" if spent["cost"] else ""))
    for name, kinds in figures["failed_tries"].items():
        for kind, count in kinds.items():
            click.echo(f"  failed  {count:6,}  {kind}, {name}")
    for note in result.notes:
        click.echo(f"  note    {note}")
    click.echo(f"report    {job.out / REPORT_FILE}")
    given = f"--chats {shlex.quote(str(job.out / CHATS_FILE))}"
    given += f" --problems {shlex.quote(str(job.out / PROBLEMS_FILE))}" if problems else ""
    if result.kept:
        click.echo(f"next      codegemma align --base tiny --out tuned {given}")
