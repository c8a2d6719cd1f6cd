"""Localisation as in the paper's Table 3: mean IoU over random groups of anomalous images."""

import logging
from typing import Any

import torch
from anomalib.metrics import AnomalibMetric
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

logger = logging.getLogger(__name__)


class _GroupedIoU(Metric):
    """What both IoU metrics share: the groups.

    Args:
        groups: Number of random groups, >= 1.
        group_size: Images in a group, >= 1.
        seed: Seed of the draw.
        **kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: If ``groups`` or ``group_size`` is smaller than 1.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, groups: int = 5, group_size: int = 100, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if groups < 1 or group_size < 1:
            msg = f"groups and group_size must be at least 1, got {groups} and {group_size}."
            raise ValueError(msg)
        self.groups = groups
        self.group_size = group_size
        self.seed = seed

    def image_ious(self) -> Tensor:
        """IoU of every anomalous image so far, shape (n,), in [0, 1]."""
        raise NotImplementedError

    def group_means(self) -> Tensor:
        """Mean IoU of each group, shape (groups,), in [0, 1]; NaN without an anomalous image.

        A group is ``group_size`` anomalous images drawn without replacement, every group from all images. With no more
        images than that, every group is all of them. The images are ranked by IoU before the draw, so the result
        depends on the seed and the images alone, not on the order or the process in which they came.
        """
        ious = self.image_ious().float().cpu().sort().values
        if len(ious) == 0:
            return torch.full((self.groups,), float("nan"))
        generator = torch.Generator().manual_seed(self.seed)
        means = [ious[torch.randperm(len(ious), generator=generator)[: self.group_size]] for _ in range(self.groups)]
        return torch.stack([group.double().mean() for group in means]).float()

    def compute(self) -> Tensor:
        """Mean over the groups of the mean IoU of their images, a scalar in [0, 1]; NaN without an anomalous image."""
        return self.group_means().mean()


class _IoU(_GroupedIoU):
    """IoU between predicted masks and ground truth; see :class:`IoU`."""

    ious: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("ious", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Predicted masks, (B, H, W) or (B, 1, H, W), nonzero where anomalous.
            target: Ground truth masks, (B, H, W) or (B, 1, H, W), nonzero where anomalous.

        Raises:
            ValueError: If the shapes do not match.
        """
        preds, target = _flat_pairs(preds, target)
        preds = preds.bool()
        intersection = (preds & target).sum(dim=1)
        union = (preds | target).sum(dim=1)
        self.ious.append(intersection.float() / union.float())

    def image_ious(self) -> Tensor:
        """IoU of every anomalous image so far, shape (n,), in [0, 1]."""
        return dim_zero_cat(self.ious) if len(self.ious) > 0 else torch.zeros(0)


