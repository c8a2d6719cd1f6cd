"""Loaders whose workers stay from epoch to epoch, and that a run resumes exactly."""

import random
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info


class EpochSeed:
    """A number that a loader draws in each epoch, and that its workers see: what they draw for an image depends on it.

    Workers that stay go on drawing where the last epoch left them, and those of a resumed run begin anew. So an image's
    random numbers come from the epoch's seed and the image's index alone, whichever worker reads it and whatever it
    has read before. It is the loader's ``worker_init_fn``: workers give it to their copy of the dataset, whose
    ``epoch_seed`` it becomes.
    """

    def __init__(self) -> None:
        self.value = torch.zeros((), dtype=torch.int64).share_memory_()

    def draw(self) -> None:
        """Draw the seed of an epoch from PyTorch's global generator."""
        self.value.random_()

    def __call__(self, worker: int) -> None:
        """Have a worker's dataset seed its images."""
        del worker
        cast(Any, get_worker_info()).dataset.epoch_seed = self

    def seed_image(self, index: int) -> None:
        """Seed the generators of Python, NumPy and PyTorch's CPU for an image.

        Args:
            index: The image's place in the dataset, >= 0.
        """
        words = np.random.SeedSequence([int(self.value), index]).generate_state(4)
        random.seed(int(words[0]))
        np.random.seed(words[1])  # noqa: NPY002  augmentations may use it
        torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


class LastingLoader(DataLoader):
    """A loader that keeps its workers between epochs.

    It takes one number an epoch from PyTorch's global generator, as one with new workers does, and orders images alike.
    Make it with :func:`lasting_loader`.
    """

    worker_init_fn: EpochSeed

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Begin an epoch."""
        self.worker_init_fn.draw()
        return super().__iter__()


def lasting_loader(dataset: Any, workers: int, **arguments: Any) -> LastingLoader:
    """Make a loader that keeps its workers.

    Args:
        dataset: A dataset with an ``epoch_seed``, which it heeds where that is not ``None``.
        workers: How many, >= 1.
        arguments: Others of ``DataLoader``, without ``generator``.

    Returns:
        The loader.
    """
    return LastingLoader(
        dataset,
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=EpochSeed(),
        generator=torch.Generator(),  # for the seeds of new workers, which they do not use
        **arguments,
    )
