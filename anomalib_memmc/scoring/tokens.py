"""Distance of an image's encoder tokens from those of normal images at the same place (not in the paper)."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from anomalib_memmc.model.masking import seeded_masks, visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores, gather
from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.gaussian import PlaceGaussians, places_to_map, places_to_scores, require_share


class TokenScorer(Scorer):
    """Mahalanobis distance of every patch's tokens from those of normal images at that place.

    Each patch is seen in the passes in which it is visible: disjoint sets of visible patches in turn show every patch
    once a round. Its tokens at the chosen levels are compared with the normal images' at that place, as PaDiM does with
    the features of a pretrained network. The decoder is not used. Before :meth:`fit` the scores mean little.

    Args:
        levels: Encoder levels whose tokens are joined, counted from 1.
        num_masks: Passes; at a mask ratio of 0.75 four show every patch once.
        mask_seed: Seed of the masks.
        shrinkage: How far correlations between the channels of the tokens are shrunk, in (0, 1].
        top: Share of the places with the largest distances whose mean is the image score, in (0, 1]; 1 takes the mean
            over all.
        blur_sigma: Standard deviation in pixels of a Gaussian blur of the map; 0 for none.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the network, in ``setup``.
    """

    unlearnt: ClassVar[frozenset[str]] = frozenset({"blur_sigma", "top"})
    visible: Tensor
    counts: Tensor

    def __init__(
        self,
        levels: list[int] | None = None,
        num_masks: int = 4,
        mask_seed: int = 0,
        shrinkage: float = 0.1,
        top: float = 0.1,
        blur_sigma: float = 0.0,
    ) -> None:
        super().__init__()
        self.levels = self.init_args["levels"] = [2] if levels is None else list(levels)
        self.num_masks = num_masks
        self.mask_seed = mask_seed
        self.shrinkage = shrinkage
        self.top = require_share(top)
        self.blur_sigma = blur_sigma

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Draw the masks and make room for what is learnt of every place."""
        depth = len(network.encoder.blocks)
        if not self.levels or any(not 1 <= level <= depth for level in self.levels):
            msg = f"levels of TokenScorer must be some of 1 to encoder_depth={depth}, got {self.levels}."
            raise ValueError(msg)
        masks = seeded_masks(self.num_masks, network.num_patches, mask_ratio, "complementary", self.mask_seed)
        if masks.all(dim=0).any():
            msg = f"num_masks={self.num_masks} of ratio {mask_ratio} leave patches that are never visible: take more."
            raise ValueError(msg)
        self.blur = MapBlur(self.blur_sigma, network.image_size)
        width = len(self.levels) * network.patch_embed.out_channels
        self.register_buffer("visible", visible_indices(masks), persistent=False)
        self.register_buffer("counts", (~masks).sum(dim=0)[:, None].float(), persistent=False)
        self.gaussians = PlaceGaussians(network.num_patches, width, self.shrinkage)

    def score(self, network: MaskedAutoencoder, images: Tensor) -> Scores:
        """Distances of the patches as a map, and the mean of the largest as the image score."""
        distances = self.gaussians(self.tokens(network, images))
        anomaly_map = places_to_map(distances, network.grid, network.image_size)
        return Scores(places_to_scores(distances, self.top), self.blur(anomaly_map))

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Learn mean and covariance of the tokens of every place.

        Raises:
            ValueError: If there are fewer than two images.
        """
        self.gaussians.fit(gather(torch.cat([self.tokens(network, images) for images in batches])))
        self.is_fitted.fill_(True)

    def tokens(self, network: MaskedAutoencoder, images: Tensor) -> Tensor:
        """Tokens of every patch, the mean over the passes in which it is visible, levels joined: (B, N, L * E)."""
        batch = images.shape[0]
        visible = self.visible.expand(batch, -1, -1)
        _, levels = network.encode(images, visible, tuple(self.levels))
        assert levels is not None
        seen = levels.float().unflatten(1, (batch, -1)).permute(1, 2, 3, 0, 4).flatten(3).flatten(1, 2)  # (B, M V, L E)
        index = visible.flatten(1)[..., None].expand(-1, -1, seen.shape[-1])
        total = seen.new_zeros(batch, network.num_patches, seen.shape[-1]).scatter_add(1, index, seen)
        return total / self.counts
