"""A score for the study: the places that are reconstructed worst are hidden together and reconstructed again."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.model.masking import visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring import MahalanobisScorer


class IterativeScorer(MahalanobisScorer):
    """As its base, after rounds in which an image is reconstructed from its best places alone.

    A lesion that some mask shows in part helps to reconstruct the rest of it. So each round hides the patches with the
    largest errors, as many as a mask hides, and their new errors replace the old ones.

    Args:
        rounds: Rounds after the fixed masks.
        **arguments: Arguments of ``MahalanobisScorer``.
    """

    def __init__(self, rounds: int = 2, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rounds = rounds

    def _map(self, network: MaskedAutoencoder, images: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Error of each pixel (B, 1, H, W), and the spread over the fixed masks."""
        anomaly_map, spread = super()._map(network, images, chunk)
        for _ in range(self.rounds):
            masks = worst_patches(anomaly_map, network.patch_size, self.hidden.shape[1])[:, None]
            pixels = network.mask_pixels(masks)
            filled = network.fill(images, visible_indices(masks), visible_indices(~masks))
            pasted = torch.where(pixels, filled, images[:, None])
            errors = self.error_map(pasted, images[:, None])[:, 0]
            anomaly_map = torch.where(pixels[:, 0], errors, anomaly_map)
        return anomaly_map, spread


def worst_patches(anomaly_map: Tensor, patch_size: int, number: int) -> Tensor:
    """The patches with the largest mean errors: maps (B, 1, H, W) -> masks (B, N), True = one of them."""
    errors = functional.avg_pool2d(anomaly_map, patch_size).flatten(1)
    return torch.zeros_like(errors, dtype=torch.bool).scatter(1, errors.topk(number, dim=1).indices, True)
