"""AUROC and AUPRO of the pixels in constant memory: histograms are kept, not maps."""

from collections.abc import Sequence
from typing import Any

import torch
from anomalib.metrics import AnomalibMetric
from anomalib.utils.cv import connected_components_cpu, connected_components_gpu
from torch import Tensor
from torchmetrics import Metric

_DROPPED_BITS = 9
_SMALLEST = 2.0**-24
_LARGEST = 2.0**8
_UNIT = 2**40
"""One region, in fixed point: sums of integers do not depend on their order."""


class _PixelHistograms(Metric):
    """What both metrics share: the bins.

    Values of one bin differ by at most 1 in 16,384 of themselves or, between 0.5 and 1, of their distance from 1, where
    the post-processor puts strong anomalies. Values below 6e-8 share a bin, and so do those above 256.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    normal: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = int(_bins(torch.tensor([_LARGEST]))) + 1
        self.add_state("normal", default=torch.zeros(self.bins, dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, histogram: Tensor, values: Tensor, weights: Tensor | None = None) -> None:
        """Add values to a histogram in place, each once or by its integer weight."""
        weights = torch.ones_like(values, dtype=torch.int64) if weights is None else weights
        histogram.index_add_(0, _bins(values).to(histogram.device), weights.to(histogram.device))


class _PixelAUROC(_PixelHistograms):
    """Area under the ROC curve of pixels; see :class:`PixelAUROC`."""

    anomalous: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("anomalous", default=torch.zeros(self.bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Anomaly maps, (B, H, W) or (B, 1, H, W), not negative.
            target: Ground truth masks of as many values, nonzero where anomalous.
        """
        values, masks = _flat(preds), _flat(target).bool()
        self._add(self.normal, values[~masks])
        self._add(self.anomalous, values[masks])

    def compute(self) -> Tensor:
        """The AUROC, a scalar in [0, 1]; NaN if all pixels are normal or all are anomalous."""
        normal, anomalous = self.normal.cpu().double(), self.anomalous.cpu().double()
        below = normal.cumsum(0) - normal / 2  # pixels of one bin tie
        return ((below * anomalous).sum() / (normal.sum() * anomalous.sum())).float()


