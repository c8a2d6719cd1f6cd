"""Scores from features of places of the image: how far they are from those of normal images."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.arguments import require_count, require_positive
from anomalib_memmc.gathering import gather
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores
from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.gaussian import Covariance, PlaceGaussians, require_gaussian
from anomalib_memmc.scoring.nearest import NearestPlaces

_EPS = 1e-8  # added to the variances of features within an image


class PlaceScorer(Scorer):
    """Base class of the scores that compare features place by place; a subclass gives the features.

    They are compared with the Gaussian of normal features at that place, as in PaDiM, or with the nearest normal
    features of any place, as in PatchCore.

    Args:
        shrinkage: How far correlations between features are shrunk, in (0, 1]; of Gaussians alone.
        covariance: ``"place"`` (PaDiM), or ``"shared"`` by all places, which needs fewer images; of Gaussians alone.
        bank: Compare with the nearest of so many normal places, drawn at random; None compares with Gaussians.
        top: Share of the places with the largest distances whose mean is the image score, in (0, 1]; 1 takes all.
        blur_sigma: Standard deviation in pixels of a Gaussian blur of the map; 0 for none.
        instance_norm: Standardise each feature of an image by its own mean and spread over the places (instance
            normalisation, Ulyanov et al. 2016). What differs everywhere alike, such as tone, noise or sharpness of
            another device, is then not seen.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the image's size, in ``setup``.
    """

    unlearnt: ClassVar[frozenset[str]] = frozenset({"blur_sigma", "top"})
    grid: tuple[int, int]

    def __init__(
        self,
        shrinkage: float = 0.1,
        covariance: Covariance = "place",
        bank: int | None = None,
        top: float = 1.0,
        blur_sigma: float = 0.0,
        instance_norm: bool = False,
    ) -> None:
        super().__init__()
        if bank is not None:
            require_count("bank", bank)
        require_gaussian(shrinkage, covariance)
        require_positive("top", top, most=1)
        self.shrinkage = shrinkage
        self.covariance: Covariance = covariance
        self.bank = bank
        self.top = top
        self.blur_sigma = blur_sigma
        self.instance_norm = instance_norm

    def make_room(self, network: MaskedAutoencoder, grid: tuple[int, int], width: int) -> None:
        """Make room for what is learnt of every place; for ``setup`` to call.

        Args:
            network: The network.
            grid: Rows and columns of the places.
            width: Features of a place, D.

        Raises:
            ValueError: If ``instance_norm`` has one place only.
        """
        if self.instance_norm and grid == (1, 1):
            msg = "instance_norm needs more than one place: choose finer features, or leave it off."
            raise ValueError(msg)
        self.grid = grid
        self.blur = MapBlur(self.blur_sigma, network.image_size)
        self.normal_places = (
            NearestPlaces(self.bank, width)
            if self.bank is not None
            else PlaceGaussians(grid[0] * grid[1], width, self.shrinkage, self.covariance)
        )

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
        distances = self.normal_places(self._compared(network, images))
        largest = distances.topk(max(1, round(self.top * distances.shape[1])), dim=1).values
        return Scores(largest.mean(dim=1), self.enlarge(network, distances))

    def enlarge(self, network: MaskedAutoencoder, distances: Tensor) -> Tensor:
        """Distances of places (B, N) as a map (B, 1, H, W), enlarged bilinearly and blurred."""
        return enlarged(distances, self.grid, network.image_size, self.blur)

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Learn the features of normal places.

        Raises:
            ValueError: If there are fewer images than they need.
        """
        self.normal_places.fit(gather(torch.cat([self._compared(network, images) for images in batches])))
        self.is_fitted.fill_(True)

    def _compared(self, network: MaskedAutoencoder, images: Tensor) -> Tensor:
        """The features that are compared with those of normal images, (B, N, D)."""
        features = self.features(network, images)
        return functional.instance_norm(features.mT, eps=_EPS).mT if self.instance_norm else features


def enlarged(distances: Tensor, grid: tuple[int, int], image_size: tuple[int, int], blur: MapBlur) -> Tensor:
    """Distances of places (B, N), row by row, as a map (B, 1, H, W), enlarged bilinearly and blurred."""
    picture = distances.unflatten(1, (1, *grid))
    return blur(functional.interpolate(picture, list(image_size), mode="bilinear", align_corners=False))
