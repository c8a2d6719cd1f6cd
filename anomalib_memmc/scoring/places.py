"""Scores from features of places of the image: how far they are from those of normal images at the same place."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.gathering import gather
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores
from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.gaussian import Covariance, PlaceGaussians


class PlaceScorer(Scorer):
    """Base class of the scores that compare features place by place, as PaDiM does; a subclass gives the features.

    Args:
        shrinkage: How far correlations between features are shrunk, in (0, 1].
        covariance: ``"place"`` (PaDiM), or ``"shared"`` by all places, which needs fewer images.
        top: Share of the places with the largest distances whose mean is the image score, in (0, 1]; 1 takes all.
        blur_sigma: Standard deviation in pixels of a Gaussian blur of the map; 0 for none.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the image's size, in ``setup``.
    """

    unlearnt: ClassVar[frozenset[str]] = frozenset({"blur_sigma", "top"})
    grid: tuple[int, int]

    def __init__(
        self, shrinkage: float = 0.1, covariance: Covariance = "place", top: float = 1.0, blur_sigma: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 < top <= 1:
            msg = f"top must lie in (0, 1], got {top}."
            raise ValueError(msg)
        self.shrinkage = shrinkage
        self.covariance: Covariance = covariance
        self.top = top
        self.blur_sigma = blur_sigma

    def make_room(self, network: MaskedAutoencoder, grid: tuple[int, int], width: int) -> None:
        """Make room for what is learnt of every place; for ``setup`` to call.

        Args:
            network: The network.
            grid: Rows and columns of the places.
            width: Features of a place, D.
        """
        self.grid = grid
        self.blur = MapBlur(self.blur_sigma, network.image_size)
        self.gaussians = PlaceGaussians(grid[0] * grid[1], width, self.shrinkage, self.covariance)

    @abstractmethod
    def features(self, network: MaskedAutoencoder, images: Tensor) -> Tensor:
        """Features of every place.

        Args:
            network: The network, in evaluation mode.
            images: Images (B, C, H, W) in [0, 1].

        Returns:
            Features (B, N, D), float32, places row by row.
        """

    def score(self, network: MaskedAutoencoder, images: Tensor) -> Scores:
        """Distances of the places as a map, enlarged bilinearly, and the mean of the largest as the image score."""
        distances = self.gaussians(self.features(network, images))
        largest = distances.topk(max(1, round(self.top * distances.shape[1])), dim=1).values
        picture = distances.unflatten(1, (1, *self.grid))
        anomaly_map = functional.interpolate(picture, list(network.image_size), mode="bilinear", align_corners=False)
        return Scores(largest.mean(dim=1), self.blur(anomaly_map))

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Learn mean and covariance of the features of every place.

        Raises:
            ValueError: If there are fewer than two images.
        """
        self.gaussians.fit(gather(torch.cat([self.features(network, images) for images in batches])))
        self.is_fitted.fill_(True)
