"""Where a scorer learns from normal images: the one way in."""

import logging
from collections.abc import Iterator
from copy import copy
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Subset

logger = logging.getLogger(__name__)


class FitScorer(Callback):
    """Fit a model's scorer to its normal training images: before each validation, and after the last step.

    The images are taken as a validation sees them, without training augmentations, so that thresholds, checkpoints and
    tests all use the scores of the weights at hand. It costs one pass of scoring over the training images. Of several
    processes each takes its share, and the scorer gathers what they measured. A test or a prediction with a scorer
    that has never been fitted is warned of.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fitted_at = -1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit, if this validation is part of a training and not its sanity check."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._fit(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit to the final weights, if no validation has."""
        is_last = trainer.global_step >= trainer.estimated_stepping_batches or trainer.should_stop
        if is_last and self._fitted_at != trainer.global_step:
            self._fit(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where nothing was learnt."""
        del trainer
        scorer = cast(Any, pl_module.model).scorer
        if not scorer.is_fitted:
            logger.warning(
                "%s knows no normal images yet, so its scores mean little: train the model, or pass its checkpoint.",
                type(scorer).__name__,
            )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where nothing was learnt."""
        self.on_test_start(trainer, pl_module)

    def _fit(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = cast(Any, pl_module.model)
        if not model.scorer.learns:
            return
        was_training = model.training
        model.eval()
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            model.scorer.fit(model.network, _NormalImages(trainer, pl_module))
        model.scorer.is_fitted.fill_(True)
        model.train(was_training)
        self._fitted_at = trainer.global_step


class _NormalImages:
    """Batches of this process's share of the normal training images, pre-processed as in a validation."""

    def __init__(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pl_module = cast(Any, pl_module)
        self.transform = getattr(pl_module.pre_processor, "transform", None)
        self.loader = _share(_normal_loader(trainer, self.transform), trainer.global_rank, trainer.world_size)

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.loader:
            images = batch.image.to(self.pl_module.device)
            images = self.transform(images) if self.transform else images
            yield self.pl_module.model.network.check(images)


def _normal_loader(trainer: Trainer, transform: Any) -> DataLoader:
    """The loader that the data module offers, or the training set of one that offers none, without augmentations."""
    offered = getattr(cast(Any, trainer).datamodule, "normal_dataloader", None)
    if offered is not None:
        return offered()
    training = cast(DataLoader, trainer.train_dataloader)
    dataset = copy(training.dataset)
    if hasattr(dataset, "augmentations"):  # anomalib's data modules set them after they made the data set, as here
        validation = getattr(trainer.val_dataloaders, "dataset", None)
        dataset.augmentations = getattr(validation, "augmentations", transform)
    return _loader(dataset, training)


def _share(loader: DataLoader, rank: int, world_size: int) -> DataLoader:
    """Every ``world_size``-th image from number ``rank`` on, none twice."""
    if world_size == 1:
        return loader
    return _loader(Subset(loader.dataset, range(rank, len(cast(Any, loader.dataset)), world_size)), loader)


def _loader(dataset: Any, like: DataLoader) -> DataLoader:
    """A loader in order, with the settings of another, that leaves the global random state alone."""
    return DataLoader(
        dataset,
        batch_size=like.batch_size,
        num_workers=like.num_workers,
        collate_fn=like.collate_fn,
        generator=torch.Generator(),  # a loader draws a seed; training must not notice
    )
