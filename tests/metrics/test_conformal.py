"""Thresholds and p-values against their definitions and by simulation."""

import numpy as np
import pytest
from scipy.stats import norm

from anomalib_memmc.metrics.conformal import conformal_threshold, fewest_normals, p_values, percentiles


@pytest.mark.parametrize(("count", "rank"), [(19, 19), (20, 20), (39, 38), (100, 96), (199, 190)])
def test_it_is_the_conformal_rank(count, rank):
    scores = np.random.default_rng(0).permutation(count) + 1.0
    threshold = conformal_threshold(scores, 0.05)
    assert threshold.value == rank
    assert threshold.num_normals == count
    assert threshold.rate == pytest.approx(1 - rank / (count + 1))
    assert threshold.rate <= 0.05 + 1e-12
    assert threshold.low < threshold.rate < threshold.high


@pytest.mark.parametrize(("rate", "count"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.3, 3)])
def test_fewest_normals(rate, count):
    assert fewest_normals(rate) == count
    assert conformal_threshold(np.arange(count), rate).rate <= rate + 1e-12
    assert conformal_threshold(np.arange(count - 1), rate).rate > rate


def test_too_few_normals_promise_less():
    threshold = conformal_threshold([0.1, 0.5, 0.3], 0.05)
    assert threshold.value == 0.5
    assert threshold.rate == 0.25


def test_the_promise_and_its_interval_hold_on_exchangeable_normals():
    """2,000 calibrations: the mean rate is at most the promise, and 95 % of the rates lie in the interval."""
    rng = np.random.default_rng(1)
    rates, inside = [], []
    for _ in range(2000):
        threshold = conformal_threshold(rng.normal(size=40), 0.05)
        rates.append(norm.sf(threshold.value))
        inside.append(threshold.low <= rates[-1] <= threshold.high)
    assert np.mean(rates) == pytest.approx(threshold.rate, abs=0.002)
    assert threshold.rate <= 0.05
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_the_promise_holds_for_an_image_of_a_new_patient():
    """40 patients of one to five images that resemble each other; counting images would promise too much."""
    rng = np.random.default_rng(1)
    grouped = []
    for _ in range(1000):
        groups = np.repeat(np.arange(40), rng.integers(1, 6, 40))
        scores = rng.normal(size=40)[groups] + 0.5 * rng.normal(size=len(groups))
        grouped.append(norm.sf(conformal_threshold(scores, 0.05, groups).value, scale=1.25**0.5))
    assert 0.03 < np.mean(grouped) <= 0.052


def test_an_image_of_a_large_group_counts_less():
    scores = np.concatenate([np.linspace(0, 1, 39), np.full(100, 5.0)])
    groups = np.concatenate([np.arange(39), np.full(100, 39)])
    assert conformal_threshold(scores, 0.05).value == 5
    assert conformal_threshold(scores, 0.05, groups).value == 1
    assert conformal_threshold(scores, 0.05, groups).num_normals == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 0.05), "at least one normal image"),
        (([1.0, float("nan")], 0.05), "finite"),
        (([1.0], 0.0), "between 0 and 1"),
        (([1.0, 2.0], 0.05, [1]), "groups of 1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        conformal_threshold(*arguments)


def test_percentiles_count_lower_normals():
    assert percentiles([0.5, 2.0, 9.0], [1, 2, 3, 4]).tolist() == [0, 25, 100]


def test_p_values_are_ranks():
    assert p_values([0.5, 3.0, -1.0, 2.0], [1, 2]).tolist() == pytest.approx([1, 1 / 3, 1, 2 / 3])
    rng = np.random.default_rng(2)
    p = np.concatenate([p_values(rng.normal(size=50), rng.normal(size=60)) for _ in range(200)])
    for level in (0.05, 0.1, 0.5):
        assert (p <= level).mean() <= level + 0.01
