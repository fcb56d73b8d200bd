"""The shape of a Gemma 1 model, and how Hugging Face spells it in `config.json`.

**In**: numbers, or the dictionary of a `config.json`.
**Out**: a frozen `GemmaConfig`; the published CodeGemma sizes; parameter counts.
**Not**: weights, and not Gemma 2 or later (soft caps, local attention, post norms): those are refused.
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codegemma.errors import InputError
from codegemma.text.control_tokens import BOS_ID, EOS_ID, PAD_ID

CONFIG_NAME = "config.json"
MODEL_TYPE = "gemma"
# Gemma's feed-forward gate is the tanh approximation of GELU. CodeGemma's own config.json says "gelu", which every
# reader takes as the approximation too (transformers warns and maps it).
_TANH_GELU_SPELLINGS = frozenset({"gelu", "gelu_pytorch_tanh"})
_HF_INTEGERS = {
    "vocab_size": "vocab_size",
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_dim": "intermediate_size",
    "max_positions": "max_position_embeddings",
}


@dataclass(frozen=True, slots=True)
class GemmaConfig:
    """Sizes of a Gemma 1 network. `num_kv_heads` 1 is multi-query attention (2B), `num_heads` multi-head (7B).

    >>> GemmaConfig(8, 4, 1, num_heads=3, num_kv_heads=2, head_dim=2, mlp_dim=8)
    Traceback (most recent call last):
    ...
    codegemma.errors.InputError: num_heads=3 is not a multiple of num_kv_heads=2: choose a number of heads that is
    """

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    max_positions: int = 8192
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse sizes that no Gemma can have."""
        for name in _HF_INTEGERS:
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: a model needs at least 1")
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads={self.num_kv_heads}: "
                "choose a number of heads that is"
            )
        if self.head_dim % 2:
            raise InputError(f"head_dim={self.head_dim} is odd: rotary positions turn pairs, choose an even width")

    def count_parameters(self) -> int:
        """Count the trained numbers; the embedding counts once, because the output uses it too.

        >>> codegemma_2b().count_parameters()
        2506172416
        """
        return sum(math.prod(shape) for shape in self.shape_params().values())

    def shape_params(self) -> dict[str, tuple[int, ...]]:
        """Tell the shape of every parameter: stacked over layers, the layer axis first."""
        n, d, f = self.num_layers, self.embed_dim, self.mlp_dim
        h, k, a = self.num_heads, self.num_kv_heads, self.head_dim
        return {
            "emb": (self.vocab_size, d),
            "attn_norm": (n, d),
            "q": (n, d, h, a),
            "kv": (n, 2, d, k, a),
            "o": (n, h, a, d),
            "ffw_norm": (n, d),
            "gate_up": (n, 2, d, f),
            "down": (n, f, d),
            "final_norm": (d,),
        }

    def to_hf_dict(self) -> dict[str, Any]:
        """Spell the shape as a `config.json` that transformers' `GemmaForCausalLM` loads."""
        sizes = {hf_name: getattr(self, name) for name, hf_name in _HF_INTEGERS.items()}
        return {
            "architectures": ["GemmaForCausalLM"],
            "model_type": MODEL_TYPE,
            **sizes,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "tie_word_embeddings": True,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "pad_token_id": PAD_ID,
        }


def codegemma_2b() -> GemmaConfig:
    """Return the shape of google/codegemma-2b and codegemma-1.1-2b: 2,506,172,416 parameters."""
    return GemmaConfig(256_000, 2048, 18, num_heads=8, num_kv_heads=1, head_dim=256, mlp_dim=16_384)


def codegemma_7b() -> GemmaConfig:
    """Return the shape of google/codegemma-7b and its instruction-tuned siblings: 8,537,680,896 parameters."""
    return GemmaConfig(256_000, 3072, 28, num_heads=16, num_kv_heads=16, head_dim=256, mlp_dim=24_576)


def from_hf_dict(config: Mapping[str, Any]) -> GemmaConfig:
    """Read the shape from the dictionary of a `config.json`.

    >>> from_hf_dict(codegemma_7b().to_hf_dict()) == codegemma_7b()
    True

    Raises:
        InputError: not a Gemma 1, a size missing or not a number, or an option that Gemma 1 does not have.
    """
    _refuse_foreign(config)
    missing = [hf_name for hf_name in _HF_INTEGERS.values() if hf_name not in config]
    if missing:
        raise InputError(f"config.json lacks {', '.join(missing)}: take the config.json of a Gemma 1 model")
    rope = config.get("rope_parameters") or {}
    try:
        sizes = {name: operator.index(config[hf_name]) for name, hf_name in _HF_INTEGERS.items()}
        theta = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
        epsilon = float(config.get("rms_norm_eps", 1e-6))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"config.json holds a size that is not a whole number ({error}); "
            "take the config.json that came with the weights"
        ) from error
    if not (0 < epsilon < math.inf and 0 < theta < math.inf):
        raise InputError(f"config.json has rms_norm_eps {epsilon} and rope_theta {theta}; wanted numbers above 0")
    return GemmaConfig(**sizes, rope_theta=theta, norm_epsilon=epsilon)


def _refuse_foreign(config: Mapping[str, Any]) -> None:
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE:
        raise InputError(f"config.json has model_type {model_type!r}; wanted 'gemma' (Gemma 1 or CodeGemma)")
    activation = config.get("hidden_activation") or config.get("hidden_act") or "gelu"
    if activation not in _TANH_GELU_SPELLINGS:
        raise InputError(f"config.json has hidden_activation {activation!r}; Gemma 1 uses 'gelu_pytorch_tanh'")
    if config.get("attention_bias"):
        raise InputError("config.json has attention_bias true; Gemma 1 has no biases")
    if not config.get("tie_word_embeddings", True):
        raise InputError("config.json has tie_word_embeddings false; Gemma 1 shares the embedding with the output")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, Mapping) else rope
    if rope_type != "default":
        raise InputError(f"config.json scales positions ({rope_type!r}); Gemma 1 uses plain rotary positions")
