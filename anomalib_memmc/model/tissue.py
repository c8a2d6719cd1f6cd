"""The field of view of images whose maps a post-processor holds."""

from typing import Any

import torch
from anomalib.data import InferenceBatch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import Normalize, Transform

from anomalib_memmc.field_of_view import FieldOfView


def post_process(post_processor: Any, predictions: InferenceBatch, images: Tensor) -> InferenceBatch:
    """Hand predictions to any post-processor, with the images if it is one that looks at them.

    Args:
        post_processor: A model's post-processor, or ``None``.
        predictions: The model's raw predictions.
        images: The images (B, C, H, W) in [0, 1] that they are of.

    Returns:
        What the post-processor makes of them.
    """
    if getattr(post_processor, "field_of_view", None) is not None:
        return post_processor(predictions, images)
    return predictions if post_processor is None else post_processor(predictions)


def find_tissue(field: FieldOfView, images: Tensor, maps: Tensor, transform: Transform | None = None) -> Tensor:
    """Which pixels of maps show tissue.

    Args:
        field: Finds the tissue of an image.
        images: The images (B, C, H, W), as a model's pre-processor left them.
        maps: Their maps (B, h, w) or (B, 1, h, w).
        transform: What the pre-processor did; its ``Normalize`` is undone first.

    Returns:
        Boolean, of the maps' shape.
    """
    tissue = field(without_normalize(images, transform))
    if tissue.shape[-2:] != maps.shape[-2:]:
        tissue = functional.adaptive_max_pool2d(tissue.float(), maps.shape[-2:]) > 0
    return tissue.view(maps.shape)


def within(masks: Tensor | None, tissue: Tensor) -> Tensor | None:
    """Masks without what lies outside the tissue."""
    if masks is None:
        return None
    if masks.dtype == torch.bool:
        return masks & tissue
    return torch.where(tissue, masks, torch.zeros_like(masks))  # raw values, where there is no threshold


def without_normalize(images: Tensor, transform: Transform | None) -> Tensor:
    """Images as they were before the ``Normalize`` of a transform, the last one undone first.

    Args:
        images: (B, C, H, W), as a model's pre-processor left them.
        transform: What the pre-processor did.
    """
    for step in reversed(_steps(transform)):
        if isinstance(step, Normalize):
            mean, std = (torch.tensor(each, device=images.device).view(-1, 1, 1) for each in (step.mean, step.std))
            images = images * std + mean
    return images


def _steps(transform: Transform | None) -> list[Transform]:
    """A transform's steps in order, those of nested compositions among them."""
    if transform is None:
        return []
    parts = getattr(transform, "transforms", None)
    return [transform] if parts is None else [step for part in parts for step in _steps(part)]
