"""What the error maps of normal images look like, so that a score can tell unusual errors from usual ones (ours)."""

import logging
from collections.abc import Iterator
from copy import copy
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

logger = logging.getLogger(__name__)

_RIDGE = 1e-6
_LEAST_SPREAD = 0.1  # of a cell, such as one in a black border, to the root mean square of all


class NormalErrors(nn.Module):
    """Mean and covariance of the errors of normal images, cell by cell, and the Mahalanobis distance from them.

    A map is pooled to square cells, and the root of each cell's mean error is taken: roots of squared errors and of
    ``1 - SSIM`` are distances and closer to Gaussian. Some places of an image are always hard and neighbours err
    together; the covariance knows both. Cells are standardised by their own mean and spread (no spread counts as less
    than a tenth of the typical one), and the correlations are Ledoit and Wolf's, which are well conditioned with fewer
    images than cells. Before :meth:`fit` the distance is the root of the map's mean, so that it ranks images as the
    mean does.

    Args:
        image_size: Height and width of the maps in pixels.
        cell_size: Side of a cell in pixels; must divide both.
    """

    def __init__(self, image_size: tuple[int, int], cell_size: int) -> None:
        super().__init__()
        self.cell_size = cell_size
        cells = (image_size[0] // cell_size) * (image_size[1] // cell_size)
        self.mean: Tensor
        self.whitening: Tensor
        self.is_fitted: Tensor
        self.register_buffer("mean", torch.zeros(cells))
        self.register_buffer("whitening", torch.eye(cells))
        self.register_buffer("is_fitted", torch.tensor(False))

    def cells(self, maps: Tensor) -> Tensor:
        """Root of the mean error of each cell, (B, 1, H, W) >= 0 -> (B, cells), float32."""
        return functional.avg_pool2d(maps.float(), self.cell_size).flatten(1).clamp(min=0).sqrt()

    def fit(self, cells: Tensor) -> None:
        """Learn mean and covariance.

        Args:
            cells: What :meth:`cells` gives for the maps of normal images (images, cells).

        Raises:
            ValueError: If there are fewer than two images.
        """
        if len(cells) < 2:
            msg = f"score_reduction='mahalanobis' needs at least 2 normal training images, got {len(cells)}."
            raise ValueError(msg)
        values = cells.cpu().double()
        mean, spread = values.mean(dim=0), values.std(dim=0, correction=0)
        typical = spread.square().mean().sqrt().item()
        spread = spread.clamp(min=max(_LEAST_SPREAD * typical, 1e-6))
        covariance = torch.from_numpy(LedoitWolf().fit(((values - mean) / spread).numpy()).covariance_)
        covariance += _RIDGE * torch.eye(len(mean))
        self.mean.copy_(mean)
        self.whitening.copy_(torch.linalg.cholesky(covariance.inverse()).mT / spread)
        self.is_fitted.fill_(True)

    def forward(self, maps: Tensor) -> Tensor:
        """Root mean square of the whitened deviations: about 1 for a training image, higher for an unusual one.

        Args:
            maps: Errors (B, 1, H, W), >= 0.

        Returns:
            Distances (B,), float32, >= 0.
        """
        with torch.autocast(device_type=maps.device.type, enabled=False):
            deviations = functional.linear(self.cells(maps) - self.mean.float(), self.whitening.float())
            return deviations.square().mean(dim=1).sqrt()


class MeasureNormalErrors(Callback):
    """Fit a model's ``NormalErrors`` to its normal training images: before each validation, and after the last step.

    A test or a prediction without that is warned of, since its scores rank images by the mean of the map only.

    The images are taken as a validation sees them, without training augmentations, so that thresholds, checkpoints and
    tests all use the distances of the weights at hand. It costs one pass of scoring over the training images. Every
    process measures all images, so all processes agree.
    """

    def __init__(self) -> None:
        super().__init__()
        self._measured_at = -1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, if this validation is part of a training and not its sanity check."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the final weights, if no validation has."""
        is_last = trainer.global_step >= trainer.estimated_stepping_batches or trainer.should_stop
        if is_last and self._measured_at != trainer.global_step:
            self._measure(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where nothing was measured."""
        del trainer
        if not cast(Any, pl_module.model).normal_errors.is_fitted:
            logger.warning(
                "score_reduction='mahalanobis' knows no normal images yet: train the model, or pass its checkpoint. "
                "Until then scores rank images by the mean of the map."
            )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where nothing was measured."""
        self.on_test_start(trainer, pl_module)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = cast(Any, pl_module.model)
        was_training = model.training
        model.eval()
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            cells = [model.error_cells(images) for images in _normal_images(trainer, pl_module)]
            model.normal_errors.fit(torch.cat(cells))
        model.train(was_training)
        self._measured_at = trainer.global_step


def _normal_images(trainer: Trainer, pl_module: LightningModule) -> Iterator[Tensor]:
    """Batches of all training images, pre-processed as in a validation."""
    loader = cast(DataLoader, trainer.train_dataloader)
    generator = torch.Generator()  # a loader draws a seed; training must not notice
    transform = getattr(pl_module.pre_processor, "transform", None)
    dataset = copy(loader.dataset)
    if hasattr(dataset, "cache"):
        dataset.cache = None  # a cached image is resized twice, which changes its errors
    if hasattr(dataset, "augmentations"):
        validation = getattr(trainer.val_dataloaders, "dataset", None)
        dataset.augmentations = getattr(validation, "augmentations", transform)
    for batch in DataLoader(
        dataset,
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        generator=generator,
    ):
        images = batch.image.to(pl_module.device)
        yield transform(images) if transform else images
