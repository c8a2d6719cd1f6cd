"""The paper's score: how badly an image is reconstructed."""

from typing import Any, Literal, get_args

from torch import Tensor

from anomalib_memmc.scoring.error_maps import ErrorMap
from anomalib_memmc.scoring.masked import MaskedScorer

Reduction = Literal["mean", "max", "top_k"]


class ReconstructionScorer(MaskedScorer):
    """Image score straight from the error map; the defaults are the paper's.

    Args:
        error_map: How a reconstruction differs from its image; None takes the paper's, ``MSSSIMMap()``.
        reduction: ``"mean"`` of the map (paper), ``"max"``, or ``"top_k"``, the mean of the highest tenth of the pixels
            (both not in the paper).
        **masks: Masks, chunks and blur: arguments of :class:`~anomalib_memmc.scoring.masked.MaskedScorer`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, error_map: ErrorMap | None = None, reduction: Reduction = "mean", **masks: Any) -> None:
        super().__init__(error_map, **masks)
        if reduction not in get_args(Reduction):
            msg = f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}."
            raise ValueError(msg)
        self.reduction = reduction

    def reduce(self, anomaly_map: Tensor) -> Tensor:
        """Mean, maximum or mean of the highest tenth, (B, 1, H, W) -> (B,)."""
        pixels = anomaly_map.flatten(1)
        if self.reduction == "mean":
            return pixels.mean(dim=1)
        if self.reduction == "max":
            return pixels.amax(dim=1)
        return pixels.topk(max(1, pixels.shape[1] // 10), dim=1).values.mean(dim=1)
