"""The loss is told apart by what its tokens count under, and nothing is lost or counted twice."""

import dataclasses

import jax
import numpy as np
import pytest
from tests.train.test_step import CONFIG, draw_batch

from codegemma.feed.groups import GROUPS, add_up_by_name, number_group
from codegemma.model.gemma import init_params
from codegemma.records import InfillMode
from codegemma.train.meters import Meters
from codegemma.train.objective import GROUP_METRICS, compute_loss, put_batch

METRICS = {"loss": 2.0, "cross_entropy": 2.0, "plain_cross_entropy": 1.0, "gradient_norm": 0.5, "learning_rate": 0.1}


def test_groups_add_up_to_the_loss_of_the_predicted_tokens() -> None:
    batch = draw_batch()
    groups = np.random.default_rng(0).integers(0, len(GROUPS), batch.ids.shape).astype(np.int32)
    params = init_params(CONFIG, jax.random.key(0))
    _, plain = compute_loss(params, CONFIG, put_batch(batch))
    _, told = compute_loss(params, CONFIG, put_batch(dataclasses.replace(batch, groups=groups)), chunk_tokens=40)
    surprise, tokens = (np.asarray(told[name], np.float64) for name in GROUP_METRICS)
    assert tokens.sum() == plain["predicted_tokens"]
    assert surprise.sum() / tokens.sum() == pytest.approx(float(plain["plain_cross_entropy"]), rel=1e-5)
    # The first token of a row is never predicted, so what it counts under is not counted.
    predicted = np.where(batch.loss_weights[:, 1:] > 0, groups[:, 1:], -1)
    assert tokens.tolist() == [float((predicted == number).sum()) for number in range(len(GROUPS))]


def test_line_tells_each_facet_by_itself_and_begins_anew() -> None:
    surprise, tokens = [0.0] * len(GROUPS), [0.0] * len(GROUPS)
    psm, whole = number_group("code", "python", InfillMode.PSM), number_group("text", "markdown", None)
    surprise[psm], tokens[psm], surprise[whole], tokens[whole] = 6.0, 3.0, 4.0, 1.0
    meters = Meters()
    for _ in range(2):
        meters.add(METRICS, tokens=[4], seconds=1.0, wait_s=0.0)
        meters.add_groups(surprise, tokens)
    line = meters.take_line(2, METRICS, epoch=0)
    assert {name: value for name, value in line.items() if name.startswith("loss_by_")} == {
        "loss_by_language/markdown": 4.0, "loss_by_language/python": 2.0, "loss_by_mode/psm": 2.0,
        "loss_by_mode/whole": 4.0, "loss_by_source/code": 2.0, "loss_by_source/text": 4.0,
    }  # fmt: skip
    meters.add(METRICS, tokens=[4], seconds=1.0, wait_s=0.0)
    assert not any(name.startswith("loss_by_") for name in meters.take_line(3, METRICS, epoch=0))


def test_every_combination_has_its_own_number() -> None:
    numbers = {number_group(group.source, group.language, None if group.mode == "whole" else InfillMode(group.mode))
               for group in GROUPS}  # fmt: skip
    assert numbers == set(range(len(GROUPS)))
    assert add_up_by_name([0.0] * len(GROUPS), [0] * len(GROUPS)) == {}
