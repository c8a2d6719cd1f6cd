"""What bounds the outlines of polyps? Maps of one trained model, and of the pretrained features that it predicts.

    python -m experiments.outlines results/benchmark/hyper-kvasir/MemMC-MAE-seed0

The argument is the folder of a finished job of ``benchmark/hyper-kvasir``. Each map compares places of a frame with
those of the normal training frames: errors of the predicted features, or the features themselves (as PaDiM); by a
Gaussian at each place, or by the distance to the nearest of all places (as PatchCore). PatchCore takes
means over 3 x 3 places first, and counts what lies beyond the frame as 0.

Pixel AUROC is that of the polyp frames alone. "Without the rim" leaves out the outer eighth on each side. The threshold
of an IoU is the best one for all polyp frames of half A.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.reporting.baselines import brightness_map, centre_map
from anomalib_memmc.scoring import FeatureErrorScorer
from anomalib_memmc.scoring.gaussian import PlaceGaussians
from anomalib_memmc.scoring.nearest import NearestPlaces
from experiments.halves import halves
from experiments.retest import normal_images
from experiments.scores import batches_of
from experiments.trivial_maps import masks_of

SHRINKAGE = 0.1
BLUR = 1 / 16  # standard deviation, of the side of the frame
NUMBERS = ["pixel AUROC", "without the rim", "IoU, half A", "IoU, half B"]
BANK = 5_000  # places of normal frames that the nearest one is looked for in


class Frames(NamedTuple):
    """Normal training frames and all test frames in batches, and of the latter masks, labels and members of halves."""

    normal: list[Tensor]
    tested: list[Tensor]
    masks: Tensor
    labels: Tensor
    halves: tuple[Tensor, Tensor]

    @property
    def polyps(self) -> tuple[Tensor, Tensor]:
        """Which test frames are polyps of half A, and of half B."""
        half_a, half_b = (half & (self.labels == 1) for half in self.halves)
        return half_a, half_b


class Places(NamedTuple):
    """What is known of the places of images: errors and features (images, N, D)."""

    errors: Tensor
    features: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    model, datamodule = load_job(parser.parse_args().folder)
    network, frames = model.model.network, load_frames(model, datamodule)
    scorer = FeatureErrorScorer(shrinkage=SHRINKAGE, blur_sigma=BLUR * network.image_size[0])
    scorer.setup(network, model.model.mask_ratio)
    normal, tested = (places(scorer, network, batches) for batches in (frames.normal, frames.tested))
    images = torch.cat(frames.tested)
    found = {
        name: scorer.enlarge(network, values)[:, 0] for name, values in distances(normal, tested, scorer.grid).items()
    }
    found |= {"brightness": brightness_map(images)[:, 0], "nearness to the centre": centre_map(images)[:, 0]}
    lines = [["map", *NUMBERS], ["---", *["---:"] * len(NUMBERS)]]
    lines += [[name, *judged(values, frames.masks, frames.polyps)] for name, values in found.items()]
    print(markdown(lines))


def load_frames(model: Any, datamodule: Any) -> Frames:
    """The frames of a finished job's data, as its model is given them."""
    dataset = datamodule.test_data
    normal, tested = (batches_of(model, data) for data in (normal_images(datamodule), dataset))
    masks = masks_of((dataset[index] for index in range(len(dataset))), model.model.network.image_size)
    labels, *parts = halves(dataset.samples)
    half_a, half_b = map(torch.from_numpy, parts)
    return Frames(normal, tested, masks, torch.tensor(labels), (half_a, half_b))


@torch.no_grad()
def places(scorer: FeatureErrorScorer, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> Places:
    """Errors and features of every place, of all images."""
    target = network.feature_target
    assert target is not None
    pairs = [(scorer.features(network, images), target.places(target(images))) for images in batches]
    return Places(*map(torch.cat, zip(*pairs, strict=True)))


def distances(normal: Places, tested: Places, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Distances of the tested images' places from those of normal images, in each way: (images, N)."""

    def gaussian(known: Tensor, new: Tensor) -> Tensor:
        gaussians = PlaceGaussians(*known.shape[1:], SHRINKAGE)
        gaussians.fit(known)
        return gaussians(new)

    errors = gaussian(normal.errors, tested.errors)
    found = {
        "errors, Gaussians": errors,
        "the same, relative to the frame's mean": errors / errors.mean(dim=1, keepdim=True),
        "features, Gaussians": gaussian(normal.features, tested.features),
    }
    for name, known, new in zip(("errors", "features"), normal, tested, strict=True):
        found[f"{name}, nearest"] = nearest(known, new)
        for of, padded in (("with 0 beyond the frame", True), ("of the frame alone", False)):
            found[f"{name}, nearest, means {of}"] = nearest(*(means(each, grid, padded) for each in (known, new)))
    return found


def nearest(known: Tensor, new: Tensor) -> Tensor:
    """Distance of each place to the nearest of the known ones: (images, N, D) twice -> (images, N)."""
    places = NearestPlaces(BANK, known.shape[2])
    places.fit(known)
    return torch.cat([places(images) for images in new.split(16)]) * known.shape[2] ** 0.5


def means(values: Tensor, grid: tuple[int, int], padded: bool) -> Tensor:
    """Means over 3 x 3 places (images, N, D); what lies beyond the frame counts as 0 if ``padded``, else not at all."""
    maps = values.mT.unflatten(2, grid)
    return functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=padded).flatten(2).mT


def judged(values: Tensor, masks: Tensor, polyps: tuple[Tensor, Tensor]) -> list[str]:
    """The numbers of maps (images, H, W), in print: see NUMBERS; ``polyps`` are frames of half A and of half B."""
    both, threshold = polyps[0] | polyps[1], best_threshold(values[polyps[0]], masks[polyps[0]])
    numbers = (
        pixel_auroc(values[both], masks[both]),
        pixel_auroc(without_rim(values[both]), without_rim(masks[both])),
        *(mean_iou(values[half], masks[half], threshold) for half in polyps),
    )
    return [f"{number:.3f}" for number in numbers]


def without_rim(values: Tensor) -> Tensor:
    """Maps (images, H, W) without their outer eighth on each side."""
    height, width = (side // 8 for side in values.shape[1:])
    return values[:, height:-height, width:-width]


def pixel_auroc(values: Tensor, masks: Tensor) -> float:
    """AUROC of the pixels of maps and masks (images, H, W).

    Not torchmetrics': it takes values beyond [0, 1] for logits, and a sigmoid makes all large distances equal.
    """
    return float(roc_auc_score(masks.flatten().numpy(), values.flatten().numpy()))


def mean_iou(values: Tensor, masks: Tensor, threshold: float) -> float:
    """Mean IoU of the images' pixels above a threshold, in [0, 1]."""
    above = values > threshold
    intersection, union = ((above & masks).sum(dim=(1, 2)), (above | masks).sum(dim=(1, 2)))
    return (intersection / union).mean().item()


def best_threshold(values: Tensor, masks: Tensor) -> float:
    """The quantile of all pixels, of a hundred, with the highest mean IoU."""
    quantiles: list[float] = np.quantile(values.numpy(), np.arange(100) / 100).tolist()
    return max(quantiles, key=lambda threshold: mean_iou(values, masks, threshold))


if __name__ == "__main__":
    main()
