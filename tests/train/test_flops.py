"""Operations and collectives are counted as often as they happen."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.interpreters.partial_eval import dce_jaxpr

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.gemma import init_params
from codegemma.recipes import load_recipe
from codegemma.train.chips import CHIPS, read_topology
from codegemma.train.choices import LoraChoices, TrainChoices
from codegemma.train.collectives import add_up_by_kind, list_collectives
from codegemma.train.flops import _count, count_flops, count_model
from codegemma.train.objective import Rows, put_batch
from codegemma.train.step import describe_state, describe_trained, init_state, write_train_step
from codegemma.train.usage import describe_usage

PROGRAM = """HloModule jit_run

%body (p: (s32[], f32[64])) -> (s32[], f32[64]) {
  %gather = bf16[4,1024]{1,0:T(8,128)} all-gather(%x), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={1}
}
}stray brace of a kernel
  %again = bf16[4,1024]{1,0:T(8,128)S(1)} all-gather(%x), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={1}

%condition (p: (s32[], f32[64])) -> pred[] {
  %limit = s32[] constant(18)
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %add = f32[] add(%a, %b)
}

ENTRY %main (a: f32[64]) -> f32[64] {
  %loop = (s32[], f32[64]) while(%start), condition=%condition, body=%body
  %reduce = f32[256,4]{1,0} all-reduce(%y), channel_id=9, replica_groups=[2,8]<=[16], to_apply=%sum
}
"""


def test_collective_in_a_loop_counts_as_often_as_it_turns_and_once_a_channel() -> None:
    reduce, gather = sorted(list_collectives(PROGRAM), key=lambda c: c.kind, reverse=False)[::-1]
    if reduce.kind != "all-reduce":
        reduce, gather = gather, reduce
    assert (gather.kind, gather.array_bytes, gather.chips, gather.times) == ("all-gather", 8192, 4, 18)
    assert gather.moved_bytes == 0.75 * 8192 * 18
    assert (reduce.kind, reduce.array_bytes, reduce.chips, reduce.times) == ("all-reduce", 4096, 8, 1)
    assert add_up_by_kind([reduce, gather]) == {"all-reduce": 2 * 7 / 8 * 4096, "all-gather": 0.75 * 8192 * 18}


def test_what_a_chip_scatters_is_more_than_it_keeps() -> None:
    """The program names the part that is kept, or beside it, where the collective is asynchronous, the whole."""
    head = "ENTRY %main (p: f32[1024]) -> f32[256] {\n"
    rest = "(%p), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add\n}\n"
    for line in ("  %r = f32[256]{0} reduce-scatter", "  %r = (f32[1024]{0}, f32[256]{0}) reduce-scatter-start"):
        (found,) = list_collectives(head + line + rest)
        assert (found.array_bytes, found.moved_bytes) == (4096, 0.75 * 4096)


def test_products_in_loops_and_gradients_are_counted() -> None:
    weights, x = jnp.zeros((5, 4, 4)), jnp.zeros((3, 4))

    def run(weights: jax.Array) -> jax.Array:
        return jnp.sum(lax.scan(lambda x, w: (x @ w, None), x, weights)[0])

    forward = 5 * 2 * 3 * 4 * 4
    assert count_flops(run, weights) == forward
    assert count_flops(jax.grad(run), weights) == 3 * forward


def test_step_of_the_published_model_needs_what_the_study_counted() -> None:
    assert count_model(codegemma_2b(), 8192) == pytest.approx(1.685e10, rel=1e-3)
    assert count_model(codegemma_7b(), 8192) == pytest.approx(5.687e10, rel=1e-3)


def test_traced_gradient_needs_six_operations_for_each_parameter_and_token() -> None:
    from tests.train.test_step import CONFIG, draw_batch

    choices = TrainChoices(batch_rows=4, row_tokens=32, compute_dtype="float32")
    state = init_state(init_params(CONFIG, jax.random.key(0)), choices, 10)
    flops = count_flops(write_train_step(CONFIG, choices, 10), state, put_batch(draw_batch()))
    products = sum(value.size for name, value in state.params.items() if "norm" not in name)
    least = 6 * products * 4 * 32
    assert least <= flops <= 1.3 * least  # attention besides


@pytest.mark.parametrize("rank", [None, 4])
def test_model_is_said_to_need_what_the_step_computes_also_where_adapters_alone_are_trained(rank: int | None) -> None:
    config = GemmaConfig(512, 256, 2, num_heads=4, num_kv_heads=1, head_dim=64, mlp_dim=1024)
    choices = TrainChoices(batch_rows=2, row_tokens=64, compute_dtype="float32", lora=LoraChoices(rank=rank))
    state = describe_state(describe_trained(config, choices.lora), config, choices, 10, None)
    described: Any = [jax.ShapeDtypeStruct((2, 64), dtype) for dtype in (jnp.int32, jnp.float32)]
    ids, weights = described
    shapes = config.shape_params().items() if rank else ()
    frozen = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes} or None
    step = jax.make_jaxpr(write_train_step(config, choices, 10))(state, Rows(ids, weights, ids, ids), frozen).jaxpr
    # As the compiler, which computes no gradient that nobody wants.
    needed, _ = dce_jaxpr(step, [True] * len(step.outvars))
    told = describe_usage(config, choices, 1).token_flops_full
    assert _count(needed) / (2 * 64) == pytest.approx(told, rel=0.03)


@pytest.mark.parametrize("name", CHIPS)
def test_topology_is_read(name: str) -> None:
    shape = "2x2x4" if name in ("v4", "v5p") else "4x4"  # chips of a torus in three dimensions, or in two
    topology = read_topology(f"2*{name}:{shape}")
    assert (topology.chips, topology.slices, topology.chip.name) == (32, 2, name)


@pytest.mark.parametrize("text", ["v5e", "v5e:", "v9:4x4", "v5e:4x", "-1*v5e:4", ""])
def test_unknown_topology_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(InputError, match=r"wanted CHIP:SHAPE|known: v4, v5e"):
        read_topology(text)


@pytest.mark.parametrize(
    ("name", "tokens"), [("codegemma_2b", 500e9), ("codegemma_2b_1_1", 1e12), ("codegemma_7b", 500e9)]
)
def test_recipe_of_the_card_trains_on_the_published_number_of_tokens(name: str, tokens: float) -> None:
    train = load_recipe(name).train
    assert train.steps is not None
    assert train.steps * train.batch_rows * train.row_tokens == pytest.approx(tokens, rel=1e-4)
