"""`codegemma plan`: will a training fit on these chips, and what will it take?

**In**: a published size, topologies.
**Out**: for each, compiled afresh: memory a chip by kind, operations, collectives, bounds on time, days and cost.
**Not**: a run; no accelerator is needed. GPUs are estimated by formula.
"""

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any, cast

import click

from codegemma.cli.options import json_option

if TYPE_CHECKING:
    from codegemma.train.ahead import Misfit, Plan

_GIB = 2**30
_RECIPES = {"2b": "codegemma_2b", "7b": "codegemma_7b"}
# MaxText on v5e-256 in bfloat16, causal attention halved: 58.21 % and 57.70 % in the older count (training study, 4).
_PUBLISHED_MFU = {"2b": 0.526, "7b": 0.525}
_LENGTHS = (500e9, 1e12)
_SHOWN_COLLECTIVES = 4


@click.command(short_help="Will it fit on these chips?")
@click.option("--model", type=click.Choice(["2b", "7b"]), required=True, help="A published size.")
@click.option(
    "--topology", "topologies", multiple=True, required=True, metavar="CHIP:SHAPE",
    help="Such as v5e:4x4, 2*v5e:16x16 (two slices) or h100:8; may be repeated.",
)  # fmt: skip
@click.option(
    "--batch", "rows", type=click.IntRange(min=1), help="Rows of a batch over all chips [default: one a chip]."
)
@click.option("--row-tokens", type=click.IntRange(min=128), default=8192, show_default=True, help="Tokens of a row.")
@click.option(
    "--remat", type=click.Choice(["full", "qkvo", "offload", "none"]), default="full", show_default=True,
    help="What a layer keeps for the gradient: its input; also what attention took and gave, here or on the host; all.",
)  # fmt: skip
@click.option("--mesh", metavar="DATA,FSDP,TENSOR", help="-1: what is left [default: the number of slices,-1,1].")
@click.option("--loss-chunk", type=click.IntRange(min=1), help="Tokens whose logits exist at once [default: recipe's].")
@click.option("--largest", is_flag=True, help="Look for the largest batch that fits, from --batch on.")
@click.option("--layers", type=click.IntRange(min=1), help="Fewer layers than the model has, for a quick look.")
@click.option("--price", type=click.FloatRange(min=0), help="Dollars for a chip and hour [default: TPU list price].")
@json_option
def command(  # noqa: PLR0913, PLR0917
    model: str,
    topologies: tuple[str, ...],
    rows: int | None,
    row_tokens: int,
    remat: str,
    mesh: str | None,
    loss_chunk: int | None,
    largest: bool,
    layers: int | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Compile the real training step for chips that are not here, and tell what it needs.

    A TPU's compiler works on any machine: pip install "codegemma[tpu]". Whether it fits is the compiler's own verdict.
    Time is not known before a run: `bound` is what no run exceeds, `at MFU` what a published run of this size reached.
    For GPUs (a100, h100, h200) nothing is compiled: memory is an estimate by formula, operations are counted.

    \b
    Example:
      codegemma plan --model 2b --topology v5e:4x4 --topology v5e:16x16
      codegemma plan --model 7b --topology v5e:16x16 --remat qkvo --largest
      codegemma plan --model 7b --topology 2*v5e:16x16 --batch 1024
      codegemma plan --model 2b --topology h100:8 --price 4
    """
    # Nothing runs on an accelerator, also where there is one.
    os.environ["JAX_PLATFORMS"] = "cpu"

    from codegemma.recipes import load_recipe
    from codegemma.train.ahead import find_largest_batch, plan_step
    from codegemma.train.chips import read_topology

    recipe = load_recipe(_RECIPES[model])
    config = recipe.model if layers is None else dataclasses.replace(recipe.model, num_layers=layers)
    results: list[dict[str, Any]] = []
    for topology in [read_topology(name) for name in topologies]:
        choices = dataclasses.replace(
            recipe.train,
            batch_rows=rows or topology.chips,
            row_tokens=row_tokens,
            remat=cast(Any, remat),
            mesh=_read_mesh(mesh or f"{topology.slices},-1,1"),
            loss_chunk_tokens=loss_chunk or recipe.train.loss_chunk_tokens,
        )
        if largest:
            best, worst = find_largest_batch(config, choices, topology)
            found = [result for result in (best, worst) if result is not None]
        else:
            found = [plan_step(config, choices, topology)]
        for result in found:
            results.append(describe_plan(result, model, price))
            if not as_json:
                _print_result(results[-1])
    if as_json:
        click.echo(json.dumps(results))


def _read_mesh(text: str) -> tuple[int, int, int]:
    try:
        data, fsdp, tensor = (int(size) for size in text.split(","))
    except ValueError:
        raise click.UsageError(f"--mesh {text!r}: wanted three whole numbers such as 1,-1,1") from None
    return data, fsdp, tensor


def describe_plan(result: "Plan | Misfit", model: str, price: float | None = None) -> dict[str, Any]:
    """Spell a result as plain data, the derived figures included."""
    from codegemma.train.ahead import Misfit
    from codegemma.train.collectives import add_up_by_kind

    topology, limit = result.topology, int(result.topology.chip.memory_gib * _GIB)
    about = {"topology": topology.name, "chips": topology.chips, "rows": result.rows, "limit_bytes": limit}
    if isinstance(result, Misfit):
        return about | {"fits": False, "reason": result.reason}
    at_mfu = result.tokens_per_s_at(_PUBLISHED_MFU[model])
    dollars = price if price is not None else topology.chip.dollars_per_hour
    plain = dataclasses.asdict(result)
    plain["collectives"] = [dataclasses.asdict(c) | {"moved_bytes": c.moved_bytes} for c in result.collectives]
    return (
        plain
        | about
        | {
            "fits": True,
            "moved_bytes_by_collective": add_up_by_kind(list(result.collectives)),
            "compute_s": result.compute_s,
            "memory_s": result.memory_s,
            "link_s": result.link_s,
            "bound_tokens_per_s": result.bound_tokens_per_s,
            "published_mfu": _PUBLISHED_MFU[model],
            "tokens_per_s_at_published_mfu": at_mfu,
            "days": {f"{tokens:.0e}": tokens / at_mfu / 86_400 for tokens in _LENGTHS},
            "dollars": {
                f"{tokens:.0e}": None if dollars is None else tokens / at_mfu / 3600 * topology.chips * dollars
                for tokens in _LENGTHS
            },
        }
    )


def _print_result(about: dict[str, Any]) -> None:
    if not about["fits"]:
        click.echo(f"{about['topology']}: {about['rows']} rows do not fit\n  {about['reason']}\n")
        return
    mesh = " x ".join(f"{axis} {size}" for axis, size in about["mesh"].items())
    click.echo(
        f"{about['topology']}: {about['chips']} chips, {mesh}; {about['rows']} rows of {about['row_tokens']:,} tokens"
    )
    _print_memory(about)
    _print_work(about)
    click.echo(
        f"  bound     {about['bound_tokens_per_s']:,.0f} tokens/s; at the published MFU of "
        f"{about['published_mfu']:.1%} {about['tokens_per_s_at_published_mfu']:,.0f} tokens/s"
    )
    for tokens, days in about["days"].items():
        dollars = about["dollars"][tokens]
        cost = "; for the cost give --price" if dollars is None else f", ${dollars:,.0f} at list price or --price"
        click.echo(f"            {float(tokens) / 1e9:,.0f} B tokens: {days:,.1f} days{cost}")
    if about["is_estimate"]:
        click.echo("  an estimate by formula, nothing was compiled\n")
        return
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    click.echo(f"  compiled in {about['compile_s']:.0f} s, program {about['program_hash']}; {versions}\n")


def _print_memory(about: dict[str, Any]) -> None:
    kinds = ", ".join(f"{kind} {size / _GIB:.2f}" for kind, size in about["memory"].items())
    verdict = "estimated" if about["is_estimate"] else "fits: peak"
    click.echo(
        f"  memory    {verdict} {about['peak_bytes'] / _GIB:.2f} GiB of {about['limit_bytes'] / _GIB:.2f} a chip"
    )
    click.echo(f"            {kinds}; on the host {about['host_bytes'] / _GIB:.2f}; remat {about['remat']}")


def _print_work(about: dict[str, Any]) -> None:
    click.echo(
        f"  products  {about['program_flops']:.3g} operations a step, attention {about['attention']}: "
        f"{about['compute_s']:.3f} s at the peak; reading and writing the state {about['memory_s']:.3f} s"
    )
    moved = ", ".join(f"{kind} {size / _GIB:.2f} GiB" for kind, size in about["moved_bytes_by_collective"].items())
    click.echo(f"  links     a chip sends {moved or 'nothing'}: {about['link_s']:.3f} s at the peak")
    for collective in about["collectives"][:_SHOWN_COLLECTIVES]:
        size = f"{collective['array_bytes'] / _GIB:.3f} GiB"
        click.echo(f"            {collective['times']} x {collective['kind']} {collective['shape']}, {size}")
