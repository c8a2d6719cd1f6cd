"""The normal training images as a validation sees them: what scorers and targets learn from."""

from collections.abc import Iterator
from copy import copy
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Subset


class NormalImages:
    """Batches of the normal training images, pre-processed as in a validation, without augmentations.

    Args:
        trainer: The trainer, with its data.
        pl_module: The model.
        shared: Whether each of several processes takes its share, or all of them.
    """

    def __init__(self, trainer: Trainer, pl_module: LightningModule, shared: bool = True) -> None:
        self.pl_module = cast(Any, pl_module)
        self.transform = getattr(pl_module.pre_processor, "transform", None)
        loader = _normal_loader(trainer, self.transform)
        self.loader = _share(loader, trainer.global_rank, trainer.world_size) if shared else loader

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
        pin_memory=like.pin_memory,
        generator=torch.Generator(),  # a loader draws a seed; training must not notice
    )
