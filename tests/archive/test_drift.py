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


@pytest.mark.parametrize(("num_scores", "num_normals"), [(30, 40), (60, 25), (200, 100)])
def test_the_distance_that_is_announced_is_the_tests_own(num_scores, num_normals):
    """Scores whose share above all normal ones grows until they are announced."""
    normals = np.arange(num_normals) / num_normals
    for above in range(1, num_scores):
        inside = np.linspace(0, 0.999, num_scores - above)
        found = compare(np.r_[inside, np.full(above, 2.0)], normals)
        if found.differs:
            break
    assert found.distance == pytest.approx(found.visible_distance, abs=0.06)


def test_few_images_are_said_to_tell_little():
    rng = np.random.default_rng(0)
    assert "only a distance above 0.81 would be noticed" in announcement(
        compare(rng.normal(size=8), rng.normal(size=8))
    )
    assert "would be noticed" not in announcement(compare(rng.normal(size=100), rng.normal(size=100)))
    assert compare(np.arange(3.0), np.arange(2.0)).visible_distance == 1
