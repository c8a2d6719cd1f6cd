import numpy as np
import pytest

from anomalib_memmc.archive.drift import LEVEL, announcement, compare


def test_the_distance_is_the_largest_difference_of_the_distributions():
    rng = np.random.default_rng(0)
    scores, normals = rng.normal(0.3, 1, 40), rng.normal(0, 1, 70)
    places = np.r_[scores, normals]
    expected = max(abs((scores <= place).mean() - (normals <= place).mean()) for place in places)
    found = compare(scores, normals)
    assert found.distance == pytest.approx(expected)
    assert (found.median, found.normal_median) == (np.median(scores), np.median(normals))
    assert (found.num_scores, found.num_normals) == (40, 70)


def test_drift_is_rarely_announced_where_there_is_none():
    rng = np.random.default_rng(0)
    announced = [compare(rng.gamma(2, size=200), rng.gamma(2, size=60)).differs for _ in range(2000)]
    assert np.mean(announced) < LEVEL + 4 * np.sqrt(LEVEL / 2000)


def test_a_shift_and_a_wider_spread_are_announced():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=100)
    assert announcement(compare(rng.normal(size=500) + 1, normals)).startswith("DRIFT")
    assert announcement(compare(3 * rng.normal(size=500), normals)).startswith("DRIFT")
    assert announcement(compare(rng.normal(size=500), normals)).startswith("No drift")
