"""Gaussians of normal features, one at each place of the image, and the distance from them (as in PaDiM)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from anomalib_memmc.arguments import require_choice, require_positive

Covariance = Literal["place", "shared"]

_LEAST_SPREAD = 0.1  # of a feature to the root mean square of all at its place


def require_gaussian(shrinkage: float, covariance: Covariance) -> None:
    """Refuse arguments of Gaussians.

    Raises:
        ValueError: If one is out of its range.
    """
    require_positive("shrinkage", shrinkage, most=1)
    require_choice("covariance", covariance, get_args(Covariance))


class PlaceGaussians(nn.Module):
    """Mean and covariance of features at every place, and the Mahalanobis distance from them.

    Features are standardised by their own mean and spread at the place (no spread counts as less than a tenth of the
    typical one), and their correlations shrunk towards none, so that fewer images than features do. Before :meth:`fit`
    the distance is the root mean square of the features.

    Args:
        places: Number of places N.
        width: Number of features D.
        shrinkage: How far correlations are shrunk, in (0, 1]: 1 leaves none.
        covariance: ``"place"`` learns spread and correlations at every place; ``"shared"`` one for all places, around
            each place's own mean.

    Raises:
        ValueError: If an argument is out of its range.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, places: int, width: int, shrinkage: float, covariance: Covariance = "place") -> None:
        super().__init__()
        require_gaussian(shrinkage, covariance)
        self.shrinkage = shrinkage
        self.covariance = covariance
        self.register_buffer("mean", torch.zeros(places, width))
        self.register_buffer("whitening", torch.eye(width).repeat(places if covariance == "place" else 1, 1, 1))

    def fit(self, features: Tensor) -> None:
        """Learn from the features of normal images (images, N, D).

        Raises:
            ValueError: If there are fewer than two images.
        """
        if len(features) < 2:
            msg = f"At least 2 normal training images are needed, got {len(features)}."
            raise ValueError(msg)
        features = features.cpu()  # not every GPU has float64
        mean = features.double().mean(dim=0)
        self.mean.copy_(mean)
        deviations = features.transpose(0, 1)
        if self.covariance == "shared":
            self.whitening[0] = self._whitening((deviations.double() - mean[:, None]).flatten(0, 1))
            return
        for place, values in enumerate(deviations):
            self.whitening[place] = self._whitening(values.double() - mean[place])

    def forward(self, features: Tensor) -> Tensor:
        """Root mean square of the whitened deviations: (B, N, D) -> (B, N), float32, about 1 where normal."""
        with torch.autocast(device_type=features.device.type, enabled=False):
            deviations = features.float() - self.mean.float()
            whitened = deviations.transpose(0, 1) @ self.whitening.float().mT  # (N, B, D)
            return whitened.square().mean(dim=2).sqrt().mT

    def _whitening(self, deviations: Tensor) -> Tensor:
        """What makes deviations (samples, D) uncorrelated and of spread 1: (D, D)."""
        spread = deviations.square().mean(dim=0).sqrt()
        spread = spread.clamp(min=max(_LEAST_SPREAD * spread.square().mean().sqrt().item(), 1e-6))
        standard = deviations / spread
        variances, directions = torch.linalg.eigh(standard.mT @ standard / len(standard))
        typical = variances.mean().clamp(min=1e-6)
        shrunk = (1 - self.shrinkage) * variances.clamp(min=0) + self.shrinkage * typical
        return (directions / shrunk.sqrt()).mT / spread