class _PixelAUPRO(_PixelHistograms):
    """Area under the per-region overlap; see :class:`PixelAUPRO`."""

    fpr_limit: Tensor
    overlap: Tensor
    regions: Tensor

    def __init__(self, fpr_limit: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < fpr_limit <= 1:
            msg = f"fpr_limit must lie in (0, 1], got {fpr_limit}."
            raise ValueError(msg)
        self.register_buffer("fpr_limit", torch.tensor(fpr_limit))  # as anomalib's: it is in checkpoints
        self.add_state("overlap", default=torch.zeros(self.bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("regions", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Anomaly maps, (B, H, W) or (B, 1, H, W), not negative.
            target: Ground truth masks (B, H, W) or (B, 1, H, W), nonzero where anomalous.
        """
        values, labels = _flat(preds), _regions(target)
        sizes = labels.bincount()
        is_anomalous = labels > 0
        self._add(self.normal, values[~is_anomalous])
        self._add(self.overlap, values[is_anomalous], _UNIT // sizes[labels[is_anomalous]])
        self.regions += int((sizes[1:] > 0).sum())

    def compute(self) -> Tensor:
        """The AUPRO, a scalar in [0, 1]; NaN if no pixel is anomalous, or none is normal."""
        normal, overlap = self.normal.cpu().double(), self.overlap.cpu().double()
        zero = torch.zeros(1, dtype=torch.float64)
        rate = torch.cat([zero, normal.flip(0).cumsum(0) / normal.sum()])
        overlap = torch.cat([zero, overlap.flip(0).cumsum(0) / (_UNIT * self.regions.cpu())])
        if not torch.isfinite(rate[-1] + overlap[-1]):
            return torch.tensor(torch.nan)
        limit = self.fpr_limit.cpu().double()
        inside = rate <= limit
        last = int(inside.sum()) - 1
        if last + 1 < len(rate):
            share = (limit - rate[last]) / (rate[last + 1] - rate[last])
            end = overlap[last] + share * (overlap[last + 1] - overlap[last])
            rate = torch.cat([rate[inside], limit[None]])
            overlap = torch.cat([overlap[inside], end[None]])
        return (torch.trapezoid(overlap, rate) / limit).float()


class PixelAUROC(AnomalibMetric, _PixelAUROC):  # type: ignore[misc]
    """Area under the ROC curve of pixels, as anomalib's ``AUROC`` of the same fields, in constant memory.

    anomalib keeps every map with its mask. Here a histogram of the normal pixels' values and one of the anomalous ones'
    are kept, 7 MB each whatever the number of images; they also add up to the same number in any order and in any
    number of processes. Pixels of one bin count as tied. Values in it differ by at most 1 in 16,384 of their distance
    from 0 or from 1, whichever is nearer. Its name in results is ``AUROC``.

    Args:
        fields: Anomaly map and true mask in the batch, ``["anomaly_map", "gt_mask"]`` by default.
        prefix: Put before the metric's name, for example ``"pixel_"``.
        strict: ``False``: batches without masks are passed over, and the value is ``None`` if there were no others.
        **kwargs: Options of ``torchmetrics.Metric``.
    """

    default_fields = ("anomaly_map", "gt_mask")

    def __init__(self, fields: Sequence[str] | None = None, prefix: str = "", **kwargs: Any) -> None:
        super().__init__(fields, prefix, **kwargs)
        self.name = f"{prefix}AUROC"


class PixelAUPRO(AnomalibMetric, _PixelAUPRO):  # type: ignore[misc]
    """Area under the per-region overlap, as anomalib's ``AUPRO``, in constant memory; see :class:`PixelAUROC`.

    The overlap of each connected region of the masks with the pixels above a threshold, averaged over regions, against
    the rate of normal pixels above it, up to ``fpr_limit``; the area is divided by that limit (Bergmann et al. 2021).

    Args:
        fields: Anomaly map and true mask in the batch, ``["anomaly_map", "gt_mask"]`` by default.
        prefix: Put before the metric's name, for example ``"pixel_"``.
        strict: ``False``: batches without masks are passed over, and the value is ``None`` if there were no others.
        fpr_limit: Largest rate of normal pixels that counts, in (0, 1].
        **kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: If ``fpr_limit`` is out of its range.
    """

    default_fields = ("anomaly_map", "gt_mask")

    def __init__(self, fields: Sequence[str] | None = None, prefix: str = "", **kwargs: Any) -> None:
        super().__init__(fields, prefix, **kwargs)
        self.name = f"{prefix}AUPRO"


def _bins(values: Tensor) -> Tensor:
    """Bin of each value, int64; it grows with the value, and bins are narrowest near 0 and near 1."""
    values = values.float()
    half, one = (int(_steps(torch.tensor(end))) for end in (0.5, 1.0))
    beyond = 2 * half + 1 + _steps(values) - one
    return torch.where(values <= 0.5, _steps(values), torch.where(values < 1, 2 * half - _steps(1 - values), beyond))


def _steps(values: Tensor) -> Tensor:
    """How many bins lie below each value: floats that are not negative keep their order when read as integers."""
    bits = values.clamp(_SMALLEST, _LARGEST).contiguous().view(torch.int32)
    lowest = int(torch.tensor(_SMALLEST).view(torch.int32))
    return (bits >> _DROPPED_BITS).long() - (lowest >> _DROPPED_BITS)


def _flat(values: Tensor) -> Tensor:
    return values.detach().as_subclass(Tensor).flatten()


def _regions(masks: Tensor) -> Tensor:
    """Number of the connected region of each pixel in a batch, from 1 on, 0 where normal; int64 (B * H * W,)."""
    masks = masks.detach().as_subclass(Tensor).bool()
    images = masks.reshape(len(masks), 1, *masks.shape[-2:]).float()
    labels = connected_components_gpu(images) if images.is_cuda else connected_components_cpu(images)
    return labels.flatten().long()
