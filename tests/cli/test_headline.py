"""The last lines of an adaptation say what the figures say, no more."""

import pytest

from codegemma.cli.headline import draw_bar, make_headline
from codegemma.evals.measure import Measurement
from codegemma.evals.statistics import Interval
from codegemma.records import InfillMode


def rate(system: str, mode: InfillMode | None, mean: float, low: float | None, high: float | None) -> Measurement:
    return Measurement(system, "rest_of_line", mode, "exact_match", "share", Interval(mean, low, high, 500, 91))


MEASURED = [
    rate("base", InfillMode.SPM1, 0.09, 0.06, 0.12),
    rate("adapted", InfillMode.PSM, 0.04, 0.02, 0.06),
    rate("adapted", InfillMode.SPM1, 0.13, 0.1, 0.16),
    rate("nearest line", None, 0.112, 0.08, 0.15),
]


def spell(gains: list[Measurement]) -> list[str]:
    return [line.plain for line in make_headline(MEASURED, gains, "adapted")]


def test_the_best_mode_is_shown_beside_rivals_of_that_mode_and_those_without():
    title, *bars = spell([])
    assert "500 holes in 91 files" in title
    assert "SPM1" in title
    assert [bar.split()[0] for bar in bars] == ["adapted", "base", "nearest"]
    lengths = [bar.count("█") for bar in bars]
    assert lengths[0] == 40
    assert lengths[0] > lengths[2] > lengths[1]
    assert bars[0].endswith("13.0%")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.012, 0.07, "better"),
        (-0.07, -0.01, "worse"),
        (-0.01, 0.02, "not shown either way"),
        (0.0, 0.02, "not shown either way"),
        (None, None, "too few files"),
    ],
)
def test_a_gain_is_said_only_where_the_interval_leaves_zero_out(low: float | None, high: float | None, verdict: str):
    told = spell([rate("adapted - base", InfillMode.SPM1, 0.04, low, high)])[-1]
    assert verdict in told
    assert "+4.0 points, adapted - base" in told


def test_gains_of_other_modes_are_left_to_the_table():
    assert len(spell([rate("adapted - base", InfillMode.PSM, 0.04, 0.01, 0.07)])) == len(spell([]))


def test_nothing_is_said_where_exact_match_was_not_measured():
    assert make_headline([m for m in MEASURED if m.system != "adapted"], [], "adapted") == []


@pytest.mark.parametrize(("share", "drawn"), [(0, ""), (1, "█" * 40), (0.5, "█" * 20), (1 / 320, "▏"), (7, "█" * 40)])
def test_a_bar_is_exact_to_an_eighth(share: float, drawn: str):
    assert draw_bar(share) == drawn
