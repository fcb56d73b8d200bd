"""Figures are averages of what was measured, weighed as their unit says; differences are taken hole by hole."""

import dataclasses

import pytest

from codegemma.errors import InputError
from codegemma.evals.measure import Measurement, compare, measure
from codegemma.evals.scoring import HoleResult
from codegemma.records import InfillMode


def _result(hole: int, system: str = "model", mode: InfillMode | None = InfillMode.PSM) -> HoleResult:
    return HoleResult(f"hole{hole}", "repo", f"file{hole % 3}.py", "line", system, mode, middle_bytes=10)


def _by_metric(measurements: list[Measurement]) -> dict[str, float]:
    return {m.metric: m.interval.mean for m in measurements}


def test_shares_count_holes_and_bits_count_bytes() -> None:
    short = dataclasses.replace(_result(0), exact_match=True, bits=2.0, middle_bytes=1)
    long = dataclasses.replace(_result(1), exact_match=False, bits=7.0, middle_bytes=8)
    assert _by_metric(measure([short, long])) == {"exact_match": 0.5, "bits_per_byte": 1.0}


def test_what_was_not_measured_gives_no_figure_and_no_zero() -> None:
    rated = dataclasses.replace(_result(0), exact_match=True)
    written = dataclasses.replace(_result(1), generated_match=True, edit_similarity=0.5)
    figures = {m.metric: (m.interval.mean, m.interval.items) for m in measure([rated, written, _result(2)])}
    assert figures == {"exact_match": (1.0, 1), "generated_match": (1.0, 1), "edit_similarity": (0.5, 1)}


def test_systems_kinds_and_modes_are_kept_apart() -> None:
    results = [
        dataclasses.replace(_result(0, system, mode), exact_match=hit)
        for system, mode, hit in [
            ("model", InfillMode.PSM, True),
            ("model", InfillMode.SPM, False),
            ("nearest line", None, False),
        ]
    ]
    assert [(m.system, m.mode, m.interval.mean) for m in measure(results)] == [
        ("model", InfillMode.PSM, 1.0),
        ("model", InfillMode.SPM, 0.0),
        ("nearest line", None, 0.0),
    ]


def test_difference_uses_common_holes_only() -> None:
    ours = [dataclasses.replace(_result(i), exact_match=True) for i in range(4)]
    theirs = [dataclasses.replace(_result(i, "base"), exact_match=i == 1) for i in range(1, 9)]
    (difference,) = compare(ours, theirs)
    assert (difference.system, difference.interval.items) == ("model - base", 3)
    assert difference.interval.mean == pytest.approx(2 / 3)


def test_system_without_modes_meets_both_modes() -> None:
    ours = [
        dataclasses.replace(_result(i, mode=mode), bits=20.0)
        for i in range(6)
        for mode in (InfillMode.PSM, InfillMode.SPM)
    ]
    theirs = [dataclasses.replace(_result(i, "n-gram", None), bits=50.0) for i in range(6)]
    differences = compare(ours, theirs)
    assert [(d.mode, d.interval.mean, d.interval.high) for d in differences] == [
        (InfillMode.PSM, -3.0, -3.0),
        (InfillMode.SPM, -3.0, -3.0),
    ]


def test_nothing_in_common_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match="evaluate both on the same data"):
        compare([_result(0)], [_result(1, "base")])
