"""Thresholds that keep their promise: ranks among held-out normal images (split conformal prediction)."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, betabinom


class ConformalThreshold(NamedTuple):
    """A threshold and what it promises.

    Attributes:
        value: Scores above it are called anomalous.
        rate: False-alarm rate that it promises, in (0, 1): that of a new normal image, on average over calibrations.
        low: Lower end of the interval that holds, with 95 % probability, the rate of this one calibration.
        high: Upper end of that interval.
        num_normals: Independent normal images, or groups of them, that it was learnt from.
    """

    value: float
    rate: float
    low: float
    high: float
    num_normals: int


def fewest_normals(rate: float) -> int:
    """Independent normal images that a false-alarm rate needs at least: 19 for 5 %."""
    return math.ceil(round(1 / rate, 9)) - 1


def conformal_threshold(scores: ArrayLike, rate: float = 0.05, groups: ArrayLike | None = None) -> ConformalThreshold:
    """Learn a threshold from the scores of held-out normal images.

    With n images it is the score of rank ``ceil((n + 1) (1 - rate))``, so that a new normal image that is exchangeable
    with them lies above it with a probability of at most ``rate``. Images of one group, such as a patient's, share one
    vote, and n counts groups: the guarantee is then for an image of a new group. With fewer normals than the rate needs
    the highest score is taken, and the promise is 1 / (n + 1). The rate of one calibration is distributed as
    Beta(n + 1 - rank, rank). Source: Vovk et al. 2005; for groups Lee, Barber and Willett 2023; not in the paper.

    Args:
        scores: Scores of normal images (N,), N >= 1, finite.
        rate: False-alarm rate to promise, in (0, 1).
        groups: Group of each image (N,); None takes every image as a group of its own.

    Returns:
        The threshold, with the rate that it does promise.

    Raises:
        ValueError: If there are no scores, some are not finite, groups differ in number, or the rate is out of range.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not 0 < rate < 1:
        msg = f"The false-alarm rate must lie between 0 and 1, got {rate}."
        raise ValueError(msg)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        msg = f"A threshold needs finite scores (N,) of at least one normal image, got shape {values.shape}."
        raise ValueError(msg)
    votes, count = _votes(groups, len(values))
    rank = min(math.ceil(round((count + 1) * (1 - rate), 9)), count)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(votes[order])
    value = float(values[order][np.searchsorted(reached, rank - 1e-9)])
    low, high = beta(count + 1 - rank, rank).ppf([0.025, 0.975]).tolist()
    return ConformalThreshold(value, (count + 1 - rank) / (count + 1), low, high, count)


def p_values(scores: ArrayLike, normals: ArrayLike) -> NDArray[np.float64]:
    """Conformal p-value of each score: its rank from above among the normal ones.

    Args:
        scores: Scores (N,).
        normals: Scores of held-out normal images (M,), M >= 1.

    Returns:
        (N,), in [1 / (M + 1), 1]. For an image that is exchangeable with the normals, p <= a has a probability of at
        most a.
    """
    ordered = np.sort(np.asarray(normals, dtype=np.float64))
    at_least = len(ordered) - np.searchsorted(ordered, np.asarray(scores, dtype=np.float64), side="left")
    return (1 + at_least) / (len(ordered) + 1)


def _votes(groups: ArrayLike | None, size: int) -> tuple[NDArray[np.float64], int]:
    """Weight of each image, so that every group weighs 1, and the number of groups."""
    if groups is None:
        return np.ones(size), size
    names, index, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(index) != size:
        msg = f"There are {size} scores, but groups of {len(index)} images."
        raise ValueError(msg)
    return 1 / counts[index], len(names)


def percentiles(scores: ArrayLike, normals: ArrayLike) -> NDArray[np.float64]:
    """Share of the normal scores that are lower than each score, in per cent.

    Args:
        scores: Scores (N,).
        normals: Scores of held-out normal images (M,), M >= 1.

    Returns:
        (N,), in [0, 100].
    """
    ordered = np.sort(np.asarray(normals, dtype=np.float64))
    return 100 * np.searchsorted(ordered, np.asarray(scores, dtype=np.float64), side="left") / len(ordered)


def alarms_by_chance(alarms: int, normals: int, rate: float, num_normals: int) -> float:
    """How likely so many or more false alarms are, if new normal images are like those of the calibration.

    The rate of a calibration is Beta distributed, so that the number of alarms is beta-binomial.

    Args:
        alarms: New normal images above the threshold.
        normals: New normal images.
        rate: The promised rate, as :class:`ConformalThreshold` has it.
        num_normals: Independent normal images behind it.

    Returns:
        The probability, in [0, 1].
    """
    above = rate * (num_normals + 1)
    return float(betabinom.sf(alarms - 1, normals, above, num_normals + 1 - above))


class Kept(NamedTuple):
    """False alarms on new normal images at a rate that was asked for, and what was to be expected.

    Attributes:
        asked: The rate.
        promised: The rate that the number of calibration images allows, at most ``asked``; 0 where they are too few.
        alarms: New normal images whose p-value is at most ``asked``.
        low: Fewest alarms of the 95 % interval, if new normal images are like those of the calibration.
        high: Most alarms of it.
    """

    asked: float
    promised: float
    alarms: int
    low: int
    high: int


def kept(p_values: ArrayLike, rate: float, num_normals: int) -> Kept:
    """Compare the false alarms at a rate with their distribution, which is beta-binomial.

    Args:
        p_values: Conformal p-values of new normal images (N,).
        rate: The false-alarm rate asked for, in (0, 1).
        num_normals: Normal images of the calibration, whose ranks the p-values are.
    """
    values = np.asarray(p_values, dtype=np.float64)
    above = math.floor(round(rate * (num_normals + 1), 9))
    alarms = int((values <= above / (num_normals + 1) + 1e-9).sum()) if above else 0
    if not above:
        return Kept(rate, 0.0, alarms, 0, 0)
    low, high = betabinom(len(values), above, num_normals + 1 - above).ppf([0.025, 0.975])
    return Kept(rate, above / (num_normals + 1), alarms, int(low), int(high))