class _OracleIoU(_GroupedIoU):
    """IoU at the best threshold; see :class:`OracleIoU`."""

    curves: list[Tensor]
    thresholds: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("thresholds", threshold_grid(), persistent=False)
        self.add_state("curves", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Anomaly maps, (B, H, W) or (B, 1, H, W), in [0, 1].
            target: Ground truth masks, (B, H, W) or (B, 1, H, W), nonzero where anomalous.

        Raises:
            ValueError: If the shapes do not match.
        """
        preds, target = _flat_pairs(preds, target)
        if preds.numel() > 0 and (preds.amin() < 0 or preds.amax() > 1):
            logger.warning("OracleIoU expects anomaly maps in [0, 1]: the threshold is searched in that range only.")
        thresholds = self.thresholds.to(preds.device)
        self.curves.append(_iou_curves(preds.float().contiguous(), target, thresholds))

    def mean_curve(self) -> Tensor:
        """Mean IoU over all anomalous images at each of ``self.thresholds``, shape (T,), in [0, 1]."""
        return self._all_curves().cpu().double().mean(dim=0).float()

    def best_threshold(self) -> Tensor:
        """The threshold with the highest mean IoU over all anomalous images, a scalar (the lowest one, if several)."""
        return self.thresholds.cpu()[self.mean_curve().argmax()]

    def image_ious(self) -> Tensor:
        """IoU of every anomalous image at the best threshold, shape (n,), in [0, 1]."""
        curves = self._all_curves().cpu()
        return curves[:, self.mean_curve().argmax()] if len(curves) > 0 else curves[:, 0]

    def _all_curves(self) -> Tensor:
        return dim_zero_cat(self.curves) if len(self.curves) > 0 else torch.zeros(0, len(self.thresholds))


class IoU(AnomalibMetric, _IoU):  # type: ignore[misc]
    """Mean IoU over random groups of anomalous images, with the masks the model predicts (paper, Table 3).

    The masks come from the post-processor's threshold, which no test label has touched. Images without a single
    anomalous pixel are not counted. With fewer than ``group_size`` anomalous images, each group is all of them.

    Args:
        fields: Predicted and true mask in the batch, ``["pred_mask", "gt_mask"]`` by default.
        prefix: Put before the metric's name, for example ``"pixel_"``.
        strict: ``False``: batches without masks are passed over, and the value is ``None`` if there were no others.
        groups: Number of random groups (paper: 5).
        group_size: Images in a group (paper: 100).
        seed: Seed of the draw.
        **kwargs: Options of ``torchmetrics.Metric``.

    Examples:
        >>> import torch
        >>> from anomalib.data import ImageBatch
        >>> mask = torch.zeros(1, 4, 4, dtype=torch.bool)
        >>> mask[:, :2] = True
        >>> pred = torch.zeros(1, 4, 4, dtype=torch.bool)
        >>> pred[:, :1] = True
        >>> iou = IoU()
        >>> iou.update(ImageBatch(image=torch.rand(1, 3, 4, 4), pred_mask=pred, gt_mask=mask))
        >>> iou.compute()
        tensor(0.5000)
    """

    default_fields = ("pred_mask", "gt_mask")


class OracleIoU(AnomalibMetric, _OracleIoU):  # type: ignore[misc]
    """As :class:`IoU`, with the one threshold for all images that makes the mean IoU of the anomalous images highest.

    That threshold is chosen with the test labels: an upper bound, not a result. A pixel counts as anomalous where the
    map exceeds the threshold. Thresholds are those of :func:`threshold_grid`; per anomalous image, one IoU for each of
    them is kept (5 kB), not the map.

    Args:
        fields: Anomaly map and true mask in the batch, ``["anomaly_map", "gt_mask"]`` by default.
        prefix: Put before the metric's name, for example ``"pixel_"``.
        strict: ``False``: batches without masks are passed over, and the value is ``None`` if there were no others.
        groups: Number of random groups (paper: 5).
        group_size: Images in a group (paper: 100).
        seed: Seed of the draw.
        **kwargs: Options of ``torchmetrics.Metric``.
    """

    default_fields = ("anomaly_map", "gt_mask")


def threshold_grid() -> Tensor:
    """Thresholds at which :class:`OracleIoU` looks.

    1,000 even steps in [0, 1), and 100 geometric steps towards each end, from 1e-3 to 1e-6 away from it: raw maps of a
    good reconstruction crowd at 0, normalised maps of strong anomalies at 1.

    Returns:
        Shape (T,), ascending, float32, in [0, 1).
    """
    near_end = torch.logspace(-6, -3, 100, dtype=torch.float64)
    even = torch.arange(1000, dtype=torch.float64) / 1000
    return torch.cat([even, near_end, 1 - near_end]).float().unique()


def _flat_pairs(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten predictions and masks to (b, H*W), the images with an anomalous pixel only."""
    target = target.as_subclass(Tensor).bool()
    preds = preds.as_subclass(Tensor)
    if preds.shape[0] != target.shape[0] or preds.shape[-2:] != target.shape[-2:]:
        msg = f"Predictions and masks differ in shape: {tuple(preds.shape)} against {tuple(target.shape)}."
        raise ValueError(msg)
    preds, target = preds.flatten(1), target.flatten(1)
    if preds.shape != target.shape:
        msg = (
            f"Predictions and masks must have one channel, got {preds.shape[1]} and {target.shape[1]} values an image."
        )
        raise ValueError(msg)
    counted = target.any(dim=1)
    return preds[counted], target[counted].to(preds.device)


def _iou_curves(maps: Tensor, masks: Tensor, thresholds: Tensor) -> Tensor:
    """IoU of ``map > threshold`` with the mask, for each image and threshold.

    Args:
        maps: (b, n) float32.
        masks: (b, n) bool, at least one ``True`` in each row.
        thresholds: (T,) ascending.

    Returns:
        (b, T) float32 in [0, 1].
    """
    images, bins = len(maps), len(thresholds) + 1
    # bin i holds the pixels above exactly i thresholds
    index = torch.bucketize(maps, thresholds) + bins * torch.arange(images, device=maps.device)[:, None]
    total = torch.bincount(index.flatten(), minlength=images * bins).view(images, bins)
    hits = torch.bincount(index[masks], minlength=images * bins).view(images, bins)
    predicted = total.flip(1).cumsum(1).flip(1)[:, 1:]
    intersection = hits.flip(1).cumsum(1).flip(1)[:, 1:]
    union = predicted + masks.sum(dim=1, keepdim=True) - intersection
    return intersection.float() / union.float()
