"""What the normal validation images look like: their scores, gathered over batches and processes."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


class NormalValues(Metric):
    """Collects scores (or map pixels) of normal images and counts the anomalous images that came along.

    Unlike a running minimum and maximum, the values themselves allow quantiles.
    """

    full_state_update = False
    values: list[Tensor]
    rows: list[Tensor]
    anomalous: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("anomalous", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Tensor, anomalous: Tensor, rows: Tensor | None = None) -> None:
        """Add one batch.

        Args:
            values: Scores of the batch's normal images, any shape, possibly empty. NaN and infinities are dropped.
            anomalous: Number of anomalous images in the batch, a scalar.
            rows: Which image each value is of (n,), int64, so that one that a distributed sampler repeats counts once;
                -1 where that is not known.
        """
        values = values.detach().float().flatten()
        rows = torch.full_like(values, -1, dtype=torch.int64) if rows is None else rows.to(values.device)
        known = torch.isfinite(values)
        self.values.append(values[known])
        self.rows.append(rows[known])
        self.anomalous = self.anomalous + anomalous.to(self.anomalous.device)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values (n,), float32, their rows (n,), and the number of anomalous images, a scalar."""
        values, rows = dim_zero_cat(self.values), dim_zero_cat(self.rows)
        order = rows.argsort(stable=True)
        values, rows = values[order], rows[order]
        first = torch.ones_like(rows, dtype=torch.bool)
        first[1:] = (rows[1:] != rows[:-1]) | (rows[1:] < 0)
        return values[first], rows[first], self.anomalous


def quantile(values: Tensor, q: float) -> Tensor:
    """Quantile with linear interpolation, as ``numpy.quantile``, without ``torch.quantile``'s limit of 2**24 values.

    Args:
        values: Shape (n,), n >= 1.
        q: In [0, 1].

    Returns:
        A scalar tensor of ``values``' dtype and device.

    Raises:
        ValueError: If ``values`` is empty or ``q`` lies outside [0, 1].
    """
    if values.numel() == 0:
        msg = "A quantile needs at least one value."
        raise ValueError(msg)
    if not 0 <= q <= 1:
        msg = f"A quantile's level must lie in [0, 1], got {q}."
        raise ValueError(msg)
    ordered = values.flatten().sort().values
    position = q * (ordered.numel() - 1)
    low = math.floor(position)
    high = min(low + 1, ordered.numel() - 1)
    return torch.lerp(ordered[low], ordered[high], position - low)


def subsample_pixels(maps: Tensor, limit: int) -> Tensor:
    """Take at most ``limit`` evenly spread pixels from each map, always the same ones.

    The step is coprime to the width, so that the pixels walk through all columns instead of forming stripes.

    Args:
        maps: Shape (B, H, W) or (B, 1, H, W).
        limit: Largest number of pixels from a map, >= 1.

    Returns:
        Shape (B, n), n <= ``limit``.

    Raises:
        ValueError: If ``limit`` is smaller than 1.
    """
    if limit < 1:
        msg = f"The number of pixels must be at least 1, got {limit}."
        raise ValueError(msg)
    width = maps.shape[-1]
    flat = maps.flatten(1)
    step = math.ceil(flat.shape[1] / limit)
    while step > 1 and math.gcd(step, width) > 1:
        step += 1
    return flat[:, ::step]
