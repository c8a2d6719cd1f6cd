"""Distance of an image's encoder tokens from those of normal images at the same place (not in the paper)."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.model.masking import seeded_masks, visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores, gather
from anomalib_memmc.scoring.blur import MapBlur

_LEAST_SPREAD = 1e-3


class TokenScorer(Scorer):
    """Mahalanobis distance of every patch's tokens from those of normal images at that place.

    Each patch is seen in the passes in which it is visible: disjoint sets of visible patches in turn show every patch
    once a round. Its tokens at the chosen levels are standardised and whitened by the normal images' (mean, and Ledoit
    and Wolf's covariance, of each place), as PaDiM does with the features of a pretrained network. The decoder is not
    used. Before :meth:`fit` all distances are those of raw tokens and mean little.

    Args:
        levels: Encoder levels whose tokens are joined, counted from 1.
        num_masks: Passes; at a mask ratio of 0.75 four show every patch once.
        mask_seed: Seed of the masks.
        top: Share of the places with the largest distances whose mean is the image score, in (0, 1]; 1 takes the mean
            over all.
        blur_sigma: Standard deviation in pixels of a Gaussian blur of the map; 0 for none.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the network, in ``setup``.
    """

    unlearnt: ClassVar[frozenset[str]] = frozenset({"blur_sigma", "top"})
    visible: Tensor
    counts: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(
        self,
        levels: list[int] | None = None,
        num_masks: int = 4,
        mask_seed: int = 0,
        top: float = 0.1,
        blur_sigma: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < top <= 1:
            msg = f"top must lie in (0, 1], got {top}."
            raise ValueError(msg)
        self.levels = self.init_args["levels"] = [2] if levels is None else list(levels)
        self.num_masks = num_masks
        self.mask_seed = mask_seed
        self.top = top
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
        self.register_buffer("mean", torch.zeros(network.num_patches, width))
        self.register_buffer("whitening", torch.eye(width).repeat(network.num_patches, 1, 1))

    def score(self, network: MaskedAutoencoder, images: Tensor) -> Scores:
        """Distances of the patches as a map, enlarged bilinearly, and the mean of the largest as the image score."""
        distances = self.distances(self.tokens(network, images))
        largest = distances.topk(max(1, round(self.top * distances.shape[1])), dim=1).values.mean(dim=1)
        grid = distances.unflatten(1, (1, *network.grid))
        size = list(network.image_size)
        return Scores(largest, self.blur(functional.interpolate(grid, size, mode="bilinear", align_corners=False)))

    def fit(self, network: MaskedAutoencoder, batches: Iterable[Tensor]) -> None:
        """Learn mean and covariance of the tokens of every place.

        Raises:
            ValueError: If there are fewer than two images.
        """
        tokens = gather(torch.cat([self.tokens(network, images) for images in batches])).cpu().double()
        if len(tokens) < 2:
            msg = f"TokenScorer needs at least 2 normal training images, got {len(tokens)}."
            raise ValueError(msg)
        mean, spread = tokens.mean(dim=0), tokens.std(dim=0, correction=0).clamp(min=_LEAST_SPREAD)
        standard = (tokens - mean) / spread
        self.mean.copy_(mean)
        for place in range(tokens.shape[1]):
            covariance = torch.from_numpy(ledoit_wolf(standard[:, place].numpy())[0])
            covariance += _LEAST_SPREAD * torch.eye(len(covariance), dtype=covariance.dtype)
            self.whitening[place] = torch.linalg.cholesky(covariance.inverse()).mT / spread[place]
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

    def distances(self, tokens: Tensor) -> Tensor:
        """Root mean square of the whitened deviations, (B, N, L * E) -> (B, N), float32: about 1 where normal."""
        with torch.autocast(device_type=tokens.device.type, enabled=False):
            deviations = tokens.float() - self.mean.float()
            whitened = torch.einsum("bnd,ned->bne", deviations, self.whitening.float())
            return whitened.square().mean(dim=2).sqrt()
