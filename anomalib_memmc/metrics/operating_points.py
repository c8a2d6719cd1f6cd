"""What a threshold does: how many anomalous images it finds, and how many normal ones it calls anomalous."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from anomalib_memmc.metrics.intervals import Interval, wilson


class OperatingPoint(NamedTuple):
    """Images called anomalous, by class.

    Attributes:
        found: Anomalous images called anomalous.
        anomalous: Anomalous images.
        alarms: Normal images called anomalous.
        normal: Normal images.
        threshold: Scores above it are called anomalous; NaN where it is not known.
    """

    found: int
    anomalous: int
    alarms: int
    normal: int
    threshold: float = math.nan

    @property
    def sensitivity(self) -> Interval | None:
        """Share of the anomalous images that are found; None without such images."""
        return wilson(self.found, self.anomalous) if self.anomalous else None

    @property
    def false_alarm_rate(self) -> Interval | None:
        """Share of the normal images called anomalous; None without such images."""
        return wilson(self.alarms, self.normal) if self.normal else None

    @property
    def specificity(self) -> Interval | None:
        """Share of the normal images called normal; None without such images."""
        return wilson(self.normal - self.alarms, self.normal) if self.normal else None


def of_verdicts(labels: ArrayLike, verdicts: ArrayLike, threshold: float = math.nan) -> OperatingPoint:
    """Count verdicts.

    Args:
        labels: Ground truth (N,), 1 for anomalous, 0 for normal.
        verdicts: 1 where an image was called anomalous, else 0 (N,).
        threshold: The threshold behind them.
    """
    truth, called = np.asarray(labels).astype(bool), np.asarray(verdicts).astype(bool)
    counts = ((truth & called).sum(), truth.sum(), (~truth & called).sum(), (~truth).sum())
    found, anomalous, alarms, normal = map(int, counts)
    return OperatingPoint(found, anomalous, alarms, normal, threshold)


def at_specificity(scores: ArrayLike, labels: ArrayLike, specificity: float) -> OperatingPoint:
    """The operating point of the lowest threshold that leaves a share of the normal images without an alarm.

    The threshold is chosen on these very images: it describes the scores, and promises nothing for others.

    Args:
        scores: (N,), finite, higher = more anomalous.
        labels: 1 for anomalous, 0 for normal (N,).
        specificity: Least share of the normal images at or below the threshold, in (0, 1].

    Raises:
        ValueError: If there is no normal image, or the share is out of its range.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    normals = np.sort(values[~truth])
    if not 0 < specificity <= 1 or not len(normals):
        msg = f"It takes normal images and a specificity in (0, 1], got {len(normals)} and {specificity}."
        raise ValueError(msg)
    threshold = float(normals[math.ceil(round(specificity * len(normals), 9)) - 1])
    return of_verdicts(truth, values > threshold, threshold)
