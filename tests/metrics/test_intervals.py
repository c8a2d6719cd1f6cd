import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from anomalib_memmc.metrics.intervals import RATES, SENSITIVITIES, discrimination, mean_interval, wilson


def sample(anomalous=60, normal=80, ties=False):
    rng = np.random.default_rng(3)
    labels = np.repeat([1, 0], [anomalous, normal])
    scores = rng.normal(size=len(labels)) + labels
    return (np.round(scores) if ties else scores), labels


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_of_newcombe_1998(count, total, low, high):
    """Table I of Newcombe, Statistics in Medicine 17, 857 (1998), method 3."""
    assert wilson(count, total) == pytest.approx((count / total, low, high), abs=5e-5)


def test_wilson_solves_its_own_equation():
    """The ends are the rates from which the share is 1.96 standard errors away (Wilson 1927)."""
    share, *ends = wilson(37, 41)
    for end in ends:
        assert abs(share - end) / np.sqrt(end * (1 - end) / 41) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("ties", [False, True])
def test_curves_are_those_of_scikit_learn(ties):
    scores, labels = sample(ties=ties)
    found = discrimination(scores, labels)
    assert found.auroc.value == pytest.approx(roc_auc_score(labels, scores))
    assert found.average_precision.value == pytest.approx(average_precision_score(labels, scores))
    false_alarms, sensitivity, _ = roc_curve(labels, scores, drop_intermediate=False)
    expected = [sensitivity[false_alarms <= rate + 1e-9].max() for rate in RATES]
    np.testing.assert_allclose(found.roc.y, expected)
    precision, recall, _ = precision_recall_curve(labels, scores)  # from the lowest threshold up
    expected = [precision[:-1][recall[:-1] >= rate - 1e-9][-1] for rate in SENSITIVITIES]
    np.testing.assert_allclose(found.precision_recall.y, expected)


def test_intervals_agree_with_scipys_bootstrap_of_each_class():
    scores, labels = sample()
    found = discrimination(scores, labels)

    def auroc(anomalous, normal, axis=-1):
        return (anomalous[..., :, None] > normal[..., None, :]).mean(axis=(-2, -1))

    parts = (scores[labels == 1], scores[labels == 0])
    other = bootstrap(parts, auroc, n_resamples=4000, batch=500, method="percentile", rng=np.random.default_rng(0))
    assert found.auroc.low == pytest.approx(other.confidence_interval.low, abs=0.01)
    assert found.auroc.high == pytest.approx(other.confidence_interval.high, abs=0.01)
    assert (found.roc.low <= found.roc.y).all()
    assert (found.roc.y <= found.roc.high).all()


def test_images_of_one_patient_make_an_interval_no_narrower():
    scores, labels = sample()
    alone = discrimination(scores, labels).auroc
    copied = discrimination(np.tile(scores, 4), np.tile(labels, 4), groups=np.tile(np.arange(len(labels)), 4)).auroc
    assert copied.value == pytest.approx(alone.value)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.15)
    without = discrimination(np.tile(scores, 4), np.tile(labels, 4)).auroc
    assert without.high - without.low < 0.6 * (copied.high - copied.low)


def test_one_class_has_no_curves():
    with pytest.raises(ValueError, match="both classes"):
        discrimination([0.1, 0.2], [1, 1])


def test_mean_interval_is_that_of_the_normal_distribution_for_many_values():
    values = np.random.default_rng(0).normal(size=400)
    value, low, high = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.02)
