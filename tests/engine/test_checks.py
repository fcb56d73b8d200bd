import pytest

from codegemma.engine.checks import check_sampling
from codegemma.errors import InputError
from codegemma.records import Sampling


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"min_p": 1.1},
        {"repetition_penalty": 0.0},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
        {"penalized_tokens": -1},
        {"logit_bias": ((4, 1.0),)},
        {"logit_bias": ((3, float("nan")),)},
    ],
)
def test_value_out_of_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        check_sampling(Sampling(**wrong), vocab_size=4)  # type: ignore[arg-type]
