"""Gaussians of normal features, one at each place of the image, and the distance from them (as in PaDiM)."""

import torch
from torch import Tensor, nn

_LEAST_SPREAD = 0.1  # of a feature to the root mean square of all at its place


class PlaceGaussians(nn.Module):
    """Mean and covariance of features at every place, and the Mahalanobis distance from them.

    Features are standardised by their own mean and spread at the place (no spread counts as less than a tenth of the
    typical one), and their correlations shrunk towards none, so that fewer images than features do. Before :meth:`fit`
    the distance is the root mean square of the features.

    Args:
        places: Number of places N.
        width: Number of features D.
        shrinkage: How far correlations are shrunk, in (0, 1]: 1 leaves none.

    Raises:
        ValueError: If the shrinkage is out of its range.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, places: int, width: int, shrinkage: float) -> None:
        super().__init__()
        if not 0 < shrinkage <= 1:
            msg = f"shrinkage must lie in (0, 1], got {shrinkage}."
            raise ValueError(msg)
        self.shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(places, width))
        self.register_buffer("whitening", torch.eye(width).repeat(places, 1, 1))

    def fit(self, features: Tensor) -> None:
        """Learn from the features of normal images (images, N, D).

        Raises:
            ValueError: If there are fewer than two images.
        """
        if len(features) < 2:
            msg = f"At least 2 normal training images are needed, got {len(features)}."
            raise ValueError(msg)
        self.mean.copy_(features.double().mean(dim=0))
        for place, values in enumerate(features.unbind(dim=1)):
            centred = values.double() - values.double().mean(dim=0)
            spread = centred.std(dim=0, correction=0)
            spread = spread.clamp(min=max(_LEAST_SPREAD * spread.square().mean().sqrt().item(), 1e-6))
            standard = centred / spread
            variances, directions = torch.linalg.eigh(standard.mT @ standard / len(standard))
            typical = variances.mean().clamp(min=1e-6)
            shrunk = (1 - self.shrinkage) * variances.clamp(min=0) + self.shrinkage * typical
            self.whitening[place] = (directions / shrunk.sqrt()).mT / spread

    def forward(self, features: Tensor) -> Tensor:
        """Root mean square of the whitened deviations: (B, N, D) -> (B, N), float32, about 1 where normal."""
        with torch.autocast(device_type=features.device.type, enabled=False):
            deviations = features.float() - self.mean.float()
            whitened = torch.einsum("bnd,ned->bne", deviations, self.whitening.float())
            return whitened.square().mean(dim=2).sqrt()


def places_to_scores(distances: Tensor, top: float) -> Tensor:
    """Mean of the largest distances, (B, N) -> (B,); ``top`` is their share of all places, in (0, 1]."""
    return distances.topk(max(1, round(top * distances.shape[1])), dim=1).values.mean(dim=1)


def places_to_map(distances: Tensor, grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Distances as a picture, enlarged bilinearly: (B, N) -> (B, 1, H, W)."""
    picture = distances.unflatten(1, (1, *grid))
    return nn.functional.interpolate(picture, list(image_size), mode="bilinear", align_corners=False)


def require_share(top: float) -> float:
    """Return a share of places, or refuse it.

    Raises:
        ValueError: If it does not lie in (0, 1].
    """
    if not 0 < top <= 1:
        msg = f"top must lie in (0, 1], got {top}."
        raise ValueError(msg)
    return top
