"""Passes of images through the network, under the masks that they are scored with."""

from typing import NamedTuple

import torch
from torch import Tensor

from anomalib_memmc.inspection.images import Images
from anomalib_memmc.inspection.weights import watch
from anomalib_memmc.model.masking import visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.model.torch_model import MemMCMAEModel

_VIEWS_PER_PASS = 80  # as in scoring


class Seen(NamedTuple):
    """What was seen of each of I images, mean over the masks.

    Attributes:
        slots: Attention that each encoder layer gives to each memory slot, mean over heads and queries (I, layers, S);
            None without memory.
        breadths: How many slots a single query uses, mean over heads and queries (I, layers); None without memory.
        gates: Mean gates of each decoder block (I, blocks, L), over the tokens that the block computes: in the last one
            the hidden patches; None without levels.
        errors: Mean squared error of the hidden patches, as in training (I,).
        tokens: Tokens of the encoder: the class token and the visible patches.
    """

    slots: Tensor | None
    breadths: Tensor | None
    gates: Tensor | None
    errors: Tensor
    tokens: int


@torch.no_grad()
def scoring_masks(model: MemMCMAEModel, images: Images) -> Tensor:
    """The masks of a model's scorer, or ten random ones where it has none, as reconstructions have it.

    Args:
        model: The model in evaluation mode.
        images: Any images of its size.

    Returns:
        Masks (M, N), True = hidden.
    """
    return model.reconstruct(next(iter(images))[:1]).masks[0]


def look(network: MaskedAutoencoder, images: Images, masks: Tensor) -> Seen:
    """Reconstruct images and note what both operators do.

    Args:
        network: The network in evaluation mode.
        images: The images.
        masks: Masks (M, N), True = hidden.
    """
    with watch(network) as watched:
        errors = squared_errors(network, images, masks)
    slots, breadths, gates = (_by_image(numbers, len(errors)) for numbers in watched)
    tokens = 1 + int((~masks[0]).sum())
    return Seen(slots, None if breadths is None else breadths[..., 0], gates, errors, tokens)


@torch.no_grad()
def squared_errors(network: MaskedAutoencoder, images: Images, masks: Tensor) -> Tensor:
    """Mean squared error of the hidden patches of each image, mean over the masks.

    Args:
        network: The network in evaluation mode.
        images: The images.
        masks: Masks (M, N), True = hidden.

    Returns:
        Errors (I,), float64, of pixels as the network is trained on.
    """
    visible, hidden = visible_indices(masks), visible_indices(~masks)
    at_once = max(1, _VIEWS_PER_PASS // len(masks))
    errors = [_errors(network, part, visible, hidden) for batch in images for part in batch.split(at_once)]
    return torch.cat(errors).double().cpu()


def _errors(network: MaskedAutoencoder, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error of each image (B,), under all masks."""
    predicted = network.pixel_part(network.predict(images, visible, hidden))
    target = network.patchify(network.standardise(images))[:, hidden]
    return (predicted - target).square().mean(dim=(1, 2, 3))


def _by_image(passes: list[list[Tensor]], num_images: int) -> Tensor | None:
    """Numbers of each block, pass by pass and a row a view, as (I, blocks, numbers); None without blocks."""
    if not passes:
        return None
    views = torch.stack([torch.cat(block) for block in passes], dim=1)
    return views.unflatten(0, (num_images, -1)).mean(dim=1).double().cpu()
