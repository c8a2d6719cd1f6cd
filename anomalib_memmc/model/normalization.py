"""Scores in (0, 1) that never tie, with the threshold at one half."""

import torch
from torch import Tensor

RELATIVE_FLOOR = 0.01
"""Smallest scale, as a fraction of the threshold: keeps nearly identical normals from blowing up every difference."""


def normalize(values: Tensor, low: Tensor, high: Tensor, threshold: Tensor) -> Tensor:
    r"""Map scores into (0, 1) with 0.5 at the threshold, strictly increasing.

    .. math:: s' = \frac12 + \frac12 \frac{z}{1 + |z|}, \qquad z = \frac{s - \text{threshold}}{\text{scale}}

    In float32, scores 100 scales above the threshold stay apart if they differ by more than 1 in 80,000, at 1,000
    scales by 1 in 8,000. Not in the paper.

    Args:
        values: Raw scores or maps of any shape. Half precision is widened to float32.
        low: Lower end of the scale, a scalar; NaN before the first validation.
        high: Upper end of the scale, a scalar; NaN before the first validation.
        threshold: Raw threshold, a scalar; where NaN, ``high`` takes its place.

    Returns:
        Normalised values of the same shape; ``values`` where the scale is NaN.
    """
    if values.dtype in {torch.float16, torch.bfloat16}:
        values = values.float()
    threshold = torch.where(torch.isnan(threshold), high, threshold)
    z = (values - threshold) / scale_of(low, high, threshold)
    normalized = 0.5 + 0.5 * z / (1 + z.abs())
    return torch.where(torch.isnan(low) | torch.isnan(high), values, normalized)


def scale_of(low: Tensor, high: Tensor, threshold: Tensor) -> Tensor:
    """Distance between the ends of the scale, at least 1 % of the threshold, and 1 where both are zero.

    Args:
        low: Lower end, a scalar.
        high: Upper end, a scalar.
        threshold: Raw threshold, a scalar.

    Returns:
        A scalar, positive or NaN.
    """
    scale = torch.maximum(high - low, RELATIVE_FLOOR * threshold.abs())
    return torch.where(scale == 0, torch.ones_like(scale), scale)
