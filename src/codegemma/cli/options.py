"""Options that several verbs share, spelled once.

**In**: strings of the command line.
**Out**: click decorators; a recipe with its overrides applied.
**Not**: options of a single verb.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from codegemma.places import is_remote, parse_local, parse_place

if TYPE_CHECKING:
    from codegemma.corpus.inputs import Input
    from codegemma.recipes import Recipe

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    show_default="all cores",
    help="Processes for reading and parsing; the result does not depend on it.",
)
runner_option = click.option(
    "--runner",
    "runner_text",
    default="local",
    show_default=True,
    metavar="NAME[:OPTION=VALUE,...]",
    help="Who runs the steps: local, ray or slurm, such as slurm:partition=cpu,workers=64,folder=/shared/runs.",
)


class _PlaceType(click.Path):
    """A path for click, which completes it in a shell, read by a function of ours."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        super().__init__()
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """Read the text."""
        return self._parse(str(value))


def _parse_input(text: str) -> "Input":
    from codegemma.corpus.inputs import parse_input

    return parse_input(text)


# An argument that may be an address in a store, one that may not, and one that may say of what kind its files are.
PLACE, LOCAL, INPUT = _PlaceType(parse_place), _PlaceType(parse_local), _PlaceType(_parse_input)


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one choice of the recipe, such as train.peak_learning_rate=1e-3; may be repeated.",
)


def recipe_options(function: F) -> F:
    """Add `--recipe` and `--set`, passed on as `recipe` and `settings`."""
    return click.option(
        "--recipe", default="tiny", show_default=True, help="A recipe's name, or the path of your own .py file."
    )(settings_option(function))


def _parse_cluster(text: str) -> Any:
    from codegemma.train.hosts import Cluster

    try:
        return Cluster.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def cluster_options(function: F) -> F:
    """Add what several processes that train together need: `processes`, `cluster`, `preempted_code`, `hang_s`."""
    options = (
        click.option(
            "--processes",
            type=click.IntRange(min=1),
            help="Train with this many processes on this machine; when one dies or hangs, all are started again.",
        ),
        click.option(
            "--cluster",
            type=_PlaceType(_parse_cluster),
            metavar="auto|HOST:PORT,PROCESSES,PROCESS",
            help="Be one of several processes: auto finds the others under Slurm, on TPU pods, in Kubernetes or MPI.",
        ),
        click.option(
            "--preempted-code",
            type=click.IntRange(0, 255),
            default=0,
            show_default=True,
            help="Exit code after SIGTERM, when the run is saved; Kubernetes takes 0 for the end of the job.",
        ),
        click.option(
            "--hang-s",
            type=click.FloatRange(min=0, min_open=True),
            default=900.0,
            show_default=True,
            help="With --processes: seconds without a step, compilation included, that count as hanging.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def replay_options(function: F) -> F:
    """Add the argument `RUN`, `--data` and `--tokenizer`, which tell whose rows are recomputed."""
    function = click.option("--tokenizer", type=LOCAL, help="The run's tokenizer.json, where RUN does not hold it.")(
        function
    )
    function = click.option("--data", type=PLACE, help="The run's data, a folder or an address [default: RUN/data].")(
        function
    )
    return click.argument("run", required=False, type=LOCAL)(function)


def check_run(run: Path | None, data: Path | None) -> None:
    """Refuse data at an address without a run: no run lies around it."""
    if run is None and data is not None and is_remote(data):
        raise click.UsageError(f"which run read {data}? Name the folder of the run, before --data")


def choose_recipe(name: str, settings: Sequence[str]) -> "Recipe":
    """Load a recipe and apply `--set` overrides.

    Raises:
        ChoiceError: unknown recipe or choice.
    """
    from codegemma.recipe import override
    from codegemma.recipes import load_recipe

    return override(load_recipe(name), settings)


mode_option = click.option(
    "--mode",
    type=click.Choice(["psm", "spm", "spm1"]),
    help="Order of the parts [default: what suits the model best].",
)
# The names are those of `engine.choose.ENGINES`, which help must not load.
engine_option = click.option(
    "--engine",
    "engine_name",
    type=click.Choice(["auto", "jax", "llama.cpp"]),
    default="auto",
    show_default=True,
    help="Who computes: JAX where there is an accelerator or the model is small, else llama.cpp.",
)
