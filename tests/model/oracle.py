"""Transformers' Gemma with random weights: the independent reference of the parity tests."""

from typing import Any

import numpy as np
import pytest

from codegemma.model.config import GemmaConfig

SHAPES = {
    "mqa": GemmaConfig(512, 64, 3, num_heads=4, num_kv_heads=1, head_dim=32, mlp_dim=96, max_positions=128),
    "grouped": GemmaConfig(512, 64, 2, num_heads=4, num_kv_heads=2, head_dim=16, mlp_dim=96, max_positions=128),
    "mha_wide": GemmaConfig(512, 48, 2, num_heads=4, num_kv_heads=4, head_dim=32, mlp_dim=96, max_positions=128),
}


def make_oracle(config: GemmaConfig, seed: int = 0) -> Any:
    """Build a `GemmaForCausalLM` with random weights, norms included; skip where torch is not installed."""
    torch = pytest.importorskip("torch", reason="the independent reference needs torch: make setup-dev")
    transformers = pytest.importorskip("transformers", reason="the reference needs transformers: make setup-dev")
    torch.manual_seed(seed)
    plain = {k: v for k, v in config.to_hf_dict().items() if k not in ("architectures", "model_type")}
    model = transformers.GemmaForCausalLM(transformers.GemmaConfig(**plain, attn_implementation="eager"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3 if "norm" in name else parameter.shape[-1] ** -0.5)
    return model.eval()


def compute_oracle_logits(model: Any, ids: np.ndarray) -> np.ndarray:
    """Run the reference on whole rows."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(ids.astype(np.int64))).logits.numpy()
    return logits
