"""A JPEG on its way into the cache: whole, and at the reduced size that suffices."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anomalib_memmc.data import MedicalImageDataset, make_samples, read_image
from anomalib_memmc.data.base.cache import ImageCache
from anomalib_memmc.data.phantom.colonoscopy import paint_colonoscopy
from anomalib_memmc.data.phantom.radiograph import paint_radiograph
from experiments.performance.files import save_jpeg
from experiments.performance.table import Table
from experiments.performance.timing import take_turns

SIZE = 256  # of the cache


def reduced(sides: tuple[int, ...], rounds: int) -> Table:
    """Time both ways and compare what the cache then holds.

    Args:
        sides: Sides of the pictures in pixels.
        rounds: Rounds that count.

    Returns:
        The table.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for side in sides:
            rng = np.random.default_rng(0)
            grey, colour = (paint(rng, side, anomalous=False)[0] for paint in (paint_radiograph, paint_colonoscopy))
            for kind, pixels in (("grey", grey[..., 0]), ("colour", colour)):
                path = Path(name, f"{side}-{kind}.jpg")
                save_jpeg(pixels, path)
                rows.append((f"{side:,} px, {kind}", *_compare(path, Path(name), rounds)))
    header = ("", "ms, whole", "ms, reduced", "times as fast", "largest difference, of 255", "mean")
    note = f"Reading a JPEG, shrinking it to {SIZE} px and writing the cache's file, in one thread."
    return Table("A JPEG into the cache", header, rows, note)


def _compare(path: Path, folder: Path, rounds: int) -> list[str]:
    cache, turns = ImageCache("disk", SIZE, folder), iter(range(10**6))
    data = MedicalImageDataset(make_samples([{"image_path": str(path), "label_index": 0, "split": "train"}]))

    def fill(whole: bool) -> Tensor:
        return cache.read(path, next(turns), lambda least: read_image(path) if whole else data.read(path, least))

    times = take_turns({"whole": lambda: fill(True), "reduced": lambda: fill(False)}, rounds)
    difference = 255 * torch.as_tensor(fill(True) - fill(False)).abs()
    milliseconds = [f"{1000 * own.median:.0f}" for own in times.values()]
    return [
        *milliseconds,
        str(times["whole"].over(times["reduced"])),
        f"{difference.max():.0f}",
        f"{difference.mean():.2f}",
    ]
