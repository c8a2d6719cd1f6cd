"""Trivial baselines: numbers no model is needed for, that may tell anomalous from normal images all the same.

And trivial maps, which may outline an anomaly all the same.

Where one of them separates the classes, the two were not taken alike (other hospital, other device, other file format),
and a model may score by the same difference. Intensity, sharpness and noise are measured on what the model is given,
after resizing and cropping, and in its units where it normalises them; size and aspect ratio on the file.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.field_of_view import level_outside

NAMES = {
    "mean_intensity": "mean intensity",
    "sharpness": "variance of Laplacian",
    "noise": "median absolute Laplacian",
    "file_bytes": "file size in bytes",
    "aspect_ratio": "width / height of file",
}
"""Column of the prediction table -> what it is called in print."""

PROPERTIES = {
    "mean_intensity": "mean intensity",
    "sharpness": "sharpness",
    "noise": "noise",
    "file_bytes": "file size",
    "aspect_ratio": "width / height",
}
"""Column of the prediction table -> the property of an image that it measures, within a sentence."""


def mean_intensity(images: Tensor) -> Tensor:
    """Mean over pixels and channels.

    Args:
        images: (B, C, H, W), any range.

    Returns:
        (B,), in the units of ``images``.
    """
    return images.float().mean(dim=(1, 2, 3))


def laplacian_variance(images: Tensor) -> Tensor:
    """Variance of the Laplacian of the channels' mean: the common measure of sharpness, low in blurred images.

    Args:
        images: (B, C, H, W), any range, H and W >= 3.

    Returns:
        (B,), in squared units of ``images``, >= 0.
    """
    return _laplacian(images).var(dim=1, correction=0)


def laplacian_median(images: Tensor) -> Tensor:
    """Median of the absolute Laplacian of the channels' mean: noise, since edges are too few to move a median.

    Args:
        images: (B, C, H, W), H and W >= 3; in [0, 1] as data modules give them.

    Returns:
        (B,), in units of ``images``, >= 0; as ``numpy.median``, the mean of the two middle values of an even number.
    """
    ordered = _laplacian(images).abs().sort(dim=1).values
    middle = ordered.shape[1] // 2
    return (ordered[:, middle] + ordered[:, -1 - middle]) / 2


def _laplacian(images: Tensor) -> Tensor:
    """Four-neighbour Laplacian of the channels' mean at interior pixels, (B, N)."""
    grey = images.float().mean(dim=1, keepdim=True)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=grey.device)
    return functional.conv2d(grey, kernel.view(1, 1, 3, 3)).flatten(1)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_intensity": mean_intensity,
    "sharpness": laplacian_variance,
    "noise": laplacian_median,
}
"""Column of the prediction table -> how it is measured on a batch of the model's images."""


def brightness_map(images: Tensor, tissue: Tensor | None = None) -> Tensor:
    """The images' brightness as anomaly maps: a polyp near the lamp is bright.

    Args:
        images: (B, C, H, W), in [0, 1].
        tissue: Where they show tissue, bool (B, 1, H, W), as ``FieldOfView`` finds it. Outside, the maps get their
            smallest value inside, as a model's do with such a field of view. ``None``: everywhere.

    Returns:
        (B, 1, H, W), in [0, 1].
    """
    maps = images.float().mean(dim=1, keepdim=True).clamp(0, 1)
    return maps if tissue is None else level_outside(maps, tissue)


def centre_map(images: Tensor, tissue: Tensor | None = None) -> Tensor:
    """How near a pixel is to the image's centre, as anomaly maps: who films an anomaly puts it in the middle.

    Args:
        images: (B, C, H, W), of which only the shape matters.
        tissue: As for :func:`brightness_map`.

    Returns:
        (B, 1, H, W), from 0 in the corners to almost 1, linear in the distance with width and height as units.
    """
    height, width = images.shape[-2:]
    rows, columns = ((torch.arange(side, device=images.device) + 0.5) / side - 0.5 for side in (height, width))
    maps = 1 - torch.hypot(rows[:, None], columns[None]) * 2**0.5
    maps = maps.clamp(min=0).expand(len(images), 1, -1, -1)
    return maps if tissue is None else level_outside(maps, tissue)


def file_bytes(path: str | Path) -> float:
    """Size of a file in bytes; NaN if it cannot be read."""
    try:
        return float(Path(path).stat().st_size)
    except OSError:
        return float("nan")


def aspect_ratio(path: str | Path) -> float:
    """Width divided by height of an image file, from its header alone; NaN if Pillow cannot read it."""
    try:
        with Image.open(path) as image:
            return image.width / image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return float("nan")
