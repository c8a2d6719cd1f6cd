from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

CLASSES = {
    "cecum": "anatomical-landmarks/cecum",
    "ileum": "anatomical-landmarks/ileum",
    "bbps-2-3": "quality-of-mucosal-views/bbps-2-3",
}

TINY_PHANTOM = {
    "image_size": 32,
    "num_train": 16,  # including the four held out
    "num_val_normal": 4,
    "num_test_normal": 2,
    "num_test_anomalous": 2,
    "train_batch_size": 4,
    "eval_batch_size": 4,
    "num_workers": 0,
}


def save_frame(path: Path, seed: int, size: tuple[int, int] = (40, 48), shade: float = 0.0) -> None:
    """Write a colour frame of large blotches; frames of one seed are near-duplicates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blotches = np.random.default_rng(seed).integers(40, 215, (5, 5, 3)).astype(np.uint8)
    frame = Image.fromarray(blotches).resize(size[::-1], Image.Resampling.BICUBIC)
    Image.fromarray(np.clip(np.asarray(frame) + shade, 0, 255).astype(np.uint8)).save(path, quality=95)


def save_mask(path: Path, size: tuple[int, int] = (40, 48)) -> None:
    """Write a JPEG mask as Hyper-Kvasir's are: a white square, and values beside 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((*size, 3), dtype=np.uint8)
    mask[9:23, 11:31] = 255
    Image.fromarray(mask).save(path, quality=60)


TRAIN_LINES = [
    *(f"p{number // 3} neg-{number:02d}.png negative rsna" for number in range(24)),
    "COVID 1 COVID(1).png positive sirm",
    "COVID 2 COVID(2).png positive sirm",
]
TEST_LINES = [
    *(f"t{number} tneg-{number}.JPG negative rsna" for number in range(5)),
    *(f"u{number} tpos-{number}.jpeg positive ricord" for number in range(5)),
]


def burnt_in_text(image: torch.Tensor, row: int, column: int) -> None:
    """Write two lines of bright strokes of one pixel into images (B, C, H, W), in place."""
    for line in (0, 3):
        for letter in range(0, 8, 2):
            image[..., row + line : row + line + 2, column + letter] = 1
        image[..., row + line, column : column + 8] = 1
