"""Images of a data set as a model takes them, in batches that may be gone through several times."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from anomalib_memmc.model import MemMCMAE

BATCH = 16
_KEPT = 2**30  # bytes


class Images(Iterable[Tensor]):
    """Pre-processed images (B, C, H, W) of a data set, 16 a batch.

    They are kept in memory up to a GiB; more of them are read from their files each time.

    Args:
        dataset: A data set of anomalib, with images (3, H, W) in [0, 1].
        model: The model whose pre-processor prepares them, on the device that they go to.
        rows: Which images to take; None takes all.
    """

    def __init__(self, dataset: Any, model: MemMCMAE, rows: Sequence[int] | None = None) -> None:
        self.dataset = dataset
        self.rows = range(len(dataset)) if rows is None else rows
        self.transform = getattr(model.pre_processor, "transform", None)
        self.device = model.device
        self.check = model.model.network.check
        bytes_each = 4 * model.model.network.in_channels * math.prod(model.model.network.image_size)
        self.kept = list(self._read()) if len(self) * bytes_each <= _KEPT else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        """Go through the batches."""
        for images in self._read() if self.kept is None else self.kept:
            yield images.to(self.device)

    def _read(self) -> Iterator[Tensor]:
        for start in range(0, len(self), BATCH):
            images = [self.dataset[row].image.as_subclass(Tensor) for row in self.rows[start : start + BATCH]]
            yield self.check(torch.stack(images if self.transform is None else [*map(self.transform, images)]))
