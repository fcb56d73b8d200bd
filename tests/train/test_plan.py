import math

import pytest

from codegemma.recipe import ChoiceError
from codegemma.train.plan import Throughput, check_length, estimate, fix_total_steps

from .run_job import CHOICES, CONFIG


def test_estimate_is_measured_on_this_machine() -> None:
    found = estimate(CONFIG, CHOICES, minutes=None)
    assert found.parameters == CONFIG.count_parameters()
    assert found.steps == CHOICES.steps
    assert found.tokens == 12 * CHOICES.batch_rows * CHOICES.row_tokens
    assert found.device == "cpu"
    assert found.threads >= 1
    assert 50e6 < found.memory_bytes < 50e9
    assert found.seconds > 0


def test_steps_fill_the_minutes_and_never_vanish() -> None:
    measured = Throughput(seconds_per_step=0.5, compile_s=10.0, memory_bytes=0)
    steps = fix_total_steps(10.0, measured, spent_s=20.0)
    assert 0.9 * 570 < steps * 0.5 <= 570
    assert fix_total_steps(0.01, measured, spent_s=20.0) == 1


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.inf, math.nan])
def test_minutes_that_are_no_length_are_refused(minutes: float) -> None:
    with pytest.raises(ChoiceError, match="above 0"):
        check_length(CHOICES, minutes)
