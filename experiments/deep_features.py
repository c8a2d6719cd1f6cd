"""Which features of a pretrained network outline polyps, and how must they be compared?

    python -m experiments.deep_features results/benchmark/hyper-kvasir/MemMC-MAE-seed0

The argument is the folder of a finished job of ``benchmark/hyper-kvasir``, of which only the data is used: nothing here
is trained. A layer of the network is compared with that of normal training frames: by a Gaussian at each place, by one
around each place's mean with a covariance that all places share, or by the distance to the nearest normal place. Two
rows need no normal frames: the length of a place's features, and, as a bound, the linear direction that tells polyps
best from their surroundings, learnt from the polyps of half A.

Pixel AUROC is that of the polyp frames alone. "Without the rim" leaves out the outer eighth on each side. The threshold
of an IoU is the best one for all polyp frames of half A. Image AUROC is that of the mean over the tenth of the places
with the largest distances; the best direction has none, as it saw the polyps.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.model.features import FrozenFeatures
from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.gaussian import PlaceGaussians
from anomalib_memmc.scoring.nearest import NearestPlaces
from anomalib_memmc.scoring.places import enlarged
from experiments.outlines import BLUR, NUMBERS, SHRINKAGE, judged, load_frames

LAYERS = {"blocks.1, 2, 4": (["blocks.1", "blocks.2", "blocks.4"], 8), "blocks.6": (["blocks.6"], 32)}
"""Name -> layers, and the side of a place in pixels."""
SIZES = (128, 256, 384)  # pixels of an image that the network is given
TOP, BANK = 0.1, 10_000
HEAD = ["features", "pixels", "compared by"]
BOUND = "best direction"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    model, datamodule = load_job(parser.parse_args().folder)
    side, frames = model.model.network.image_size, load_frames(model, datamodule)
    labels, blur = frames.labels.numpy(), MapBlur(BLUR * side[0], side)
    lines = [[*HEAD, *NUMBERS, "image AUROC, half A", "image AUROC, half B"], ["---"] * 3 + ["---:"] * 6]
    for name, (layers, place) in LAYERS.items():
        for size in SIZES:
            grid = (size // place, size // place)
            frozen = FrozenFeatures("tf_efficientnet_lite0", layers, side, grid, scale=size / side[0]).eval()
            frozen.load_weights()
            known, new = (features(frozen, batches) for batches in (frames.normal, frames.tested))
            for how, distances in compared(known, new, masks_of_places(frames.masks, grid), frames.polyps[0]):
                maps = enlarged(distances.float(), grid, side, blur)[:, 0]
                scores = distances.topk(round(TOP * distances.shape[1]), dim=1).values.mean(dim=1)
                of_images = [f"{roc_auc_score(labels[half], scores[half]):.3f}" for half in frames.halves]
                if how == BOUND:
                    of_images = ["-", "-"]
                lines.append([name, str(size), how, *judged(maps, frames.masks, frames.polyps), *of_images])
    print(markdown(lines))


@torch.no_grad()
def features(frozen: FrozenFeatures, batches: list[Tensor]) -> Tensor:
    """Features of every place, places row by row: (images, N, D)."""
    return torch.cat([frozen(images).flatten(2).mT for images in batches])


def compared(known: Tensor, new: Tensor, inside: Tensor, learnt_from: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What says how anomalous a place is, in each way.

    Args:
        known: Features of normal images (images, N, D).
        new: Features of the tested images (images, N, D).
        inside: Which of their places lie within a polyp (images, N).
        learnt_from: From which of them the best direction is learnt (images,).

    Yields:
        The name of the way, and its distances (images, N).
    """
    places, width = known.shape[1:]
    for how, judge in {
        "Gaussians": PlaceGaussians(places, width, SHRINKAGE),
        "Gaussians, shared covariance": PlaceGaussians(places, width, SHRINKAGE, "shared"),
        "nearest": NearestPlaces(BANK, width),
    }.items():
        judge.fit(known)
        yield how, torch.cat([judge(images) for images in new.split(16)])
    yield "length", new.square().mean(dim=2).sqrt()
    direction = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    direction.fit(new[learnt_from].flatten(0, 1).numpy(), inside[learnt_from].flatten().numpy())
    yield BOUND, torch.from_numpy(direction.decision_function(new.flatten(0, 1).numpy())).view(new.shape[:2])


def masks_of_places(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which places lie by more than half within a mask: (images, H, W) -> (images, N)."""
    return functional.adaptive_avg_pool2d(masks[:, None].float(), grid).flatten(1) > 0.5


if __name__ == "__main__":
    main()
