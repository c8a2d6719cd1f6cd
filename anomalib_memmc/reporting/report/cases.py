"""Which images of a test a report shows, and what it keeps of each."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CASES_PER_END = 12
"""Images of each class with the highest scores, with the lowest ones, and nearest to the threshold."""


@dataclass
class Case:
    """An image of a test.

    Attributes:
        path: Its file, as in the column ``image_path`` of ``predictions.csv``.
        loader: Number of the loader that it came from.
        score: Score after post-processing, in the order of the raw ones.
        truth: 1 anomalous, 0 normal, None where unknown.
        image: As the model was given it, uint8 (H, W, 3).
        anomaly_map: After post-processing, float16 (h, w); None where the model gives no map.
        mask: Ground truth, bool (h, w); None where there is none.
        iou: Of the predicted mask with the ground truth; None where that marks nothing.
    """

    path: str
    loader: int
    score: float
    truth: int | None
    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float16] | None = None
    mask: NDArray[np.bool_] | None = None
    iou: float | None = None


def choose(cases: Iterable[Case], threshold: float | None, number: int = CASES_PER_END) -> list[Case]:
    """Keep the best, the worst and the borderline cases of each class.

    Choosing from what was chosen before and from new cases gives the same as choosing from all at once.

    Args:
        cases: Any.
        threshold: The threshold on their scores; None keeps no borderline cases.
        number: Cases of each class at each end and around the threshold.

    Returns:
        The cases kept, highest scores first; equal scores by path.
    """
    ordered = sorted(cases, key=lambda case: (-case.score, case.path))
    kept: set[int] = set()
    for truth in (0, 1, None):
        own = [index for index, case in enumerate(ordered) if case.truth == truth]
        kept.update(own[:number], own[-number:])
        if threshold is not None:
            kept.update(sorted(own, key=lambda index: abs(ordered[index].score - threshold))[:number])
    return [case for index, case in enumerate(ordered) if index in kept]
