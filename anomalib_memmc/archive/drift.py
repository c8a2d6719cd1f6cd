"""Whether scores look like those of a calibration: a two-sample test."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ks_2samp

_LARGE = 0.5  # half of the scores lie beyond nearly all others
LEVEL = 0.01
"""p-value below which a difference is announced: once in a hundred times where there is none."""


class Comparison(NamedTuple):
    """How far scores are from those of normal images.

    Attributes:
        distance: Largest difference of the two distributions (Kolmogorov-Smirnov), in [0, 1].
        p_value: How likely a distance so large is, if both come from the same distribution.
        median: Median of the scores.
        normal_median: Median of the normal images' scores.
        num_scores: Number of scores.
        num_normals: Number of normal images.
    """

    distance: float
    p_value: float
    median: float
    normal_median: float
    num_scores: int
    num_normals: int

    @property
    def differs(self) -> bool:
        """Whether the difference is to be announced."""
        return self.p_value < LEVEL

    @property
    def visible_distance(self) -> float:
        """Distance that would be announced with so many images, by the asymptotic formula (Smirnov 1948); up to 1."""
        factor = math.sqrt(-math.log(LEVEL / 2) / 2)
        return min(1.0, factor * math.sqrt((self.num_scores + self.num_normals) / (self.num_scores * self.num_normals)))

    @property
    def caveat(self) -> str:
        """What few images mean for a difference that is not seen, or nothing."""
        if self.differs or self.visible_distance <= _LARGE:
            return ""
        return f"So few images tell little: only a distance above {self.visible_distance:.2f} would be noticed."

    def __str__(self) -> str:
        """The numbers."""
        return (
            f"Kolmogorov-Smirnov distance {self.distance:.3f}, p = {self.p_value:.2g}; median score {self.median:.4g} "
            f"of {self.num_scores:,} images, {self.normal_median:.4g} of {self.num_normals:,} normal ones"
        )


def compare(scores: ArrayLike, normals: ArrayLike) -> Comparison:
    """Compare scores with those of normal images by the two-sample Kolmogorov-Smirnov test (not in the paper).

    It sees any difference, also the one that anomalous images make: many of them are drift as well.

    Args:
        scores: Scores (N,), at least one.
        normals: Scores of normal images (M,), at least one.
    """
    own, theirs = np.asarray(scores, dtype=np.float64), np.asarray(normals, dtype=np.float64)
    test = ks_2samp(own, theirs)
    medians = float(np.median(own)), float(np.median(theirs))
    return Comparison(float(test.statistic), float(test.pvalue), *medians, len(own), len(theirs))


def announcement(found: Comparison) -> str:
    """What to tell about the scores of a run.

    Args:
        found: They beside the calibration's.
    """
    if not found.differs:
        return " ".join(filter(None, [f"No drift to be seen ({found}).", found.caveat]))
    return (
        f"DRIFT: these scores do not look like those of the calibration ({found}). Either many images are anomalous, "
        "or the images are made in another way, and labels and p-values keep no promise: look at some, and calibrate "
        "with normal images of this place (anomalib-memmc calibrate)."
    )
