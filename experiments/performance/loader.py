"""Images a second that the loader delivers, against those that training consumes."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import RandomResizedCrop

from anomalib_memmc.data import MedicalImageDataset, make_samples
from anomalib_memmc.data.base.cache import ImageCache
from anomalib_memmc.data.base.loader import lasting_loader
from anomalib_memmc.data.phantom.radiograph import paint_radiograph
from experiments.performance.consumption import SHARE, consumption
from experiments.performance.files import FORMATS
from experiments.performance.reduced import reduced
from experiments.performance.table import Table
from experiments.performance.timing import Call, take_turns

SIDE = 1024  # of a radiograph on the disk
WORKERS = 2
CROP = RandomResizedCrop(224, scale=(0.2, 1.0), antialias=True)


def loader(consumed: dict[str, float], images: int, rounds: int) -> list[Table]:
    """Time epochs with and without the cache and with and without workers, and the reading of a JPEG.

    Args:
        consumed: Images a second that a training takes, by its name.
        images: Images of an epoch.
        rounds: Rounds that count.

    Returns:
        The tables: what is delivered, what is consumed, and a JPEG into the cache.
    """
    with tempfile.TemporaryDirectory() as name:
        calls = dict(_epochs(Path(name), images))
        rates = {key: images / own.median for key, own in take_turns(calls, rounds).items()}
    cards = consumption()
    consumed = {**{f"{name}, by arithmetic": rate for name, rate in cards.items()}, **consumed}
    unit = next(iter(rates.values()))
    return [_delivered(rates, cards, unit, images), _consumed(consumed, unit), reduced((1024, 2000), rounds)]


def _delivered(rates: dict[tuple[str, int], float], cards: dict[str, float], unit: float, images: int) -> Table:
    rows = []
    for name in dict.fromkeys(name for name, _ in rates):
        alone, shared = rates[name, 0], rates[name, WORKERS]
        feeding = [f"{rate / alone:.1f}" for rate in cards.values()]
        rows.append((name, f"{alone:.0f}", f"{alone / unit:.1f}", f"{shared / unit:.1f}", *feeding))
    header = (
        "",
        "images/s",
        "of decoding PNGs",
        f"with {WORKERS} workers",
        *(f"processes to feed: {c}" for c in cards),
    )
    return Table(f"Loader, {SIDE:,} px", header, rows, _note(images))


def _consumed(consumed: dict[str, float], unit: float) -> Table:
    rows = [(name, f"{rate:.1f}", f"{rate / unit:.2f}") for name, rate in consumed.items()]
    note = (
        f"By arithmetic: three forward passes of one mask with its loss, two FLOP a multiply-add, at {SHARE:.0%} of "
        "the card's rate of dense bfloat16 products with float32 sums. The share is an assumption."
    )
    return Table("Consumed in training", ("", "images/s", "of decoding PNGs"), rows, note)


def _epochs(folder: Path, images: int) -> Iterator[tuple[tuple[str, int], Call]]:
    """Epochs by name and number of workers, without the cache first."""
    pictures = [paint_radiograph(np.random.default_rng(index), SIDE, anomalous=False)[0] for index in range(images)]
    samples = {}
    for kind, (suffix, save) in FORMATS.items():
        paths = [folder / f"{index}{suffix}" for index in range(images)]
        for pixels, path in zip(pictures, paths, strict=True):
            save(pixels[..., 0], path)
        samples[kind] = make_samples([{"image_path": str(path), "label_index": 0, "split": "train"} for path in paths])
    for kind, table in samples.items():
        data = MedicalImageDataset(table, augmentations=CROP)
        for workers in (0, WORKERS):
            yield (f"decoding {kind}s", workers), _epoch(data, workers)
    for kind, table in samples.items():
        for workers in (0, WORKERS):
            cache = ImageCache("disk", 256, folder / f"{kind}-{workers}")
            data = MedicalImageDataset(table, augmentations=CROP, cache=cache)
            yield (f"filling the cache from {kind}s", workers), _epoch(data, workers, emptied=cache.folder)
    for workers in (0, WORKERS):
        data = MedicalImageDataset(samples["PNG"], augmentations=CROP, cache=ImageCache("disk", 256, folder / "kept"))
        yield ("from the cache", workers), _epoch(data, workers)


def _epoch(dataset: MedicalImageDataset, workers: int, emptied: Path | None = None) -> Call:
    """An epoch; of workers the first starts them, and the others find them."""
    arguments = {"batch_size": 8, "collate_fn": dataset.collate_fn}
    batches = lasting_loader(dataset, workers, **arguments) if workers else DataLoader(dataset, **arguments)

    def run() -> None:
        if emptied is not None:
            shutil.rmtree(emptied, ignore_errors=True)
        for _ in batches:
            pass

    return run


def _note(images: int) -> str:
    small = torch.rand(32, 3, 256, 256)
    times = take_turns({"each": lambda: [CROP(image) for image in small], "batch": lambda: CROP(small)}, rounds=5)
    each, batch = (32 / own.median for own in times.values())
    return (
        f"{images} generated radiographs, grey; PNG and JPEG of 8 bits, DICOM uncompressed of 12 bits in 16; "
        f"RandomResizedCrop to 224 px, one process unless said. RandomResizedCrop alone: {each:.0f} "
        f"images/s one by one, {batch:.0f} on a batch, which cuts the same rectangle out of all."
    )
