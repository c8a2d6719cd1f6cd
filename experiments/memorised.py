"""How much a long training learns its own images by heart: errors on seen and on unseen images, by the number of steps.

    python -m experiments.memorised results/study/long-kermany

The argument is the folder in which a benchmark ran whose trainings kept checkpoints on their way
(``configs/study/long-NAME.yaml``). The error is the training's loss, the mean squared error of hidden patches, under
four complementary masks and without augmentations: on at most 150 training images, on the held-out normal images, and
on the normal and the anomalous test images.
"""

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.benchmark.results import finished, job_name
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.model.masking import seeded_masks
from experiments.retest import kept, normal_images
from experiments.scores import batches_of

MASKS = 4
MOST = 150
SCALE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    lines = [["model", "training", "held out", "held out / training", "test, normal", "test, anomalous"]]
    lines.append(["---", *["---:"] * 5])
    for row in chain.from_iterable(finished(folder).values()):
        for step, checkpoint in kept(folder / job_name(row)):
            model, datamodule = load_job(folder / job_name(row), checkpoint=checkpoint)
            seen, unseen, normal, anomalous = (error(model, data) for data in parts(datamodule))
            numbers = [f"{SCALE * value:.2f}" for value in (seen, unseen, normal, anomalous)]
            lines.append([f"{row['model']}{step}", *numbers[:2], f"{unseen / seen:.2f}", *numbers[2:]])
    print(f"Mean squared error of hidden patches, times {SCALE}:\n")
    print(markdown(lines))


def parts(datamodule: Any) -> list[Any]:
    """Training, held-out, normal test and anomalous test images."""
    training, labels = normal_images(datamodule), datamodule.test_data.samples["label_index"].to_numpy()
    return [
        Subset(training, range(min(MOST, len(training)))),
        datamodule.val_data,
        *(Subset(datamodule.test_data, (labels == label).nonzero()[0].tolist()) for label in (0, 1)),
    ]


@torch.no_grad()
def error(model: Any, images: Any) -> float:
    """The mean loss of images, each under all masks."""
    masked = model.model
    masks = seeded_masks(MASKS, masked.network.num_patches, masked.mask_ratio, "complementary", 0)
    total = 0.0
    for batch in batches_of(model, images):
        loss = masked.loss(batch.repeat_interleave(MASKS, dim=0), masks.repeat(len(batch), 1))
        total += float(loss) * len(batch)
    return total / len(images)


if __name__ == "__main__":
    main()
