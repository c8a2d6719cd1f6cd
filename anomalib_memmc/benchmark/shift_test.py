"""The ``shift-test`` command: what harmless changes of acquisition do to a model's AUROC and false alarms.

It stands in for the scanner that nobody has seen yet (not in the paper). The threshold is the one that the checkpoint
has learnt, from images without the change.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from anomalib_memmc.benchmark.checkpoint import checkpoint_parser, load
from anomalib_memmc.model import MemMCMAE
from anomalib_memmc.reporting.false_alarms import false_alarms

logger = logging.getLogger(__name__)

Change = Callable[[Tensor], Tensor]
BATCH = 16
SHIFT_FILE = "shift.csv"


def _noisy(levels: float) -> Change:
    return lambda image: functional.gaussian_noise(image, sigma=levels / 255)


def _jpeg(image: Tensor) -> Tensor:
    return functional.jpeg((image * 255).round().to(torch.uint8), quality=60).float() / 255


def _resampled(image: Tensor) -> Tensor:
    size = [*image.shape[-2:]]
    smaller = functional.resize(image, [max(1, round(0.75 * side)) for side in size], antialias=True)
    return functional.resize(smaller, size, antialias=True)


def _rotated(image: Tensor) -> Tensor:
    return functional.rotate(image, 4, interpolation=InterpolationMode.BILINEAR)


def _bordered(image: Tensor) -> Tensor:
    rows, columns = (max(1, round(0.05 * side)) for side in image.shape[-2:])
    changed = torch.zeros_like(image)
    changed[..., rows:-rows, columns:-columns] = image[..., rows:-rows, columns:-columns]
    return changed


CHANGES: dict[str, Change] = {
    "none": lambda image: image,
    "gamma 0.8": lambda image: functional.adjust_gamma(image, 0.8),
    "gamma 1.25": lambda image: functional.adjust_gamma(image, 1.25),
    "contrast 0.8": lambda image: functional.adjust_contrast(image, 0.8),
    "contrast 1.25": lambda image: functional.adjust_contrast(image, 1.25),
    "noise of 1 grey value": _noisy(1),
    "noise of 3 grey values": _noisy(3),
    "JPEG quality 60": _jpeg,
    "resampled through 0.75": _resampled,
    "rotated by 4 degrees": _rotated,
    "border of 5 %": _bordered,
}
"""Change -> what it does to an image (3, H, W) in [0, 1], at the size of its file; the result is clamped to [0, 1]."""


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc shift-test``.

    Args:
        argv: The arguments after ``shift-test``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If the checkpoint or the configuration does not exist.
        ValueError: If the checkpoint is none of MemMC-MAE, has no threshold, or the test part has one class only.
    """
    parser = checkpoint_parser(
        "shift-test",
        "Test a checkpoint under harmless changes of acquisition, at the threshold learnt without them.",
        SHIFT_FILE,
    )
    arguments, overrides = parser.parse_known_args(argv)
    model, datamodule = load(arguments.checkpoint, arguments.config, overrides)
    table = shift_test(model, datamodule.test_data)
    arguments.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.output / SHIFT_FILE, index=False)
    print(f"{table.round(3).to_string(index=False)}\n\n{arguments.output / SHIFT_FILE}")
    return 0


def shift_test(model: MemMCMAE, dataset: Any) -> pd.DataFrame:
    """Score a test set under every change.

    Args:
        model: The model, with a learnt threshold.
        dataset: A data set of anomalib with images (3, H, W) in [0, 1] and labels of both classes.

    Returns:
        One row a change, without change first: ``change``, ``image_AUROC``, ``false_alarm_rate``.

    Raises:
        ValueError: If the model has no threshold, or the data set has one class only.
    """
    threshold = getattr(model.post_processor, "image_threshold", torch.tensor(float("nan"))).item()
    labels = dataset.samples["label_index"].to_numpy()
    if math.isnan(threshold):
        msg = "The checkpoint has no threshold: train with a validation part, or validate first."
        raise ValueError(msg)
    if len(set(labels)) != 2:
        msg = "A shift test needs normal and anomalous test images."
        raise ValueError(msg)
    model.eval()
    rows = []
    for name, change in CHANGES.items():
        torch.manual_seed(0)
        scores = torch.cat(list(scores_under(model, dataset, change))).numpy()
        alarms = scores[labels == 0] > threshold
        rows.append((name, roc_auc_score(labels, scores), alarms.mean()))
        done = f"{len(rows)} of {len(CHANGES)} changes"
        logger.info("%s, %s: image AUROC %.3f, false alarms %.1f %%", done, name, rows[-1][1], 100 * rows[-1][2])
        promised = false_alarms(int(alarms.sum()), len(alarms), getattr(model.post_processor, "promise", None))
        if promised is not None and promised.beyond_chance:
            logger.warning("Change %r. %s", name, promised)
    return pd.DataFrame(rows, columns=["change", "image_AUROC", "false_alarm_rate"])


@torch.no_grad()
def scores_under(model: MemMCMAE, dataset: Any, change: Change) -> Iterator[Tensor]:
    """Raw scores (B,) of all images under a change, batch by batch; the model must be in evaluation mode."""
    transform = getattr(model.pre_processor, "transform", None)
    for start in range(0, len(dataset), BATCH):
        images = []
        for index in range(start, min(start + BATCH, len(dataset))):
            image = change(dataset[index].image.as_subclass(Tensor)).clamp(0, 1)
            images.append(image if transform is None else transform(image))
        yield model.model.score(torch.stack(images)).pred_score
