"""Find near-duplicate frames: neighbours in one video, or one picture saved twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_memmc.data.io.decode import open_image

SIDE = 16  # pixels of a thumbnail
DECODE_SIDE = 64  # JPEGs are decoded at the smallest of their built-in scales that is at least this wide
CENTRE = (45 / 512, 45 / 512, 475 / 512, 475 / 512)  # leaves out the frame's black border
MIN_CORRELATION = 0.9  # on 500 real frames: above it neighbours of one video, below 0.85 also unlike scenes
MAX_DIFFERENCE = 8.0  # root mean square of 255 levels: the same scene even before the average frame is taken away


def near_duplicate_groups(paths: Sequence[str | Path]) -> list[str]:
    """Cluster images that show almost the same scene.

    Two images are joined if their thumbnails, less the average thumbnail of the set (the border and the overlays
    that all frames share), correlate with at least 0.9, or if the thumbnails hardly differ. Clusters are chained:
    if A is like B and B is like C, the three are one.

    Args:
        paths: The image files. 2,000 colonoscopy frames take a few seconds.

    Returns:
        Each image's cluster, named after the first of its files in order of `paths`.

    Raises:
        ImageReadError: If a file cannot be read.
    """
    if not paths:
        return []
    thumbnails = np.stack([_thumbnail(path) for path in paths])
    parents = list(range(len(paths)))
    for first, second in np.argwhere(_alike(thumbnails)):
        low, high = sorted((_root(parents, int(first)), _root(parents, int(second))))
        parents[high] = low
    return [Path(paths[_root(parents, index)]).name for index in range(len(paths))]


def _thumbnail(path: str | Path) -> NDArray[np.float32]:
    """The middle of an image as a (16 * 16, 3) table of 0 to 255."""
    with open_image(path) as image:
        image.draft("RGB", (DECODE_SIDE, DECODE_SIDE))
        width, height = image.size
        box = (CENTRE[0] * width, CENTRE[1] * height, CENTRE[2] * width, CENTRE[3] * height)
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX, box=box)
    return np.asarray(small, dtype=np.float32).reshape(-1, 3)


def _alike(thumbnails: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pairs are alike: (N, 256, 3) to a boolean (N, N), true only above the diagonal."""
    count = len(thumbnails)
    raw = thumbnails.reshape(count, -1)
    squares = (raw**2).sum(axis=1)
    difference = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * raw @ raw.T, 0) / raw.shape[1])

    shape = thumbnails - thumbnails.mean(axis=1, keepdims=True)  # its own colour cast away
    shape = shape.reshape(count, -1)
    shape = shape / np.maximum(shape.std(axis=1, keepdims=True), 1e-6)
    shape = shape - shape.mean(axis=0)
    shape = shape / np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1e-6)
    return np.triu((shape @ shape.T > MIN_CORRELATION) | (difference < MAX_DIFFERENCE), k=1)


def _root(parents: list[int], index: int) -> int:
    """The first member of an item's cluster (union-find, halving the path)."""
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index
