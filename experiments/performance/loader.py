"""Images a second that the loader delivers, against those that training consumes."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import RandomResizedCrop

from anomalib_memmc.data import MedicalImageDataset, make_samples
from anomalib_memmc.data.base.cache import ImageCache
from anomalib_memmc.data.phantom.radiograph import paint_radiograph
from experiments.performance.table import Table
from experiments.performance.timing import take_turns

SIDE = 1024  # of a radiograph on the disk


def loader(consumed: dict[str, float], images: int) -> Table:
    """Time epochs with and without the cache.

    Args:
        consumed: Images a second that a training takes, by its name.
        images: Images of an epoch.

    Returns:
        The table.
    """
    crop = RandomResizedCrop(224, scale=(0.2, 1.0), antialias=True)
    rates = _rates(crop, images)
    small = torch.rand(32, 3, 256, 256)
    seconds = take_turns({"each": lambda: [crop(image) for image in small], "batch": lambda: crop(small)}, rounds=5)
    unit = next(iter(rates.values()))
    rows = [(name, f"{rate:.0f}", f"{rate / unit:.1f}") for name, rate in rates.items()]
    rows += [(f"consumed in training, {name}", f"{rate:.1f}", f"{rate / unit:.2f}") for name, rate in consumed.items()]
    note = (
        f"{images} generated radiographs, RandomResizedCrop to 224 px, one process without workers. RandomResizedCrop "
        f"alone: {32 / seconds['each'].median:.0f} images/s one by one, {32 / seconds['batch'].median:.0f} on a batch, "
        "which cuts the same rectangle out of all its images."
    )
    return Table("Loader", ("", "images/s", "of decoding"), rows, note)


def _rates(crop: RandomResizedCrop, images: int) -> dict[str, float]:
    """Images a second of an epoch, first without the cache."""
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        for index in range(images):
            path = folder / f"{index}.png"
            pixels, _ = paint_radiograph(np.random.default_rng(index), SIDE, anomalous=False)
            Image.fromarray(pixels[..., 0]).save(path)
            rows.append({"image_path": str(path), "label_index": 0, "split": "train"})
        samples = make_samples(rows)
        plain = MedicalImageDataset(samples, augmentations=crop)
        cached = MedicalImageDataset(samples, augmentations=crop, cache=ImageCache("disk", 256, folder / "cache"))
        _epoch(plain)  # the files are in the system's cache from here on
        return {
            f"decoding {SIDE:,} px PNGs": _epoch(plain),
            "with the cache, first epoch": _epoch(cached),
            "with the cache, later epochs": statistics.median(_epoch(cached) for _ in range(3)),
        }


def _epoch(dataset: MedicalImageDataset) -> float:
    """Images a second of one epoch without workers."""
    batches = DataLoader(dataset, batch_size=8, collate_fn=dataset.collate_fn)
    start = time.perf_counter()
    for _ in batches:
        pass
    return len(dataset) / (time.perf_counter() - start)
