"""Images that a model was not made for get no score, also in an exported graph, which cannot raise an error."""

import torch
from anomalib.data import InferenceBatch
from torch import Tensor

TOLERANCE = 0.01
"""How far pixels may lie outside [0, 1], as resizing and compression leave them."""


def fits(images: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Which images can be scored: pixels in [0, 1], and as many channels as the model takes.

    An image in [0, 255] that is black but for a few pixels of value 1 cannot be told from one in [0, 1].

    Args:
        images: Images (B, C, H, W).
        channels: Numbers of channels that the model takes.

    Returns:
        Boolean (B,).
    """
    low, high = images.amin(dim=(1, 2, 3)), images.amax(dim=(1, 2, 3))  # NaN is in no range
    count = torch.ones_like(images[:1, :, :1, :1]).sum()  # len() would fix the channels of an exported graph
    has_channels = torch.stack([count == number for number in channels]).any()
    return (low >= -TOLERANCE) & (high <= 1 + TOLERANCE) & has_channels


def refuse(images: Tensor, channels: tuple[int, ...]) -> None:
    """Refuse images that cannot be scored.

    Args:
        images: Images (B, C, H, W).
        channels: Numbers of channels that the model takes.

    Raises:
        ValueError: If one cannot be.
    """
    if bool(fits(images, channels).all()):
        return
    if images.shape[1] not in channels:
        msg = f"The model takes images of {' or '.join(map(str, channels))} channels, got {images.shape[1]}."
    else:
        low, high = images.min().item(), images.max().item()
        msg = (
            f"The model takes pixels in [0, 1], got values from {low:.3g} to {high:.3g}: divide 8-bit pixels by 255, "
            "16-bit pixels by 65535, and do not standardise them."
        )
    raise ValueError(msg)


def without_misfits(predictions: InferenceBatch, valid: Tensor) -> InferenceBatch:
    """Predictions in which images that cannot be scored have none, and are not called normal.

    Args:
        predictions: Predictions of all images.
        valid: Which images could be scored (B,), bool.

    Returns:
        The same, with NaN as score and map, and True as label and mask, of the others.
    """
    return InferenceBatch(*(None if value is None else _blanked(value, valid) for value in predictions))


def _blanked(values: Tensor, valid: Tensor) -> Tensor:
    kept = valid.reshape(-1, *[1] * (values.ndim - 1))
    if values.dtype == torch.bool:
        return values | ~kept
    return torch.where(kept, values, torch.full_like(values, torch.nan)) if values.is_floating_point() else values
