"""Where a score stands among those of normal images, and whether that is an alarm."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_memmc.metrics.conformal import fewest_normals, p_values, percentiles

_ROUNDING = 1e-9


class Verdict(NamedTuple):
    """Verdicts on some images.

    Attributes:
        percentile: Share of the normal images that score lower (N,), in per cent.
        p_value: Conformal p-values (N,), in (0, 1].
        label: 1 for an alarm, else 0 (N,).
    """

    percentile: NDArray[np.float64]
    p_value: NDArray[np.float64]
    label: NDArray[np.int8]


class Judge:
    """Compares scores with those of held-out normal images.

    An image is an alarm where its p-value is at most the false-alarm rate. Among new images that are exchangeable with
    the normal ones that is so for at most this share, on average over calibrations (Vovk et al. 2005; not in the
    paper). With M normal images no p-value is below 1 / (M + 1): a smaller rate cannot be kept, and this one is.

    Args:
        normals: Scores of the normal images (M,), at least one.
        rate: False-alarm rate, in (0, 1).

    Raises:
        ValueError: If there are no normal images, or the rate is out of its range.
    """

    def __init__(self, normals: ArrayLike, rate: float) -> None:
        self.normals = np.asarray(normals, dtype=np.float64)
        if not 0 < rate < 1:
            msg = f"The false-alarm rate must lie between 0 and 1, got {rate}."
            raise ValueError(msg)
        if not len(self.normals):
            msg = (
                "The checkpoint knows no scores of normal images, so nothing can be said of new ones: run "
                "anomalib-memmc calibrate with normal images first."
            )
            raise ValueError(msg)
        self.asked = rate
        self.rate = max(rate, 1 / (len(self.normals) + 1))

    def __call__(self, scores: ArrayLike) -> Verdict:
        """Judge scores (N,)."""
        p_value = p_values(scores, self.normals)
        label = (p_value <= self.rate + _ROUNDING).astype(np.int8)
        return Verdict(percentiles(scores, self.normals), p_value, label)

    def caveats(self, independent: int | None = None) -> list[str]:
        """What the number of normal images does to the promise, one sentence each.

        Args:
            independent: How many groups of normal images, such as patients, the checkpoint counted; None if unknown.
        """
        count, said = len(self.normals), []
        if self.rate > self.asked + _ROUNDING:
            said.append(
                f"{count} normal images are too few for a false-alarm rate of {self.asked:.3g}: it takes "
                f"{fewest_normals(self.asked)}. Labels keep {self.rate:.3g} instead. Calibrate with more."
            )
        if independent is not None and independent != count:
            said.append(
                f"The {count} normal images of the checkpoint are of {independent} patients or other groups. p-values "
                "count images, so their promise is weaker than that number says."
            )
        return said
