"""Distance of an image's errors from those of normal images (not in the paper)."""

from collections.abc import Iterable
from typing import Any

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.arguments import require_count
from anomalib_memmc.gathering import gather
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.error_maps import ErrorMap
from anomalib_memmc.scoring.masked import MaskedScorer

_RIDGE = 1e-6
_LEAST_MEAN = 1e-6
_LEAST_SPREAD = 0.1  # of a cell, such as one in a black border, to the root mean square of all


class MahalanobisScorer(MaskedScorer):
    """Mahalanobis distance of an image's errors from those of the normal training images, cell by cell.

    The map is pooled to square cells, and the root of each cell's mean error is taken: roots of squared errors and of
    ``1 - SSIM`` are distances and closer to Gaussian. Some places of an image are always hard and neighbours err
    together; the covariance knows both. Cells are standardised by their own mean and spread (no spread counts as less
    than a tenth of the typical one), and the correlations are Ledoit and Wolf's, which are well conditioned with fewer
    images than cells. Before :meth:`fit` the distance is the root of the map's mean, so that it ranks images as the
    mean does (unless ``relative``).

    Args:
        error_map: How a reconstruction differs from its image; None takes the paper's, ``MSSSIMMap()``.
        cell_size: Side of a cell in pixels; must divide both sides of the image. None takes half a patch: finer than
            the masks, coarse enough to estimate their covariance.
        relative: Divide the cells of an image by their mean. What makes all of an image harder, such as the noise or
            sharpness of another device, is then not seen, and only where its errors are.
        **masks: Masks, chunks and blur: arguments of :class:`~anomalib_memmc.scoring.masked.MaskedScorer`.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the image's size, in ``setup``.
    """

    side: int
    mean: Tensor
    whitening: Tensor

    def __init__(
        self, error_map: ErrorMap | None = None, cell_size: int | None = None, relative: bool = False, **masks: Any
    ) -> None:
        super().__init__(error_map, **masks)
        self.cell_size = cell_size
        self.relative = relative

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Choose the cells and make room for what is learnt of them."""
        super().setup(network, mask_ratio)
        half = network.patch_size // 2 if network.patch_size % 2 == 0 else network.patch_size
        self.side = half if self.cell_size is None else self.cell_size
        require_count("cell_size", self.side)
        if any(length % self.side for length in network.image_size):
            msg = f"cell_size must be a number of pixels that divides both sides of the image, got {self.side}."
            raise ValueError(msg)
        cells = (network.image_size[0] // self.side) * (network.image_size[1] // self.side)
        self.register_buffer("mean", torch.zeros(cells))
        self.register_buffer("whitening", torch.eye(cells))

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Learn mean and covariance of the cells from normal images.

        Raises:
            ValueError: If there are fewer than two images.
        """
        self.fit_cells(gather(torch.cat([self.cells(self.maps(network, images)) for images in batches])))

    def fit_cells(self, cells: Tensor) -> None:
        """Learn mean and covariance from what :meth:`cells` gives for normal images (N, cells).

        Raises:
            ValueError: If there are fewer than two images.
        """
        if len(cells) < 2:
            msg = f"MahalanobisScorer needs at least 2 normal training images, got {len(cells)}."
            raise ValueError(msg)
        values = cells.cpu().double()
        mean, spread = values.mean(dim=0), values.std(dim=0, correction=0)
        typical = spread.square().mean().sqrt().item()
        spread = spread.clamp(min=max(_LEAST_SPREAD * typical, 1e-6))
        covariance = torch.from_numpy(LedoitWolf().fit(((values - mean) / spread).numpy()).covariance_)
        covariance += _RIDGE * torch.eye(len(mean))
        self.mean.copy_(mean)
        self.whitening.copy_(torch.linalg.cholesky(covariance.inverse()).mT / spread)
        self.is_fitted.fill_(True)

    def cells(self, maps: Tensor) -> Tensor:
        """Root of the mean error of each cell, to that of all where ``relative``: (B, 1, H, W) -> (B, cells), >= 0."""
        roots = functional.avg_pool2d(maps.float(), self.side).flatten(1).clamp(min=0).sqrt()
        return roots / roots.mean(dim=1, keepdim=True).clamp(min=_LEAST_MEAN) if self.relative else roots

    def reduce(self, anomaly_map: Tensor) -> Tensor:
        """Root mean square of the whitened deviations: about 1 for a training image, higher for an unusual one.

        Args:
            anomaly_map: Errors (B, 1, H, W), >= 0.

        Returns:
            Distances (B,), float32, >= 0.
        """
        with torch.autocast(device_type=anomaly_map.device.type, enabled=False):
            deviations = functional.linear(self.cells(anomaly_map) - self.mean.float(), self.whitening.float())
            return deviations.square().mean(dim=1).sqrt()
