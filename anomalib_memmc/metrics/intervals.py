"""What a share, a curve or a mean of a sample may be beyond the sample: 95 % intervals (not in the paper)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

RESAMPLES = 1000
RATES = np.linspace(0, 1, 101)
"""False-alarm rates at which the band of an ROC curve is computed."""
SENSITIVITIES = RATES[1:]
"""Sensitivities of a precision-recall curve; at 0 there is no precision."""
_LEVELS = (2.5, 97.5)
_ROUNDING = 1e-9

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A value and its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """A curve with a 95 % interval at each point.

    Attributes:
        x: Ascending (G,), in [0, 1].
        y: The curve (G,), in [0, 1].
        low: Lower ends (G,).
        high: Upper ends (G,).
    """

    x: Array
    y: Array
    low: Array
    high: Array


class Discrimination(NamedTuple):
    """How well scores tell two classes apart.

    Attributes:
        auroc: Area under the ROC curve, in [0, 1].
        average_precision: Average precision, in [0, 1].
        roc: Sensitivity at false-alarm rates.
        precision_recall: Precision at sensitivities above 0.
    """

    auroc: Interval
    average_precision: Interval
    roc: Band
    precision_recall: Band


def wilson(count: int, total: int) -> Interval:
    """A share and its 95 % interval by Wilson (1927), without continuity correction.

    Args:
        count: Images that have a property, from 0 to ``total``.
        total: Independent images, at least 1.

    Raises:
        ValueError: If ``total`` is below 1, or ``count`` out of its range.

    Examples:
        >>> [round(value, 4) for value in wilson(0, 20)]
        [0.0, 0.0, 0.1611]
    """
    low, high = binomtest(count, total).proportion_ci(method="wilson")
    return Interval(count / total, float(low), float(high))


def mean_interval(values: ArrayLike, seed: int = 0) -> Interval:
    """A mean with the percentiles of 1,000 bootstrap samples.

    Args:
        values: (N,), finite, N >= 1.
        seed: Seed of the bootstrap.
    """
    array = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = [generator.choice(array, len(array)).mean() for _ in range(RESAMPLES)]
    return _interval(float(array.mean()), means)


def discrimination(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None, seed: int = 0
) -> Discrimination:
    """ROC and precision-recall of scores, with percentiles of 1,000 bootstrap samples.

    A sample draws images of each class with replacement; with groups it draws whole groups, since images of one patient
    are not independent. The bands hold point by point, not for a whole curve at once.

    Args:
        scores: (N,), finite, higher = more anomalous.
        labels: 1 for anomalous, 0 for normal (N,); both must be there.
        groups: Group of each image (N,), such as its patient; None takes every image as a group of its own.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If a class is missing.
    """
    values, is_anomalous = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    if is_anomalous.all() or not is_anomalous.any():
        msg = f"Curves need both classes: all {len(is_anomalous)} images are of one."
        raise ValueError(msg)
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))  # the last image of each score
    units = _units(is_anomalous, groups)[order]
    classes = is_anomalous[order]
    generator = np.random.default_rng(seed)
    own = _rates(np.ones(len(order)), classes, ends)
    drawn = [_rates(_draw(units, classes, generator), classes, ends) for _ in range(RESAMPLES)]
    return Discrimination(
        _interval(own.auroc, [each.auroc for each in drawn]),
        _interval(own.average_precision, [each.average_precision for each in drawn]),
        _band(RATES, own.roc, [each.roc for each in drawn]),
        _band(SENSITIVITIES, own.precision_recall, [each.precision_recall for each in drawn]),
    )


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    low, high = np.percentile(drawn, _LEVELS)
    return Interval(value, float(low), float(high))


def _band(x: Array, y: Array, drawn: Sequence[Array]) -> Band:
    low, high = np.percentile(drawn, _LEVELS, axis=0)
    return Band(x, y, low, high)


def _units(is_anomalous: NDArray[np.bool_], groups: ArrayLike | None) -> NDArray[np.intp]:
    """What is drawn as a whole (N,): the images of one group and class."""
    if groups is None:
        return np.arange(len(is_anomalous))
    index = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    return np.unique(2 * index + is_anomalous, return_inverse=True)[1]


def _draw(units: NDArray[np.intp], classes: NDArray[np.bool_], generator: np.random.Generator) -> Array:
    """How often each image is drawn (N,)."""
    counts = np.zeros(units.max() + 1)
    for is_anomalous in (False, True):
        own = np.unique(units[classes == is_anomalous])
        counts += np.bincount(generator.choice(own, len(own)), minlength=len(counts))
    return counts[units]


class _Sample(NamedTuple):
    """What one sample of images gives: the curves on their grids."""

    auroc: float
    average_precision: float
    roc: Array
    precision_recall: Array


def _rates(weights: Array, classes: NDArray[np.bool_], ends: NDArray[np.intp]) -> _Sample:
    """Curves of weighted images (N,) in falling order of their scores, each of which ends at one of ``ends``."""
    hits = np.cumsum(weights * classes)[ends]
    alarms = np.cumsum(weights * ~classes)[ends]
    sensitivity = np.append(0, hits / hits[-1])
    false_alarms = np.append(0, alarms / alarms[-1])
    precision = hits / np.maximum(hits + alarms, 1)
    roc = sensitivity[np.searchsorted(false_alarms, RATES + _ROUNDING, side="right") - 1]
    first = np.minimum(np.searchsorted(sensitivity[1:], SENSITIVITIES - _ROUNDING), len(precision) - 1)
    average_precision = float((np.diff(sensitivity) * precision).sum())
    auroc = float(np.diff(false_alarms) @ (sensitivity[1:] + sensitivity[:-1])) / 2  # ties count half
    return _Sample(auroc, average_precision, roc, precision[first])
