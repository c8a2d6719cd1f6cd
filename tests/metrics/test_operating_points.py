import numpy as np
import pytest

from anomalib_memmc.metrics.operating_points import OperatingPoint, at_specificity, of_verdicts


def test_verdicts_are_counted_by_class():
    point = of_verdicts([1, 1, 1, 0, 0], [1, 0, 1, 1, 0], threshold=0.3)
    assert point == OperatingPoint(found=2, anomalous=3, alarms=1, normal=2, threshold=0.3)
    assert point.sensitivity.value == pytest.approx(2 / 3)
    assert point.false_alarm_rate.value == 0.5
    assert point.specificity.low == pytest.approx(1 - point.false_alarm_rate.high)


def test_a_class_that_is_missing_has_no_rate():
    assert of_verdicts([0, 0], [0, 1]).sensitivity is None
    assert of_verdicts([1, 1], [0, 1]).false_alarm_rate is None
    assert of_verdicts([1, 1], [0, 1]).specificity is None


@pytest.mark.parametrize("specificity", [0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("normals", [7, 20, 40])
def test_threshold_is_the_lowest_that_keeps_the_specificity(specificity, normals):
    scores = np.random.default_rng(normals).permutation(normals + 30).astype(float)
    labels = np.repeat([0, 1], [normals, 30])
    point = at_specificity(scores, labels, specificity)
    assert point.specificity.value >= specificity - 1e-9
    lower = [score for score in scores if score < point.threshold]
    assert all((scores[labels == 0] <= score).mean() < specificity - 1e-9 for score in lower)
    assert point.found == (scores[labels == 1] > point.threshold).sum()


def test_ties_with_the_threshold_are_no_alarms():
    assert at_specificity([1, 1, 1, 1], [0, 0, 1, 1], 0.5)[:4] == (0, 2, 0, 2)


def test_without_normal_images_there_is_no_specificity():
    with pytest.raises(ValueError, match="normal images"):
        at_specificity([1, 2], [1, 1], 0.9)
