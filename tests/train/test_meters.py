from pathlib import Path

import pytest

from codegemma.train.meters import LineFile, Meters, read_metrics

METRICS = {"loss": 2.0, "cross_entropy": 2.0, "plain_cross_entropy": 1.0, "gradient_norm": 0.5, "learning_rate": 0.1}


def test_line_averages_the_steps_since_the_last_line() -> None:
    meters = Meters()
    meters.add(METRICS | {"loss": 4.0}, tokens=[10], seconds=2.0, wait_s=0.5)
    meters.add(METRICS | {"learning_rate": 0.2}, tokens=[30], seconds=2.0, wait_s=0.0)
    line = meters.take_line(2, METRICS | {"learning_rate": 0.2}, epoch=0)
    assert (line["loss"], line["learning_rate"], line["tokens_per_s"], line["data_wait_s"]) == (3.0, 0.2, 10.0, 0.5)
    assert line["bits_per_token"] == pytest.approx(1.4427, abs=1e-4)
    meters.add(METRICS, tokens=[10], seconds=1.0, wait_s=0.0)
    assert meters.take_line(3, METRICS, epoch=1)["loss"] == 2.0
    assert meters.wait_share == 0.1
    assert meters.tokens == 50


def test_lines_after_the_restored_step_and_a_torn_line_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    lines = LineFile(path, restored_step=2)
    lines.append({"step": 3, "loss": 1.5})
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.5}]


def test_step_that_compiled_does_not_count_for_the_speed() -> None:
    meters = Meters()
    meters.add(METRICS, tokens=[10], seconds=60.0, wait_s=0.0, has_compiled=True)
    meters.add(METRICS, tokens=[10], seconds=1.0, wait_s=0.0)
    assert meters.take_line(2, METRICS, epoch=0)["tokens_per_s"] == 10.0
    assert (meters.tokens, meters.seconds) == (20, 61.0)
