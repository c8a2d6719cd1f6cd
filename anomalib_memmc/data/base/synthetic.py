"""Synthetic anomalies for validation without a single anomalous image."""

from __future__ import annotations

from pathlib import Path

import torch
from anomalib.data.utils import LabelName, Split
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from pandas import DataFrame
from torchvision.utils import save_image

from anomalib_memmc.data.base.dataset import LABELS
from anomalib_memmc.data.io import read_image

BLEND = (0.3, 0.9)


def add_synthetic_anomalies(normals: DataFrame, folder: str | Path, seed: int) -> DataFrame:
    """Paint anomalib's Perlin-noise anomalies into half of the images.

    Args:
        normals: Samples of normal images.
        folder: Existing folder for the painted images and their masks (8-bit PNG).
        seed: Seed of the choice and of the noise; the global random state is left as it was.

    Returns:
        The samples, with every second row (of a random order) pointing to its painted version; its stratum is
        "synthetic".
    """
    samples = normals.copy()
    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = PerlinAnomalyGenerator(probability=1.0, blend_factor=BLEND)
        for row in torch.randperm(len(samples))[: len(samples) // 2].tolist():
            image, mask = generator(torch.as_tensor(read_image(samples.loc[row, "image_path"])))
            name = f"{row:05d}"
            save_image(image.clamp(0, 1), folder / f"{name}.png")
            save_image(mask.float(), folder / f"{name}_mask.png")
            samples.loc[row, "image_path"] = str(folder / f"{name}.png")
            samples.loc[row, "mask_path"] = str(folder / f"{name}_mask.png")
            samples.loc[row, "label_index"] = int(LabelName.ABNORMAL)
            samples.loc[row, "label"] = LABELS[1]
            samples.loc[row, "stratum"] = "synthetic"
    samples["split"] = Split.VAL.value
    return samples
