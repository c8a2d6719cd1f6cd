"""Images of a list of paths, decoded beside the scoring; one that cannot be read is a value, not an exception."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from anomalib.data.transforms.utils import extract_transforms_by_type
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import Compose, Resize

from anomalib_memmc.data import read_image
from anomalib_memmc.detection.paths import Paths
from anomalib_memmc.model import MemMCMAE


class Read(NamedTuple):
    """One image file, read.

    Attributes:
        path: The file.
        image: Pre-processed image (C, H, W) of the model's size; None where there was an error.
        error: What was wrong with it; None where nothing was.
        seconds: What reading took.
    """

    path: str
    image: Tensor | None
    error: str | None
    seconds: float


class ImageReader:
    """Reads an image as a test of the model does: our reader, then the model's pre-processing.

    What a data module does besides, such as the crop of ``HyperKvasir``, is not in a checkpoint, and is not done.

    Args:
        model: The model.
    """

    def __init__(self, model: MemMCMAE) -> None:
        transform = getattr(model.pre_processor, "transform", None)
        resizes = extract_transforms_by_type(transform, Resize)[:1]  # anomalib's data modules do it first
        self.steps = Compose([*resizes, *([] if transform is None else [transform])]) if transform else None
        self.size = tuple(model.model.network.image_size)

    def __call__(self, path: str) -> Read:
        """Read one file; whatever goes wrong is in the result."""
        start = time.perf_counter()
        image, error = None, None
        try:
            image = self._prepared(read_image(path))
        except Exception as trouble:  # one file of an archive must not end the run, whatever its decoder raises
            error = str(trouble) or type(trouble).__name__
        return Read(path, image, error, time.perf_counter() - start)

    def _prepared(self, image: Any) -> Tensor:
        image = (image if self.steps is None else self.steps(image)).as_subclass(Tensor)
        if tuple(image.shape[-2:]) != self.size:
            found, taken = (f"{width} x {height}" for height, width in (image.shape[-2:], self.size))
            msg = f"After pre-processing the image is {found} pixels, and the model takes {taken}."
            raise ValueError(msg)
        return image


def read_batches(reader: ImageReader, paths: Paths, batch_size: int, workers: int) -> Iterator[list[Read]]:
    """Read files in order, in worker processes beside the caller.

    Args:
        reader: Reads one.
        paths: The files.
        batch_size: Images a batch.
        workers: Processes; with 0 the caller reads.
    """
    generator = torch.Generator()  # a loader draws a seed for its workers
    yield from DataLoader(_Files(reader, paths), batch_size, num_workers=workers, collate_fn=list, generator=generator)


class _Files(Dataset[Read]):
    """Files of a list, by number."""

    def __init__(self, reader: ImageReader, paths: Paths) -> None:
        self.reader, self.paths = reader, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Read:
        return self.reader(self.paths[index])
