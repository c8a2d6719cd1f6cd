"""Distance of an image's encoder tokens from those of normal images at the same place (not in the paper)."""

from typing import Any

from torch import Tensor

from anomalib_memmc.model.masking import seeded_masks, visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.places import PlaceScorer


class TokenScorer(PlaceScorer):
    """Distance of every patch's tokens from those of normal images at that place.

    Each patch is seen in the passes in which it is visible: disjoint sets of visible patches in turn show every patch
    once a round. Its tokens at the chosen levels are compared with the normal images' at that place, as PaDiM does with
    the features of a pretrained network. The decoder is not used. Before :meth:`fit` the scores mean little.

    Args:
        levels: Encoder levels whose tokens are joined, counted from 1.
        num_masks: Passes; at a mask ratio of 0.75 four show every patch once.
        mask_seed: Seed of the masks.
        **places: How places are compared, top and blur: arguments of
            :class:`~anomalib_memmc.scoring.places.PlaceScorer`.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the network, in ``setup``.
    """

    visible: Tensor
    counts: Tensor

    def __init__(self, levels: list[int] | None = None, num_masks: int = 4, mask_seed: int = 0, **places: Any) -> None:
        super().__init__(**places)
        self.levels = self.init_args["levels"] = [2] if levels is None else list(levels)
        self.num_masks = num_masks
        self.mask_seed = mask_seed

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Draw the masks and make room for what is learnt of every place."""
        depth = len(network.encoder.blocks)
        known = self.levels and all(type(level) is int and 1 <= level <= depth for level in self.levels)
        if not known or len(set(self.levels)) < len(self.levels):
            msg = f"levels of TokenScorer must be some of 1 to encoder_depth={depth}, each once, got {self.levels}."
            raise ValueError(msg)
        masks = seeded_masks(self.num_masks, network.num_patches, mask_ratio, "complementary", self.mask_seed)
        if masks.all(dim=0).any():
            msg = f"num_masks={self.num_masks} of ratio {mask_ratio} leave patches that are never visible: take more."
            raise ValueError(msg)
        self.register_buffer("visible", visible_indices(masks), persistent=False)
        self.register_buffer("counts", (~masks).sum(dim=0)[:, None].float(), persistent=False)
        self.make_room(network, network.grid, len(self.levels) * network.patch_embed.out_channels)

    def features(self, network: MaskedAutoencoder, images: Tensor) -> Tensor:
        """Tokens of every patch, the mean over the passes in which it is visible, levels joined: (B, N, L * E)."""
        batch = images.shape[0]
        visible = self.visible.expand(batch, -1, -1)
        _, levels = network.encode(images, visible, tuple(self.levels))
        assert levels is not None
        seen = levels.float().unflatten(1, (batch, -1)).permute(1, 2, 3, 0, 4).flatten(3).flatten(1, 2)  # (B, M V, L E)
        index = visible.flatten(1)[..., None].expand(-1, -1, seen.shape[-1])
        total = seen.new_zeros(batch, network.num_patches, seen.shape[-1]).scatter_add(1, index, seen)
        return total / self.counts
