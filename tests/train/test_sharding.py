"""Eight devices compute what one computes, and what a mesh cannot divide is refused before anything is compiled."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.execution import Execution
from codegemma.model.kernels import attend, choose_attention
from codegemma.model.sharding import check_mesh, fill_in_mesh, make_mesh, specify_by_hand, specify_params

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize(
    ("kv_heads", "tensor", "remat", "chunk", "lora"),
    [
        (1, 1, "none", 4096, "none"),
        (4, 1, "qkvo", 64, "none"),
        (1, 2, "full", 64, "none"),
        (4, 2, "none", 4096, "none"),
        (4, 2, "qkvo", 64, "stored"),
        (1, 1, "full", 4096, "int4"),
    ],
)
def test_eight_devices_train_as_one(kv_heads: int, tensor: int, remat: str, chunk: int, lora: str) -> None:
    command = [sys.executable, "-m", "tests.train.eight_devices", str(kv_heads), str(tensor), remat, str(chunk), lora]
    done = subprocess.run(command, env=os.environ | EIGHT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    worst = json.loads(done.stdout.splitlines()[-1])
    assert worst.pop("devices") == 8
    assert max(worst["loss"], worst["gradient_norm"]) < 1e-5
    assert max(worst.values()) < 2e-3, worst


@pytest.mark.parametrize("config", [codegemma_2b(), codegemma_7b()])
def test_every_large_parameter_is_divided_and_by_hand_only_over_fsdp(config: GemmaConfig) -> None:
    shapes = config.shape_params()
    by_hand = specify_by_hand(config, {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes.items()})
    assert by_hand is not None
    assert specify_params(config).keys() == shapes.keys() == by_hand.keys()
    for name, spec in specify_params(config).items():
        assert len(spec) <= len(shapes[name])
        assert ("fsdp" in spec) == (not name.endswith("norm"))
        assert set(by_hand[name]) <= {None, "fsdp"}


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 8))
def test_what_is_left_fills_the_mesh(data: int, fsdp: int, tensor: int) -> None:
    devices = data * fsdp * tensor
    assert fill_in_mesh((data, -1, tensor), devices) == (data, fsdp, tensor)
    assert fill_in_mesh((data, fsdp, tensor), devices) == (data, fsdp, tensor)


@pytest.mark.parametrize(
    ("sizes", "devices"),
    [((1, 3, 1), 8), ((-1, -1, 1), 8), ((1, 1, 1), 8), ((3, -1, 1), 8), ((1, -1), 8), ((0, -1, 1), 8)],
)
def test_mesh_of_another_size_is_refused(sizes: tuple[int, ...], devices: int) -> None:
    with pytest.raises(InputError, match=r"does not hold 8 devices; choose sizes whose product is 8"):
        fill_in_mesh(sizes, devices)


@pytest.mark.parametrize(
    ("mesh", "rows", "said"),
    [
        ({"data": 1, "fsdp": 3, "tensor": 1}, 9, "2048 embed_dim cannot be divided over 3 devices"),
        ({"data": 2, "fsdp": 4, "tensor": 1}, 12, "12 rows of a batch cannot be divided over 8 devices"),
        ({"data": 1, "fsdp": 1, "tensor": 16}, 1, "8 num_heads cannot be divided over 16 devices"),
    ],
)
def test_mesh_that_does_not_divide_is_refused_with_what_would(mesh: dict[str, int], rows: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_mesh(mesh, codegemma_2b(), rows)


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 1), (2, 2)])
def test_splash_equals_dense_attention_with_its_gradients(heads: int, kv_heads: int) -> None:
    tokens, width = 256, 128
    keys = jax.random.split(jax.random.key(0), 4)
    q, slope = (jax.random.normal(keys[n], (1, tokens, heads, width)) * width**-0.5 for n in (0, 3))
    k, v = (jax.random.normal(keys[n], (1, tokens, kv_heads, width)) for n in (1, 2))
    segments = jnp.asarray(np.repeat([[1, 2, 3]], [100, 60, 96], axis=1), jnp.int32)

    def differentiate(execution: Execution) -> list[jax.Array]:
        mixed, pull = jax.vjp(lambda q, k, v: attend(q, k, v, segments, execution), q, k, v)
        return [mixed, *pull(slope)]

    dense = differentiate(Execution())
    splash = differentiate(Execution(attention="splash", interpret=True))
    for ours, expected in zip(splash, dense, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5 * float(jnp.max(jnp.abs(expected))) + 1e-6, rtol=0)


@pytest.mark.parametrize("tokens", [128, 640, 1152, 1536, 2560, 8192])
def test_splash_takes_every_row_that_it_is_chosen_for(tokens: int) -> None:
    q, k = (jax.ShapeDtypeStruct((1, tokens, heads, 128), jnp.float32) for heads in (2, 1))
    segments = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    execution = Execution(attention="splash", interpret=True)
    slope = jax.grad(lambda q, k, segments: jnp.sum(attend(q, k, k, segments, execution)))
    assert jax.eval_shape(slope, q, k, segments).shape == q.shape


def attend_densely(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
    groups = q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, groups, axis=2) for x in (k, v))
    tokens = q.shape[1]
    visible = jnp.tril(jnp.ones((tokens, tokens), bool)) & (segments[:, :, None] == segments[:, None])
    scores = jnp.where(visible[:, None], jnp.einsum("bqha,bsha->bhqs", q, k), -jnp.inf)
    return jnp.einsum("bhqs,bsha->bqha", jax.nn.softmax(scores), v)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's attention runs on Nvidia's chips alone")
@pytest.mark.parametrize("width", [64, 256])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 1), (4, 4)])
def test_cudnn_equals_dense_attention_with_its_gradients(heads: int, kv_heads: int, width: int) -> None:
    if choose_attention(dataclasses.replace(codegemma_2b(), head_dim=width), jax.devices()[0], 256) != "cudnn":
        pytest.skip(f"no cuDNN kernel for heads of {width} on {jax.devices()[0].device_kind}")
    keys = jax.random.split(jax.random.key(0), 4)
    q, slope = (jax.random.normal(keys[n], (2, 256, heads, width)) * width**-0.5 for n in (0, 3))
    k, v = (jax.random.normal(keys[n], (2, 256, kv_heads, width)) for n in (1, 2))
    q, k, v, slope = (x.astype(jnp.bfloat16).astype(jnp.float32) for x in (q, k, v, slope))
    segments = jnp.asarray(np.repeat([[1, 2, 3], [1, 2, 3]], [100, 60, 96], axis=1), jnp.int32)
    cudnn = Execution(attention="cudnn", compute_dtype=jnp.bfloat16)
    ours, pull = jax.vjp(lambda q, k, v: attend(q, k, v, segments, cudnn), q, k, v)
    with jax.default_matmul_precision("highest"):
        dense, pull_densely = jax.vjp(lambda q, k, v: attend_densely(q, k, v, segments), q, k, v)
        wanted = pull_densely(slope)
    for found, expected in zip([ours, *pull(slope)], [dense, *wanted], strict=True):
        scale = float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(found, expected, atol=3e-2 * scale, rtol=0)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What laying out looks at."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "cpu"
    device_kind: str = "stand-in"


def test_slices_hold_copies_so_that_only_gradients_cross_the_network_between_them() -> None:
    chips = [Chip(n, slice_index=n // 4, process_index=n // 2) for n in range(8)]
    mesh = make_mesh((2, -1, 1), chips)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    assert [[chip.slice_index for chip in copy.flat] for copy in mesh.devices] == [[0] * 4, [1] * 4]
    with pytest.raises(InputError, match="2 slices need a data axis that they divide, got 1"):
        make_mesh((1, -1, 1), chips)
