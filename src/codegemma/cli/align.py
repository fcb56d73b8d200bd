"""`codegemma align`: a model that follows instructions, from one that completes.

**In**: a base, a recipe, conversations, packs of code to rehearse.
**Out**: OUT/model, a folder for each stage, `report.html`; the figures on standard output.
**Not**: what the stages do; `codegemma.align` does.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from codegemma.cli.figures import spell_losses
from codegemma.cli.options import LOCAL, choose_recipe, json_option, settings_option
from codegemma.cli.progress import show_progress


@click.command(short_help="Tune a model to follow instructions.")
@click.option("--base", required=True, help="Model folder, hub id or shipped base to start from, such as tiny.")
@click.option("--out", required=True, type=LOCAL, help="Folder for the stages and the model.")
@click.option(
    "--recipe", default="tiny_it", show_default=True, help="A recipe's name, or the path of your own .py file."
)
@settings_option
@click.option("--data", type=LOCAL, help="What `codegemma build` wrote: rehearsed, and measured. [default: see above]")
@click.option("--chats", multiple=True, type=LOCAL, help="Conversations as JSON Lines; may be repeated.")
@click.option("--problems", multiple=True, type=LOCAL, help="Problems with tests as JSON Lines; may be repeated.")
@click.option("--stages", help="Some of sft,best,dpo,grpo [default: the recipe's].")
@click.option("--unsafe", is_flag=True, help="Run what the model writes without a box, where the machine has none.")
@json_option
def command(  # noqa: PLR0913, PLR0917
    base: str,
    out: Path,
    recipe: str,
    settings: tuple[str, ...],
    data: Path | None,
    chats: tuple[Path, ...],
    problems: tuple[Path, ...],
    stages: str | None,
    unsafe: bool,
    as_json: bool,
) -> None:
    """Tune a model: instruction tuning (sft), preferences (dpo), rewards from tests that run (grpo).

    The problems come with the recipe: small functions with executable tests, thousands of them, whose demonstrations
    are written as people write, with the usual mistakes at the edges. What the model writes runs in a sandbox. Each
    stage after the first is compared with instruction tuning continued by as many operations, on held-out problems.

    --chats adds conversations: {"messages": [{"role": "user", "content": "..."}, ...]} on each line, or prompt and
    completion; the model's turns are learned. --data is code to rehearse, so that infilling is kept; its held-out side
    shows whether it was, and so does a package that is not rehearsed. Without it, the installed ones of the packages
    that the shipped base learned from, and parts of this Python's library, are built into OUT/data.

    --problems adds problems to be rewarded by: {"problem", "function", "solution", "tests": [{"given", "wanted"}, ...]}
    on each line, as `codegemma synthesize` writes them. Tests that the solution does not pass each time are dropped.

    Interrupted or killed, the same command goes on where it was.

    \b
    Example:
      codegemma align --base tiny --recipe tiny_it --out tuned
      codegemma align --base tiny --out tuned --chats chats.jsonl --data data --stages sft
      codegemma align --base tiny --out tuned --set align.policy.algorithm=reinforce --set align.policy.beta=0.05
      codegemma align --base google/codegemma-7b --recipe codegemma_7b_it --chats chats.jsonl --data data --out it
    """
    from dataclasses import replace

    from codegemma.adapt import find_base, find_other
    from codegemma.align.run import AlignJob, align, check_inputs
    from codegemma.align_report import spell_gain, spell_infill, write_report
    from codegemma.forgetting import measure_change
    from codegemma.library import build_library
    from codegemma.recipe import to_plain
    from codegemma.sandbox.box import Safety
    from codegemma.sandbox.calls import Caller

    if stages is not None:
        settings = (*settings, f"align.stages={stages}")
    chosen = choose_recipe(recipe, settings)
    folder, elsewhere = find_base(base), find_other(())
    job = AlignJob(folder, out, chosen.align, chosen.feed, data, chats, problems, to_plain(chosen), elsewhere)
    check_inputs(job)
    with Caller(Safety.UNSAFE if unsafe else Safety.BOXED) as caller, show_progress() as on_progress:
        if data is None:
            data = build_library(out / "data", chosen, on_progress)
            job = replace(job, data=data)
        result = align(job, caller, on_progress, _tell_line)
        # What is not rehearsed may be forgotten although holes in the rehearsed packages are filled as before.
        losses = measure_change((folder, result.model), data, elsewhere, out / "figures", chosen.evals, on_progress)
    report = write_report(job, result, losses)
    if as_json:
        click.echo(json.dumps(to_plain({"model": result.model, "stages": result.stages, "gains": result.gains})))
        return
    from codegemma.align.measure import count_solved

    for name, found in result.solved.items():
        share = count_solved(found)
        click.echo(f"{name:14} solves {share.mean:6.1%} of {share.items:,} held-out problems")
    for gain in result.gains:
        click.echo(spell_gain(gain))
    for line in spell_infill(result):
        click.echo(line)
    for line in spell_losses(losses):
        click.echo(line.strip())
    if result.given.kept or result.given.dropped:
        click.echo(
            f"problems {result.given.kept:,} given ones kept; dropped as flaky or unsolved: {result.given.dropped:,}, "
            f"and of the kept ones {result.given.tests_dropped:,} tests"
        )
    _tell_chats(result.chats.kept, result.chats.oldest_turns, result.chats.dropped)
    click.echo(f"report   {report}")
    click.echo(f"model    {result.model}")
    click.echo(f"next     codegemma serve {shlex.quote(str(result.model))}")


def _tell_chats(kept: int, oldest_turns: int, dropped: Mapping[str, int]) -> None:
    if kept or dropped:
        click.echo(f"chats    {kept:,} kept; {oldest_turns:,} oldest turns left out of them for their length")
    for reason, count in dropped.items():
        click.echo(f"  dropped {count:6,}  {reason}")


def _tell_line(line: Mapping[str, int | float]) -> None:
    """Say how instruction tuning goes where nobody watches a bar."""
    if not sys.stderr.isatty() and line["step"] % 100 == 0:
        click.echo(f"step {line['step']:,}  loss {line['loss']:.3f}  {line['tokens_per_s']:,.0f} tokens/s", err=True)
