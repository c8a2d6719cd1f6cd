"""Resizing that is the same in training, in testing and in an exported model, and nothing but resizing."""

import torch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import Compose, Normalize, Resize


class ResizePreProcessor(PreProcessor):
    """Antialiased bilinear resizing; pixels stay in [0, 1].

    anomalib exports resizing without antialiasing, so that an exported model sees other pixels than a test. Here the
    exported graph holds the antialiased filter as matrix products, which every runtime can do.

    Args:
        size: Height and width in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(transform=Compose([Resize(size, antialias=True)]))
        self.size = size

    def forward(self, batch: Tensor) -> Tensor:
        """Resize images (B, C, H, W) to (B, C, *size); called by exported models and by a direct call of the model."""
        return resize_antialiased(batch, self.size)


def refuse_normalize(pre_processor: nn.Module | None) -> None:
    """Refuse a pre-processor that standardises pixels: scores would be wrong, and nothing would say so.

    Args:
        pre_processor: The model's pre-processor, if it has one.

    Raises:
        ValueError: If it holds a ``Normalize``.
    """
    transform = getattr(pre_processor, "transform", None)
    if extract_transforms_by_type(transform, Normalize):
        msg = (
            "MemMCMAE takes pixels in [0, 1]: remove Normalize from the pre-processor, and pass "
            "normalize='imagenet' if the weights expect standardised pixels."
        )
        raise ValueError(msg)


def resize_antialiased(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bilinear resizing, as ``torch.nn.functional.interpolate(..., antialias=True)``, by matrix products.

    Args:
        images: Images (B, C, H, W).
        size: Height and width wanted.

    Returns:
        Images (B, C, *size).
    """
    rows, columns = (_filter(images.shape[-2 + axis], size[axis], images) for axis in (0, 1))
    return functional.linear(functional.linear(images, columns).mT, rows).mT


def _filter(old: int, new: int, like: Tensor) -> Tensor:
    """Weights (new, old) of a triangle filter: as wide as a new pixel when shrinking, as an old one when enlarging."""
    centres = (torch.arange(new, device=like.device, dtype=like.dtype) + 0.5) * (old / new)
    pixels = torch.arange(old, device=like.device, dtype=like.dtype) + 0.5
    support = torch.ones((), device=like.device, dtype=like.dtype) * (old / new)
    weights = (1 - (pixels - centres[:, None]).abs() / support.clamp(min=1)).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
