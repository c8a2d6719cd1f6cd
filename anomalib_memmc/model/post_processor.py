"""Thresholds from normal images, and scores that never tie."""

import logging
from typing import Any, Literal, cast

import torch
from anomalib.data import Batch, InferenceBatch
from anomalib.post_processing import PostProcessor
from lightning import LightningModule, Trainer
from torch import Tensor

from anomalib_memmc.configurable import build
from anomalib_memmc.field_of_view import FieldOfView, level_outside
from anomalib_memmc.metrics.conformal import ConformalThreshold, conformal_threshold, fewest_normals
from anomalib_memmc.metrics.quantiles import NormalValues, quantile, subsample_pixels
from anomalib_memmc.model.normalization import normalize, scale_of
from anomalib_memmc.model.tissue import find_tissue, within

logger = logging.getLogger(__name__)

PIXELS_PER_IMAGE = 4096
"""Pixels kept from each normal validation map; 1,600 images then take 26 MB."""


class NormalQuantilePostProcessor(PostProcessor):
    r"""anomalib's post-processor for validation sets that may hold normal images only.

    **Threshold.** Where the validation set holds anomalous images (for pixels: anomalous masks), the threshold
    maximises F1 on it, as in anomalib. Where it does not, anomalib would take an extreme of the normals. Here the image
    threshold is the conformal rank of the normal images' scores (``metrics.conformal``): at most a share of
    ``false_alarm_rate`` of new normal images lies above it, if they are like those. Images of one patient or of one
    cluster share one vote, where the data module's samples have a column ``group``. The pixel threshold is a quantile
    of the maps' pixels. Validation images without a label are taken as normal.

    **Normalisation.** anomalib maps scores to [0, 1] with the validation set's minimum and maximum and clamps, so that
    all anomalies beyond the highest validation score tie at 1 and AUROC goes wrong silently. Here
    they stay apart: the threshold becomes 0.5, and the median of the normals about 0.25 (``model.normalization``).

    **Field of view.** With ``field_of_view``, pixels that show no tissue are left out: threshold and scale of the maps
    are learnt without them, none is predicted anomalous, and in a map they get the tissue's smallest value. Scores of
    images are the model's, and stay. Images are looked at in [0, 1]: where the model's pre-processor has a
    ``Normalize``, as in PaDiM and PatchCore, it is undone first. A model that is called or exported, not tested by a
    trainer, has to hand the images on, as MemMCMAE does.

    The same tensor operations run in ``Trainer.test`` and in the exported graph. Never validated, scores pass through
    unchanged, as in anomalib. anomalib's buffers and so its checkpoint keys are kept: ``image_min`` and ``image_max``
    (``pixel_min`` and ``pixel_max``) hold the two ends of the scale, here the median and the threshold of the normals
    (the extremes of all scores where validation held no normal image). Besides, the checkpoint holds ``normal_scores``,
    sorted, and ``promise``.

    Args:
        false_alarm_rate: Share of new normal images that may be called anomalous, in (0, 1). 5 % needs at least 19
            held-out normal images (or patients); with fewer a larger rate is promised, and said.
        pixel_quantile: Quantile of the normal images' map pixels that becomes the pixel threshold, in (0, 1].
        enable_normalization: Map scores and maps into (0, 1).
        enable_thresholding: Learn thresholds, and fill ``pred_label`` and ``pred_mask``.
        enable_threshold_matching: Use the image threshold for pixels when there is none for pixels, and vice versa.
        image_sensitivity: In [0, 1]: images with a normalised score above ``1 - image_sensitivity`` are flagged.
        pixel_sensitivity: The same for pixels.
        field_of_view: Finds the tissue of each image; ``None``: every pixel counts.

    Attributes:
        normal_scores: Raw scores of the held-out normal images, sorted (n,); empty before the first validation.
        promise: False-alarm rate that the threshold promises, the ends of its 95 % interval, and the number of
            independent normals behind it (4,); NaN where the threshold was not learnt from normals alone.

    Raises:
        ValueError: If the rate or the quantile is out of its range.
    """

    normal_scores: Tensor
    promise: Tensor

    def __init__(
        self,
        false_alarm_rate: float = 0.05,
        pixel_quantile: float = 0.99,
        *,
        enable_normalization: bool = True,
        enable_thresholding: bool = True,
        enable_threshold_matching: bool = True,
        image_sensitivity: float = 0.5,
        pixel_sensitivity: float = 0.5,
        field_of_view: FieldOfView | None = None,
    ) -> None:
        if not 0 < false_alarm_rate < 1:
            msg = f"false_alarm_rate must lie in (0, 1), got {false_alarm_rate}."
            raise ValueError(msg)
        if not 0 < pixel_quantile <= 1:
            msg = f"pixel_quantile must lie in (0, 1], got {pixel_quantile}."
            raise ValueError(msg)
        super().__init__(
            enable_normalization=enable_normalization,
            enable_thresholding=enable_thresholding,
            enable_threshold_matching=enable_threshold_matching,
            image_sensitivity=image_sensitivity,
            pixel_sensitivity=pixel_sensitivity,
        )
        self.false_alarm_rate = false_alarm_rate
        self.pixel_quantile = pixel_quantile
        self.field_of_view = field_of_view
        self._normal_scores = NormalValues()
        self._normal_pixels = NormalValues()
        self._row_of: dict[str, int] = {}
        self._groups: list[str] | None = None
        self.register_buffer("normal_scores", torch.empty(0))
        self.register_buffer("promise", torch.full((4,), float("nan")))

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        """Names of the settings that go into a checkpoint."""
        return (*super()._checkpoint_config_keys, "false_alarm_rate", "pixel_quantile")

    def checkpoint_config(self) -> dict[str, Any]:
        """Settings for a checkpoint, plain values."""
        field = self.field_of_view
        return {**super().checkpoint_config(), "field_of_view": None if field is None else field.config()}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Take the settings of a checkpoint, with which its thresholds were learnt."""
        super().load_checkpoint_config(config)
        if "field_of_view" in config:
            field = config["field_of_view"]
            self.field_of_view = None if field is None else build(field, FieldOfView)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier validation, also one that was interrupted, and learn which images belong together."""
        del pl_module
        self._reset()
        samples = getattr(getattr(getattr(trainer, "val_dataloaders", None), "dataset", None), "samples", None)
        self._row_of = {} if samples is None else {str(path): row for row, path in enumerate(samples["image_path"])}
        self._groups = None if samples is None or "group" not in samples else list(samples["group"].astype(str))

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
                where known ``gt_label`` (B,) and ``gt_mask`` (B, H, W). Its map is levelled outside the field of view.
            *args: Lightning's batch and indices.
            **kwargs: Lightning's keyword arguments.
        """
        tissue = self._tissue(outputs, pl_module)
        if tissue is not None:
            outputs.anomaly_map = level_outside(cast(Tensor, outputs.anomaly_map), tissue)
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)
        scores, maps, masks = outputs.pred_score, outputs.anomaly_map, outputs.gt_mask
        anomalous = _anomalous_images(outputs)
        if scores is not None:
            paths = getattr(outputs, "image_path", None) or [""] * len(anomalous)
            rows = torch.tensor([self._row_of.get(str(path), -1) for path in paths], device=scores.device)
            self._normal_scores.update(scores.flatten()[~anomalous], anomalous.sum(), rows[~anomalous])
        if maps is not None:
            counted = maps if tissue is None else torch.where(tissue, maps, torch.nan)  # NaN is dropped
            pixels = subsample_pixels(counted, PIXELS_PER_IMAGE)[~anomalous]
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
            normals, rows, anomalous = (part.flatten() for part in self._normal_scores.compute())
            self.normal_scores = normals.sort().values
            self.promise.fill_(float("nan"))
            learnt = self._conformal(normals, rows) if normals.numel() > 0 else None
            if self.enable_thresholding and anomalous > 0:
                self._image_threshold.copy_(self._image_threshold_metric.compute())
            elif self.enable_thresholding and learnt is not None:
                self._warn_of_few(learnt)
                self._image_threshold.fill_(learnt.value)
                self.promise.copy_(torch.tensor(learnt[1:]))
            low, high = self._scale_ends(normals, learnt and learnt.value, self._image_min_max_metric)
            self.image_min.copy_(low)
            self.image_max.copy_(high)
        if self._normal_pixels.update_called:
            normals, _, anomalous = (part.flatten() for part in self._normal_pixels.compute())
            if self.enable_thresholding and anomalous > 0:
                self._pixel_threshold.copy_(self._pixel_threshold_metric.compute())
            elif self.enable_thresholding and normals.numel() > 0:
                self._pixel_threshold.copy_(quantile(normals, self.pixel_quantile))
            top = quantile(normals, self.pixel_quantile).item() if normals.numel() > 0 else None
            low, high = self._scale_ends(normals, top, self._pixel_min_max_metric)
            self.pixel_min.copy_(low)
            self.pixel_max.copy_(high)
        self._reset()

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Post-process a batch of a test, whose images are as the model's pre-processor left them."""
        del trainer, args, kwargs
        self._post_process(outputs, self._tissue(outputs, pl_module))

    def on_predict_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """As for a batch of a test."""
        self.on_test_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def post_process_batch(self, batch: Batch) -> None:
        """Normalise a batch and apply the thresholds, in place.

        Args:
            batch: Batch with raw predictions; with a field of view its ``image`` must be in [0, 1].
        """
        self._post_process(batch, self._tissue(batch))

    def forward(self, predictions: InferenceBatch, images: Tensor | None = None) -> InferenceBatch:
        """Normalise predictions and apply the thresholds; called by exported models and by a direct call of the model.

        Args:
            predictions: Raw ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W), of which one may be ``None``.
            images: The images (B, C, H, W) in [0, 1] that they are of; needed for a field of view only.

        Returns:
            Normalised scores and maps, and by the thresholds ``pred_label`` and ``pred_mask``.

        Raises:
            ValueError: If there are no predictions, or a field of view is to be found without images.
        """
        if self.field_of_view is None or predictions.anomaly_map is None:
            return super().forward(predictions)
        if images is None:
            msg = (
                "A field of view is found in the images, and this model hands its post-processor none when it is "
                "called or exported. Test and predict with a trainer, call post_processor(predictions, images), or "
                "set post_processor.field_of_view = None, and every pixel of maps and masks counts."
            )
            raise ValueError(msg)
        tissue = find_tissue(self.field_of_view, images, predictions.anomaly_map)
        result = super().forward(predictions._replace(anomaly_map=level_outside(predictions.anomaly_map, tissue)))
        return result._replace(pred_mask=within(result.pred_mask, tissue))

    def _post_process(self, batch: Batch, tissue: Tensor | None) -> None:
        """As anomalib does, but outside the tissue maps are levelled and no pixel is anomalous."""
        if tissue is not None:
            batch.anomaly_map = level_outside(cast(Tensor, batch.anomaly_map), tissue)
        super().post_process_batch(batch)
        if tissue is not None:
            batch.pred_mask = within(batch.pred_mask, tissue)

    def _tissue(self, batch: Batch, pl_module: Any = None) -> Tensor | None:
        """Which pixels of a batch's maps show tissue; ``None`` where every pixel counts."""
        if self.field_of_view is None or batch.anomaly_map is None:
            return None
        transform = getattr(getattr(pl_module, "pre_processor", None), "transform", None)
        return find_tissue(self.field_of_view, cast(Tensor, batch.image), batch.anomaly_map, transform)

    @property
    def normalized_image_threshold(self) -> Tensor:
        """Threshold for ``pred_score`` as this object hands it out: raw where normalisation is off."""
        return super().normalized_image_threshold if self.enable_normalization else self.raw_threshold("image")

    @property
    def normalized_pixel_threshold(self) -> Tensor:
        """Threshold for ``anomaly_map`` as this object hands it out: raw where normalisation is off."""
        return super().normalized_pixel_threshold if self.enable_normalization else self.raw_threshold("pixel")

    def raw_threshold(self, part: Literal["image", "pixel"]) -> Tensor:
        """Threshold for scores or maps before normalisation: the learnt one, moved by its sensitivity.

        anomalib compares raw scores with 0.5 where normalisation is off; here the normalisation is undone instead.

        Args:
            part: Whether for images or for pixels.

        Returns:
            A scalar; NaN before the first validation.
        """
        learnt = getattr(self, f"{part}_threshold")
        signed = 1 - 2 * torch.as_tensor(getattr(self, f"{part}_sensitivity"), device=learnt.device)
        return learnt + self.scale(part) * signed / (1 - signed.abs())

    def scale(self, part: Literal["image", "pixel"]) -> Tensor:
        """What scores or maps are divided by when they are normalised, see :func:`normalize`.

        Args:
            part: Whether of images or of pixels.

        Returns:
            A scalar, positive; NaN before the first validation.
        """
        learnt, low, high = (getattr(self, f"{part}_{name}") for name in ("threshold", "min", "max"))
        return scale_of(low, high, learnt)

    def _conformal(self, normals: Tensor, rows: Tensor) -> ConformalThreshold:
        """The threshold of the normal images."""
        groups = None
        if self._groups is not None and (rows >= 0).all():
            groups = [self._groups[row] for row in rows.tolist()]
        return conformal_threshold(normals.cpu().numpy(), self.false_alarm_rate, groups)

    def _warn_of_few(self, learnt: ConformalThreshold) -> None:
        """Say so where the normal images are too few for the rate."""
        if learnt.rate > self.false_alarm_rate + 1e-9:
            logger.warning(
                "%d independent normal images are too few for a false-alarm rate of %.3g: it takes %d. The threshold "
                "is the highest of their scores, which promises %.3g. Hold out more (num_val_normal, val_split_ratio).",
                learnt.num_normals,
                self.false_alarm_rate,
                fewest_normals(self.false_alarm_rate),
                learnt.rate,
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Make room for as many scores of normal images as the checkpoint holds."""
        saved = state_dict.get(f"{prefix}normal_scores")
        if saved is not None:
            self.normal_scores = self.normal_scores.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @staticmethod
    def _scale_ends(normals: Tensor, upper: float | None, extremes: Any) -> tuple[Tensor, Tensor]:
        """Median and upper end of the normals, or the extremes of all scores if there is no normal, or NaN."""
        if upper is not None:
            median, top = quantile(normals, 0.5), torch.tensor(upper, device=normals.device)
            return torch.minimum(median, top), torch.maximum(median, top)
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
        """As :func:`~anomalib_memmc.model.normalization.normalize`; anomalib's name for it."""
        return None if preds is None else normalize(preds, norm_min, norm_max, threshold)


def _anomalous_images(batch: Any) -> Tensor:
    """Which images are labelled anomalous, bool of shape (B,): by label, else by mask; all ``False`` without both."""
    if batch.gt_label is not None:
        return batch.gt_label.flatten().bool()
    if batch.gt_mask is not None:
        return batch.gt_mask.flatten(1).any(dim=1)
    return torch.zeros(len(batch), dtype=torch.bool, device=batch.image.device)
