"""`codegemma plan`: will a training fit on these chips, and what will it take?

**In**: a published size or a recipe, topologies.
**Out**: a table, compiled afresh: memory a chip, collectives, bounds on time, days and cost.
**Not**: a run; no accelerator is needed.
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
@click.option("--mesh", default="1,-1,1", show_default=True, metavar="DATA,FSDP,TENSOR", help="-1: what is left.")
@click.option("--largest", is_flag=True, help="Double the batch until it does not fit; show the largest that does.")
@click.option("--layers", type=click.IntRange(min=1), help="Fewer layers than the model has, for a quick look.")
@click.option("--price", type=click.FloatRange(min=0), help="Dollars for a chip and hour [default: a list price].")
@json_option
def command(  # noqa: PLR0913, PLR0917
    model: str,
    topologies: tuple[str, ...],
    rows: int | None,
    row_tokens: int,
    remat: str,
    mesh: str,
    largest: bool,
    layers: int | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Compile the real training step for chips that are not here, and tell what it needs.

    A TPU's compiler works on any machine: pip install "codegemma[tpu]". Whether it fits is the compiler's own verdict.
    Time is not known before a run: `bound` is what no run exceeds, `at MFU` what a published run of this size reached.

    \b
    Example:
      codegemma plan --model 2b --topology v5e:4x4 --topology v5e:16x16
      codegemma plan --model 7b --topology v5e:16x16 --remat qkvo --largest
      codegemma plan --model 7b --topology 2*v5e:16x16 --mesh 2,-1,1 --batch 1024
    """
    # Nothing runs on an accelerator, also where there is one.
    os.environ["JAX_PLATFORMS"] = "cpu"

    from codegemma.recipes import load_recipe
    from codegemma.train.ahead import find_largest_batch, plan_step
    from codegemma.train.chips import read_topology

    recipe = load_recipe(_RECIPES[model])
    config = recipe.model if layers is None else dataclasses.replace(recipe.model, num_layers=layers)
    results: list[Plan | Misfit] = []
    for name in topologies:
        topology = read_topology(name)
        choices = dataclasses.replace(
            recipe.train,
            batch_rows=rows or topology.chips,
            row_tokens=row_tokens,
            remat=cast(Any, remat),
            mesh=_read_mesh(mesh),
        )
        result = plan_step(config, choices, topology)
        if largest:
            result = find_largest_batch(config, choices, topology) or result
        results.append(result)
        if not as_json:
            _print_result(result, model, price)
    if as_json:
        click.echo(json.dumps([_describe(result, model, price) for result in results]))


def _read_mesh(text: str) -> tuple[int, int, int]:
    try:
        data, fsdp, tensor = (int(size) for size in text.split(","))
    except ValueError:
        raise click.UsageError(f"--mesh {text!r}: wanted three whole numbers such as 1,-1,1") from None
    return data, fsdp, tensor


def _describe(result: "Plan | Misfit", model: str, price: float | None) -> dict[str, Any]:
    """Spell a result as plain data, the derived figures included."""
    from codegemma.train.ahead import Misfit
    from codegemma.train.collectives import add_up_by_kind

    if isinstance(result, Misfit):
        return {"topology": result.topology.name, "rows": result.rows, "fits": False, "reason": result.reason}
    at_mfu = result.tokens_per_s_at(_PUBLISHED_MFU[model])
    dollars = price if price is not None else result.topology.chip.dollars_per_hour
    return dataclasses.asdict(result) | {
        "topology": result.topology.name,
        "chips": result.topology.chips,
        "fits": True if result.peak_bytes is not None else None,
        "limit_bytes": int(result.topology.chip.memory_gib * _GIB),
        "moved_bytes_by_collective": add_up_by_kind(list(result.collectives)),
        "compute_s": result.compute_s,
        "memory_s": result.memory_s,
        "link_s": result.link_s,
        "bound_tokens_per_s": result.bound_tokens_per_s,
        "published_mfu": _PUBLISHED_MFU[model],
        "tokens_per_s_at_published_mfu": at_mfu,
        "days": {f"{tokens:.0e}": tokens / at_mfu / 86_400 for tokens in _LENGTHS},
        "dollars": {
            f"{tokens:.0e}": None if dollars is None else tokens / at_mfu / 3600 * result.topology.chips * dollars
            for tokens in _LENGTHS
        },
    }


def _print_result(result: "Plan | Misfit", model: str, price: float | None) -> None:
    about = _describe(result, model, price)
    if not about.get("chips"):
        click.echo(f"{about['topology']}: {about['rows']} rows do not fit\n  {about['reason']}\n")
        return
    mesh = " x ".join(f"{axis} {size}" for axis, size in about["mesh"].items())
    click.echo(
        f"{about['topology']}: {about['chips']} chips, {mesh}; {about['rows']} rows of {about['row_tokens']:,} tokens"
    )
    peak = about["peak_bytes"]
    if peak is None:
        click.echo(f"  not compiled: arguments take {about['argument_bytes'] / _GIB:.2f} GiB of "
                   f"{about['limit_bytes'] / _GIB:.2f} a chip, what a step adds is not known")  # fmt: skip
    else:
        click.echo(
            f"  fits: peak {peak / _GIB:.2f} GiB of {about['limit_bytes'] / _GIB:.2f} a chip (arguments "
            f"{about['argument_bytes'] / _GIB:.2f}, temporary {about['temp_bytes'] / _GIB:.2f}, "
            f"on the host {about['host_bytes'] / _GIB:.2f}); remat {about['remat']}, attention {about['attention']}"
        )
    moved = ", ".join(f"{kind} {size / _GIB:.2f} GiB" for kind, size in about["moved_bytes_by_collective"].items())
    click.echo(f"  a step: products {about['compute_s']:.3f} s, memory {about['memory_s']:.3f} s, "
               f"links {about['link_s']:.3f} s at their peaks; a chip sends {moved or 'not known'}")  # fmt: skip
    click.echo(
        f"  bound {about['bound_tokens_per_s']:,.0f} tokens/s; at the published MFU of {about['published_mfu']:.1%} "
        f"{about['tokens_per_s_at_published_mfu']:,.0f} tokens/s"
    )
    for tokens, days in about["days"].items():
        dollars = about["dollars"][tokens]
        cost = "" if dollars is None else f", ${dollars:,.0f} at list price"
        click.echo(f"    {float(tokens) / 1e9:,.0f} B tokens: {days:,.1f} days{cost}")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    click.echo(f"  compiled in {about['compile_s']:.0f} s, program {about['program_hash'] or 'none'}; {versions}\n")
