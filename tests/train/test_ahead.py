"""The real step compiles for a TPU that is not here, and is planned for GPUs by formula; what cannot be is refused."""

import dataclasses
import json
import os
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from codegemma.cli.plan import command
from codegemma.errors import InputError
from codegemma.model.config import codegemma_2b, codegemma_7b
from codegemma.recipes import load_recipe
from codegemma.train import ahead
from codegemma.train.ahead import Misfit, Plan, find_largest_batch, plan_step
from codegemma.train.chips import SHAPES, read_topology
from codegemma.train.collectives import Collective
from codegemma.train.estimate import estimate_memory

GIB = 2**30
needs_libtpu = pytest.mark.skipif(
    util.find_spec("libtpu") is None, reason='the TPU compiler is not installed: pip install "codegemma[tpu]"'
)
LIST_DEVICES = """
from codegemma.train.ahead import list_devices
from codegemma.train.chips import read_topology
print(len(list_devices(read_topology("2*v5e:4x4"))))
"""


def run_plan(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "codegemma", "plan", *arguments, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@needs_libtpu
def test_two_layers_of_the_real_step_compile_for_a_slice_beside_another_process() -> None:
    compiling = run_plan("--model", "2b", "--layers", "2", "--row-tokens", "1024", "--topology", "v5e:2x2")
    other = subprocess.run([sys.executable, "-c", LIST_DEVICES], env=os.environ | {"JAX_PLATFORMS": "cpu"},
                           capture_output=True, text=True, check=False)  # fmt: skip
    told, errors = compiling.communicate(timeout=900)
    assert other.stdout.strip() == "32", other.stderr[-2000:]
    assert compiling.returncode == 0, errors[-2000:]
    (plan,) = json.loads(told)
    assert (plan["fits"], plan["chips"], plan["attention"]) == (True, 4, "splash")
    config = dataclasses.replace(codegemma_2b(), num_layers=2)
    assert plan["memory"]["parameters"] == pytest.approx(config.count_parameters(), rel=0.01)  # 4 bytes over 4 chips
    assert plan["memory"]["optimizer"] == pytest.approx(2 * plan["memory"]["parameters"], rel=0.01)
    assert plan["memory"]["parameters"] * 3 < plan["peak_bytes"] < 15.75 * GIB
    assert len(plan["program_hash"]) == 12
    assert plan["versions"]["libtpu"] == metadata.version("libtpu")
    check_collectives(plan["collectives"], config.vocab_size)


def check_collectives(collectives: list[dict[str, Any]], vocab_size: int) -> None:
    """Hold that layers are gathered as often as they are used, and that no table of the vocabulary travels whole."""
    assert {2, 1} <= {collective["times"] for collective in collectives}
    assert not [c["shape"] for c in collectives if f"[{vocab_size},2048]" in c["shape"]]
    assert all(c["array_bytes"] < 0.3 * GIB for c in collectives)


def test_missing_compiler_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", find_nothing)
    with pytest.raises(InputError, match=r'pip install "codegemma\[tpu\]"'):
        ahead.list_devices(read_topology("v5e:2x2"))


def test_unknown_slice_is_told_with_those_that_are_known() -> None:
    with pytest.raises(InputError, match=f"known: {', '.join(SHAPES['v5e'])}"):
        read_topology("v5e:3x5")


@pytest.mark.parametrize(("model", "chips", "fits"), [("2b", 1, True), ("7b", 1, False), ("7b", 8, True)])
def test_gpus_are_estimated_from_the_same_counts(model: str, chips: int, fits: bool) -> None:
    recipe = load_recipe(f"codegemma_{model}")
    topology = read_topology(f"h100:{chips}")
    choices = dataclasses.replace(recipe.train, batch_rows=chips, remat="full", loss_chunk_tokens=512)
    result = plan_step(recipe.model, choices, topology)
    assert isinstance(result, Plan if fits else Misfit)
    if isinstance(result, Misfit):
        assert "parameters 31.8" in result.reason
        return
    assert result.is_estimate
    needed = result.model_flops_per_token * result.tokens
    assert 1.15 * needed < result.program_flops < 1.5 * needed  # layers are computed once more
    assert sum(result.memory.values()) == result.peak_bytes
    assert (result.link_s > 0) == (chips > 1)


def test_estimate_is_near_what_the_compiler_says_of_the_same_step() -> None:
    file = Path(__file__).parents[2] / "docs/plan-rows.jsonl"
    if not file.exists():
        pytest.skip("no row of docs/plan.md was compiled yet: make plan-table")
    lines = file.read_text().splitlines()
    rows = [
        row for row in map(json.loads, lines) if row["fits"] and row["rows"] == row["chips"] and row["remat"] == "full"
    ]
    assert rows
    for row in rows:
        recipe = load_recipe(f"codegemma_{row['name'][:2]}")
        chunk = int(row["name"].split()[-1])
        choices = dataclasses.replace(
            recipe.train, batch_rows=row["rows"], remat="full", loss_chunk_tokens=chunk, row_tokens=row["row_tokens"]
        )
        estimate = sum(estimate_memory(recipe.model, choices, row["mesh"]).values())
        assert 0.6 < estimate / row["peak_bytes"] < 1.6, row["name"]


def test_largest_batch_is_found_between_the_last_that_fits_and_the_first_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, topology, tried = load_recipe("codegemma_7b"), read_topology("h100:8"), []
    choices = dataclasses.replace(recipe.train, batch_rows=8, remat="qkvo")

    def plan_and_note(*arguments: Any) -> Plan | Misfit:
        tried.append(arguments[1].batch_rows)
        return plan_step(*arguments)

    monkeypatch.setattr(ahead, "plan_step", plan_and_note)
    best, worst = find_largest_batch(codegemma_7b(), choices, topology)
    assert best is not None
    assert worst is not None
    assert worst.rows == best.rows + 8
    assert len(tried) == len(set(tried)) < 16


def test_command_prints_every_figure_and_refuses_what_does_not_divide() -> None:
    runner = CliRunner()
    shown = runner.invoke(command, ["--model", "2b", "--topology", "h200:8", "--price", "5"], catch_exceptions=False)
    for word in ("memory", "products", "links", "bound", "500 B tokens", "1,000 B tokens", "$", "estimate"):
        assert word in shown.stdout, word
    with pytest.raises(InputError, match="does not hold 8 devices"):
        runner.invoke(command, ["--model", "2b", "--topology", "h200:8", "--mesh", "1,3,1"], catch_exceptions=False)


def test_traffic_of_a_collective_is_by_the_best_algorithm() -> None:
    assert Collective("all-to-all", "f32[4]", 16, 4, 2).moved_bytes == 24
