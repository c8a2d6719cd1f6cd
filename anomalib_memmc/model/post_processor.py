"""Thresholds from normal images, and scores that never tie."""

from typing import Any

import torch
from anomalib.data import Batch
from anomalib.post_processing import PostProcessor
from lightning import LightningModule, Trainer
from torch import Tensor

from anomalib_memmc.metrics.quantiles import NormalValues, quantile, subsample_pixels

PIXELS_PER_IMAGE = 4096
"""Pixels kept from each normal validation map; 1,600 images then take 26 MB."""

RELATIVE_FLOOR = 0.01
"""Smallest scale, as a fraction of the threshold: keeps nearly identical normals from blowing up every difference."""


class NormalQuantilePostProcessor(PostProcessor):
    r"""anomalib's post-processor for validation sets that may hold normal images only.

    **Threshold.** Where the validation set holds anomalous images (for pixels: anomalous masks), the threshold
    maximises F1 on it, as in anomalib. Where it does not, anomalib would take an extreme of the normals; here it is a
    quantile of the normal images' scores, or of their maps' pixels: with ``image_quantile=0.95``, one normal image in
    twenty is flagged. Validation images without a label are taken as normal.

    **Normalisation.** anomalib maps scores to [0, 1] with the validation set's minimum and maximum and clamps, so that
    all anomalies beyond the highest validation score tie at 1 and AUROC goes wrong silently. Here

    .. math:: s' = \frac12 + \frac12 \frac{z}{1 + |z|}, \qquad z = \frac{s - \text{threshold}}{\text{scale}},

    which is 0.5 at the threshold, strictly increasing and never quite 0 or 1. The scale is the distance from
    the median to the quantile of the normals, so that a typical normal image comes out near 0.25; it is at least 1 %
    of the threshold, and 1 where both are zero. In float32, scores 100 scales above the threshold stay apart if they
    differ by more than 1 in 80,000, at 1,000 scales by 1 in 8,000.

    The same tensor operations run in ``Trainer.test`` and in the exported graph. Never validated, scores pass through
    unchanged, as in anomalib. anomalib's buffers and so its checkpoint keys are kept: ``image_min`` and ``image_max``
    (``pixel_min`` and ``pixel_max``) hold the two ends of the scale, here the median and the quantile of the normals
    (the extremes of all scores where validation held no normal image).

    Args:
        image_quantile: Quantile of the normal images' scores that becomes the image threshold, in (0, 1].
        pixel_quantile: Quantile of the normal images' map pixels that becomes the pixel threshold, in (0, 1].
        enable_normalization: Map scores and maps into (0, 1).
        enable_thresholding: Learn thresholds, and fill ``pred_label`` and ``pred_mask``.
        enable_threshold_matching: Use the image threshold for pixels when there is none for pixels, and vice versa.
        image_sensitivity: In [0, 1]: images with a normalised score above ``1 - image_sensitivity`` are flagged.
        pixel_sensitivity: The same for pixels.

    Raises:
        ValueError: If a quantile lies outside (0, 1].
    """

    def __init__(
        self,
        image_quantile: float = 0.95,
        pixel_quantile: float = 0.99,
        *,
        enable_normalization: bool = True,
        enable_thresholding: bool = True,
        enable_threshold_matching: bool = True,
        image_sensitivity: float = 0.5,
        pixel_sensitivity: float = 0.5,
    ) -> None:
        for name, level in (("image_quantile", image_quantile), ("pixel_quantile", pixel_quantile)):
            if not 0 < level <= 1:
                msg = f"{name} must lie in (0, 1], got {level}."
                raise ValueError(msg)
        super().__init__(
            enable_normalization=enable_normalization,
            enable_thresholding=enable_thresholding,
            enable_threshold_matching=enable_threshold_matching,
            image_sensitivity=image_sensitivity,
            pixel_sensitivity=pixel_sensitivity,
        )
        self.image_quantile = image_quantile
        self.pixel_quantile = pixel_quantile
        self._normal_scores = NormalValues()
        self._normal_pixels = NormalValues()

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        """Names of the settings that go into a checkpoint."""
        return (*super()._checkpoint_config_keys, "image_quantile", "pixel_quantile")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier validation, also one that was interrupted."""
        del trainer, pl_module
        self._reset()

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Batch,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Collect a validation batch: all of it for anomalib's metrics, the normal images for the quantiles.

        Args:
            trainer: Lightning's trainer.
            pl_module: The model.
            outputs: Batch with raw predictions: ``pred_score`` (B,), ``anomaly_map`` (B, H, W) or (B, 1, H, W), and
                where known ``gt_label`` (B,) and ``gt_mask`` (B, H, W).
            *args: Lightning's batch and indices.
            **kwargs: Lightning's keyword arguments.
        """
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)
        scores, maps, masks = outputs.pred_score, outputs.anomaly_map, outputs.gt_mask
        anomalous = _anomalous_images(outputs)
        if scores is not None:
            self._normal_scores.update(scores.flatten()[~anomalous], anomalous.sum())
        if maps is not None:
            pixels = subsample_pixels(maps, PIXELS_PER_IMAGE)[~anomalous]
            with_mask = torch.zeros_like(anomalous) if masks is None else masks.flatten(1).any(dim=1)
            self._normal_pixels.update(pixels, with_mask.sum())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Turn what was collected into thresholds and scales.

        Args:
            trainer: Lightning's trainer.
            pl_module: The model.
        """
        del trainer, pl_module
        if self._normal_scores.update_called:
            normals, anomalous = self._normal_scores.compute()
            if self.enable_thresholding and anomalous > 0:
                self._image_threshold.copy_(self._image_threshold_metric.compute())
            elif self.enable_thresholding and normals.numel() > 0:
                self._image_threshold.copy_(quantile(normals, self.image_quantile))
            low, high = self._scale_ends(normals, self.image_quantile, self._image_min_max_metric)
            self.image_min.copy_(low)
            self.image_max.copy_(high)
        if self._normal_pixels.update_called:
            normals, anomalous = self._normal_pixels.compute()
            if self.enable_thresholding and anomalous > 0:
                self._pixel_threshold.copy_(self._pixel_threshold_metric.compute())
            elif self.enable_thresholding and normals.numel() > 0:
                self._pixel_threshold.copy_(quantile(normals, self.pixel_quantile))
            low, high = self._scale_ends(normals, self.pixel_quantile, self._pixel_min_max_metric)
            self.pixel_min.copy_(low)
            self.pixel_max.copy_(high)
        self._reset()

    @property
    def normalized_image_threshold(self) -> Tensor:
        """Threshold for ``pred_score`` as this object hands it out: raw where normalisation is off."""
        return self._threshold_for_output(
            self.image_threshold, self.image_min, self.image_max, super().normalized_image_threshold
        )

    @property
    def normalized_pixel_threshold(self) -> Tensor:
        """Threshold for ``anomaly_map`` as this object hands it out: raw where normalisation is off."""
        return self._threshold_for_output(
            self.pixel_threshold, self.pixel_min, self.pixel_max, super().normalized_pixel_threshold
        )

    def _threshold_for_output(self, raw: Tensor, low: Tensor, high: Tensor, normalized: Tensor) -> Tensor:
        """Undo the normalisation of a threshold where scores are not normalised (anomalib compares them with 0.5)."""
        if self.enable_normalization:
            return normalized
        signed = 2 * normalized.to(raw.device) - 1
        return raw + _scale(low, high, raw) * signed / (1 - signed.abs())

    @staticmethod
    def _scale_ends(normals: Tensor, level: float, extremes: Any) -> tuple[Tensor, Tensor]:
        """Median and quantile of the normals, or the extremes of all scores if there is no normal, or NaN."""
        if normals.numel() > 0:
            median, high = quantile(normals, 0.5), quantile(normals, level)
            return torch.minimum(median, high), torch.maximum(median, high)
        if extremes.update_called:
            low, high = extremes.compute()
            return low, high
        nan = torch.tensor(float("nan"))
        return nan, nan

    def _reset(self) -> None:
        """Empty all metrics."""
        for metric in (
            self._normal_scores,
            self._normal_pixels,
            self._image_threshold_metric,
            self._pixel_threshold_metric,
            self._image_min_max_metric,
            self._pixel_min_max_metric,
        ):
            metric.reset()

    @staticmethod
    def _normalize(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
        """Map scores into (0, 1) with 0.5 at the threshold, strictly increasing.

        Args:
            preds: Raw scores or maps of any shape, or ``None``. Half precision is widened to float32.
            norm_min: Lower end of the scale, a scalar; NaN before the first validation.
            norm_max: Upper end of the scale, a scalar; NaN before the first validation.
            threshold: Raw threshold, a scalar; where NaN, ``norm_max`` takes its place.

        Returns:
            Normalised values of the same shape; ``preds`` where the scale is NaN; ``None`` for ``None``.
        """
        if preds is None:
            return None
        if preds.dtype in {torch.float16, torch.bfloat16}:
            preds = preds.float()
        threshold = torch.where(torch.isnan(threshold), norm_max, threshold)
        z = (preds - threshold) / _scale(norm_min, norm_max, threshold)
        normalized = 0.5 + 0.5 * z / (1 + z.abs())
        return torch.where(torch.isnan(norm_min) | torch.isnan(norm_max), preds, normalized)


def _scale(low: Tensor, high: Tensor, threshold: Tensor) -> Tensor:
    """Distance between the ends of the scale, floored (see the class), always positive or NaN."""
    scale = torch.maximum(high - low, RELATIVE_FLOOR * threshold.abs())
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _anomalous_images(batch: Any) -> Tensor:
    """Which images are labelled anomalous, bool of shape (B,): by label, else by mask; all ``False`` without both."""
    if batch.gt_label is not None:
        return batch.gt_label.flatten().bool()
    if batch.gt_mask is not None:
        return batch.gt_mask.flatten(1).any(dim=1)
    return torch.zeros(len(batch), dtype=torch.bool, device=batch.image.device)
