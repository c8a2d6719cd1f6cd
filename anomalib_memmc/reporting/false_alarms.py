"""Whether a threshold kept its promise: false alarms on normal images beside the rate that was promised."""

from typing import NamedTuple

from torch import Tensor

from anomalib_memmc.metrics.conformal import alarms_by_chance

_RARE = 0.05


class FalseAlarms(NamedTuple):
    """False alarms of a test, and what the threshold promised.

    Attributes:
        alarms: Normal images above the threshold.
        normals: Normal images.
        rate: Promised rate.
        low: Lower end of its 95 % interval.
        high: Upper end.
        num_normals: Independent normal images that the threshold was learnt from.
    """

    alarms: int
    normals: int
    rate: float
    low: float
    high: float
    num_normals: int

    @property
    def beyond_chance(self) -> bool:
        """Whether so many alarms are rare (less than 5 %) if the normal images are like those of the calibration."""
        return alarms_by_chance(self.alarms, self.normals, self.rate, self.num_normals) < _RARE

    def __str__(self) -> str:
        """One sentence, and a second one where the promise was broken."""
        sentence = (
            f"False alarms: {self.alarms} of {self.normals} normal images ({self.alarms / self.normals:.1%}); the "
            f"threshold promises {self.rate:.1%} (95 % interval {self.low:.1%} to {self.high:.1%}, from "
            f"{self.num_normals} normal images or groups)."
        )
        if self.beyond_chance:
            sentence += (
                " That is more than chance: these normal images are unlike those that the threshold was learnt from. "
                "Learn it from normal images of the place where it is used."
            )
        return sentence


def false_alarms(alarms: int, normals: int, promise: Tensor | None) -> FalseAlarms | None:
    """Compare false alarms with a post-processor's promise.

    Args:
        alarms: Normal images that were called anomalous.
        normals: Normal images.
        promise: ``NormalQuantilePostProcessor.promise``: rate, interval and number of normals (4,).

    Returns:
        The comparison; None where there are no normal images, or no promise.
    """
    if not normals or promise is None or bool(promise.isnan().any()):
        return None
    rate, low, high, num_normals = promise.tolist()
    return FalseAlarms(alarms, normals, rate, low, high, round(num_normals))
