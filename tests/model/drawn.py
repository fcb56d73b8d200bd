"""Models of random weights in the formats that others write, for the tests of reading them."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from codegemma.model.config import GemmaConfig
from codegemma.model.formats.huggingface import name_tensor, shape_in_file, to_theirs
from codegemma.model.formats.parts import DTYPES, Part, Weights, list_parts, shape_part
from codegemma.model.formats.table import FORMATS
from codegemma.model.lineage import Lineage
from codegemma.model.write import write_model

MQA = GemmaConfig(512, 64, 3, num_heads=4, num_kv_heads=1, head_dim=32, mlp_dim=96, max_positions=128)
GROUPED = GemmaConfig(300, 64, 2, num_heads=4, num_kv_heads=2, head_dim=16, mlp_dim=96)
MHA = GemmaConfig(512, 48, 2, num_heads=4, num_kv_heads=4, head_dim=32, mlp_dim=96, rope_theta=5000.0)

configs = st.builds(
    lambda vocab, width, layers, kv, group, half, mlp: GemmaConfig(
        vocab, width, layers, num_heads=kv * group, num_kv_heads=kv, head_dim=2 * half, mlp_dim=mlp
    ),
    st.integers(1, 300), st.integers(1, 40), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3),
    st.integers(1, 8), st.integers(1, 40),
)  # fmt: skip


def draw_weights(config: GemmaConfig, dtype: str = "bf16", *, is_finite: bool = False, seed: int = 0) -> Weights:
    """Draw every bit at random, so that only a copy of bits passes; or numbers, where they are to be rounded."""
    parts = {}
    for part in list_parts(config):
        shape = shape_part(config, part)
        size = DTYPES[dtype].itemsize * int(np.prod(shape))
        key = [seed, *part.name.encode(), *part.at]
        draw = np.random.default_rng(key)
        numbers = draw.standard_normal(shape).astype(DTYPES[dtype])
        parts[part] = numbers if is_finite else np.frombuffer(draw.bytes(size), DTYPES[dtype]).reshape(shape)
    return Weights(Path("drawn"), "drawn", config, DTYPES[dtype], lambda part, rows: parts[part][rows])


def write_drawn(
    folder: Path,
    to: str,
    config: GemmaConfig,
    dtype: str = "bf16",
    *,
    is_finite: bool = False,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Weights:
    """Write drawn weights and return them."""
    drawn = draw_weights(config, dtype, is_finite=is_finite)
    write = FORMATS[to].write
    assert write is not None
    write_model(folder, drawn, write, DTYPES[dtype], Lineage(None), files)
    return drawn


def assert_same_bits(one: Weights, other: Weights) -> None:
    """Compare all parts, bit for bit."""
    assert one.config == other.config
    assert one.dtype == other.dtype
    for part in list_parts(one.config):
        mine, theirs = (np.concatenate([block for _, block in w.read_blocks(part)]) for w in (one, other))
        assert mine.shape == theirs.shape == shape_part(one.config, part)
        assert mine.tobytes() == theirs.tobytes(), part


def spell_google(weights: Weights) -> dict[str, Any]:
    """Spell weights as torch tensors in the layout of google/gemma_pytorch: queries, keys and values in one tensor."""
    torch = pytest.importorskip("torch")
    config = weights.config

    def tensor(*parts: Part) -> Any:
        views = [to_theirs(p, weights.read(p, slice(None))).reshape(shape_in_file(config, p)) for p in parts]
        joined = np.ascontiguousarray(np.concatenate(views))
        bits = {2: np.int16, 4: np.int32}[joined.dtype.itemsize]
        kinds = {DTYPES["bf16"]: torch.bfloat16, DTYPES["f16"]: torch.float16, DTYPES["f32"]: torch.float32}
        return torch.from_numpy(joined.view(bits)).view(kinds[joined.dtype])

    spelled = {"embedder.weight": tensor(Part("emb")), "model.norm.weight": tensor(Part("final_norm"))}
    for part in list_parts(config):
        if part.name not in ("emb", "final_norm", "q", "kv"):
            spelled[name_tensor(part)] = tensor(part)
    for layer in range(config.num_layers):
        qkv = tensor(Part("q", (layer,)), Part("kv", (layer, 0)), Part("kv", (layer, 1)))
        spelled[f"model.layers.{layer}.self_attn.qkv_proj.weight"] = qkv
    spelled["freqs_cis"] = torch.polar(torch.ones(4), torch.arange(4.0))  # a buffer that real ones carry
    return spelled
