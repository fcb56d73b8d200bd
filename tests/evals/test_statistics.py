"""The intervals are as wide as the data deserve: no wider, and never narrower because one file has many holes."""

import numpy as np
import pytest

from codegemma.evals.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_share,
    bootstrap_share_difference,
)


def _draw_clustered(random: np.random.Generator, files: int, mean: float) -> tuple[np.ndarray, list[int]]:
    """Values that share their file's luck: spread 1 between files, 0.5 within."""
    sizes = random.integers(2, 12, size=files)
    luck = random.normal(mean, 1.0, size=files)
    values = np.concatenate([luck[i] + random.normal(0, 0.5, size=n) for i, n in enumerate(sizes)])
    return values, [i for i, n in enumerate(sizes) for _ in range(n)]


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    random, trials = np.random.default_rng(0), 400
    covered = 0
    for seed in range(trials):
        values, files = _draw_clustered(random, files=50, mean=3.0)
        interval = bootstrap_mean(values, files, seed=seed, resamples=500)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 3.0 <= interval.high
    assert 0.91 <= covered / trials <= 0.98


def test_interval_ignoring_files_would_cover_too_rarely() -> None:
    """The reason for clusters: the same data, each hole on its own, misses the truth far more often than 5 %."""
    random, trials = np.random.default_rng(1), 200
    covered = 0
    for seed in range(trials):
        values, _ = _draw_clustered(random, files=50, mean=3.0)
        interval = bootstrap_mean(values, list(range(len(values))), seed=seed, resamples=500)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 3.0 <= interval.high
    assert covered / trials < 0.8


def test_paired_difference_is_narrower_than_two_intervals() -> None:
    random = np.random.default_rng(2)
    hardness, files = _draw_clustered(random, files=60, mean=0.0)
    ours = hardness + 0.1 + random.normal(0, 0.05, size=len(hardness))
    paired = bootstrap_difference(ours, hardness, files, seed=0)
    alone = bootstrap_mean(ours, files, seed=0)
    assert paired.mean == pytest.approx(0.1, abs=0.01)
    assert paired.is_above_zero()
    assert not alone.is_above_zero()


def test_no_difference_is_not_above_zero() -> None:
    random = np.random.default_rng(3)
    hardness, files = _draw_clustered(random, files=60, mean=0.0)
    ours, theirs = (hardness + random.normal(0, 0.1, size=len(hardness)) for _ in range(2))
    assert not bootstrap_difference(ours, theirs, files, seed=0).is_above_zero()


def test_one_file_gives_no_interval() -> None:
    interval = bootstrap_mean([0.0, 1.0, 1.0], ["a.py"] * 3, seed=0)
    assert (interval.low, interval.high, interval.clusters) == (None, None, 1)
    assert not interval.is_above_zero()


def test_equal_values_give_a_point() -> None:
    interval = bootstrap_mean([0.25] * 6, list("aabbcc"), seed=0)
    assert (interval.low, interval.mean, interval.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(("hit", "low", "high"), [(0, 0.0, 0.066), (1, 0.934, 1.0)])
def test_share_without_spread_is_bounded_by_what_is_independent(hit: int, low: float, high: float) -> None:
    """20 files of 10 holes count as 200 / (1 + 9 * 0.3) = 54 holes: 1 - 0.025^(1/54) = 0.066."""
    interval = bootstrap_share([hit] * 200, [i % 20 for i in range(200)], seed=0)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-4)


def test_share_with_spread_is_an_ordinary_bootstrap() -> None:
    hits, files = [i % 7 == 0 for i in range(200)], [i % 20 for i in range(200)]
    assert bootstrap_share(hits, files, seed=0) == bootstrap_mean(hits, files, seed=0)


def test_share_difference_with_pairs_that_differ_is_an_ordinary_bootstrap() -> None:
    ours, theirs = [i % 7 == 0 for i in range(200)], [i % 7 == 1 for i in range(200)]
    files = [i % 20 for i in range(200)]
    found = bootstrap_share_difference(ours, theirs, files, seed=0)
    assert found == bootstrap_difference(ours, theirs, files, seed=0)
    assert bootstrap_share_difference(ours, ours, files, seed=0).high == bootstrap_share([0] * 200, files, seed=0).high


def test_ratio_weighs_by_denominator() -> None:
    interval = bootstrap_ratio([10.0, 0.0], [1.0, 9.0], ["a", "b"], seed=0)
    assert interval.mean == 1.0
    assert (interval.low, interval.high) == (0.0, 10.0)


def test_equal_seeds_give_equal_intervals_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values, files = _draw_clustered(np.random.default_rng(4), files=30, mean=0.0)
    first = bootstrap_mean(values, files, seed=7)
    assert bootstrap_mean(values, files, seed=7) == first
    assert bootstrap_mean(values, files, seed=8) != first
    monkeypatch.setattr("codegemma.evals.statistics.BLOCK_NUMBERS", 301)
    assert bootstrap_mean(values, files, seed=7) == first


@pytest.mark.parametrize(
    ("numerators", "denominators", "files", "message"),
    [
        ([], [], [], "no items"),
        ([1.0], [1.0], ["a", "b"], "one cluster per item"),
        ([float("nan")], [1.0], ["a"], "finite"),
        ([1.0], [0.0], ["a"], "positive"),
    ],
)
def test_impossible_input_is_refused(
    numerators: list[float], denominators: list[float], files: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_ratio(numerators, denominators, files, seed=0)
