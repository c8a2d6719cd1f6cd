"""Labels: the rate that they promise, by simulation, and the threshold of a checkpoint, by comparison."""

import numpy as np
import pytest

from anomalib_memmc.archive.verdict import Judge
from anomalib_memmc.metrics.conformal import conformal_threshold


@pytest.mark.parametrize(("normals", "rate"), [(19, 0.05), (100, 0.05), (100, 0.2), (57, 0.1)])
def test_false_alarms_on_exchangeable_normals_keep_the_rate(normals, rate):
    """Calibrations and new images from one skewed distribution: the alarms are floor(rate (M + 1)) / (M + 1)."""
    rng = np.random.default_rng(0)
    alarms = [Judge(rng.lognormal(size=normals), rate)(rng.lognormal(size=50)).label.mean() for _ in range(3000)]
    expected = np.floor(rate * (normals + 1) + 1e-9) / (normals + 1)
    assert expected <= rate + 1e-12
    assert np.mean(alarms) == pytest.approx(expected, abs=4 * np.std(alarms) / np.sqrt(len(alarms)))


def test_images_that_depend_on_each_other_keep_it_too():
    """Exchangeable is enough: here all scores of a day share a shift."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 40)) + 3 * rng.normal(size=(20_000, 1))
    alarms = [Judge(row[:39], 0.05)(row[39:]).label[0] for row in scores]
    assert np.mean(alarms) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 20_000))


@pytest.mark.parametrize("normals", [5, 19, 20, 99, 123])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.5])
def test_labels_are_those_of_the_conformal_threshold_also_at_ties(normals, rate):
    rng = np.random.default_rng(normals)
    known = rng.integers(0, 30, normals).astype(float)
    scores = np.r_[known, rng.normal(15, 15, 200)]
    expected = scores > conformal_threshold(known, rate).value
    assert (Judge(known, rate)(scores).label == expected).all()


def test_numbers_by_hand():
    verdict = Judge([1, 2, 3, 4], 0.4)([0, 2.5, 4, 5])
    assert verdict.p_value.tolist() == [1, 0.6, 0.4, 0.2]
    assert verdict.percentile.tolist() == [0, 50, 75, 100]
    assert verdict.label.tolist() == [0, 0, 1, 1]


def test_a_rate_that_cannot_be_kept_is_said():
    judge = Judge(range(9), 0.05)
    (said,) = judge.caveats()
    assert "9 normal images are too few for a false-alarm rate of 0.05: it takes 19. Labels keep 0.1 instead" in said
    assert judge.rate == 0.1
    assert not Judge(range(19), 0.05).caveats(19)
    assert "19 normal images of the checkpoint are of 7 patients" in Judge(range(19), 0.05).caveats(7)[0]


@pytest.mark.parametrize(
    ("normals", "rate", "message"), [([], 0.05, "calibrate"), ([1], 0, "between"), ([1], 1, "between")]
)
def test_what_cannot_be_judged_is_refused(normals, rate, message):
    with pytest.raises(ValueError, match=message):
        Judge(normals, rate)
