"""The published sizes are exact, and config.json is read with the quirks of CodeGemma's own."""

import dataclasses

import pytest

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b, from_hf_dict


def test_published_sizes_have_their_published_parameter_counts() -> None:
    assert codegemma_2b().count_parameters() == 2_506_172_416
    assert codegemma_7b().count_parameters() == 8_537_680_896


def test_shape_survives_the_way_through_config_json() -> None:
    odd = GemmaConfig(300, 48, 2, 6, 3, 10, 77, max_positions=99, rope_theta=500.0, norm_epsilon=1e-5)
    assert from_hf_dict(odd.to_hf_dict()) == odd


def test_codegemma_spells_tanh_gelu_as_gelu() -> None:
    published = codegemma_7b().to_hf_dict() | {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}
    assert from_hf_dict(published) == codegemma_7b()
    legacy = codegemma_2b().to_hf_dict() | {"hidden_act": "gelu", "hidden_activation": None}
    assert from_hf_dict(legacy) == codegemma_2b()


def test_older_config_json_without_rope_parameters_is_read() -> None:
    plain = codegemma_2b().to_hf_dict() | {"rope_theta": 20000.0}
    del plain["rope_parameters"]
    assert from_hf_dict(plain) == dataclasses.replace(codegemma_2b(), rope_theta=20000.0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "gemma2"}, "gemma2"),
        ({"hidden_activation": "silu"}, "silu"),
        ({"attention_bias": True}, "attention_bias"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ({"rope_parameters": "yarn"}, "yarn"),
        ({"hidden_size": "wide"}, "not a whole number"),
        ({"hidden_size": None}, "not a whole number"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "multiple"),
        ({"head_dim": 7}, "odd"),
        ({"num_hidden_layers": 0}, "at least 1"),
    ],
)
def test_what_is_not_gemma_1_is_refused_by_name(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        from_hf_dict(codegemma_2b().to_hf_dict() | change)


def test_missing_sizes_are_listed() -> None:
    plain = codegemma_2b().to_hf_dict()
    del plain["hidden_size"], plain["head_dim"]
    with pytest.raises(InputError, match="hidden_size, head_dim"):
        from_hf_dict(plain)
