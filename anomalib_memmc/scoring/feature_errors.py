"""How badly the features of hidden patches are predicted, beside normal images (not in the paper)."""

from typing import Any

from torch import Tensor

from anomalib_memmc.model.masking import MaskSampler, seeded_masks, visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.places import PlaceScorer


class FeatureErrorScorer(PlaceScorer):
    """Distance of the errors of predicted features from those of normal images, place by place.

    For a network with a :class:`~anomalib_memmc.model.feature_target.FeatureTarget`. Every patch is hidden by some of
    the fixed masks; the mean of what is predicted for its features then, taken from the features that the whole image
    has there, is the error. Unlike PaDiM, which compares a place with the same place of other images, the prediction
    knows the rest of the image.

    Args:
        num_masks: Masks an image is seen through.
        mask_sampler: ``"complementary"``: disjoint sets of visible patches in turn, so that at ratio 0.75 four masks
            hide every patch three times; or ``"random"``.
        mask_seed: Seed of the masks.
        **places: How places are compared, top and blur: arguments of
            :class:`~anomalib_memmc.scoring.places.PlaceScorer`.

    Raises:
        ValueError: If an argument is out of its range, here or, where it depends on the network, in ``setup``.
    """

    masks: Tensor
    visible: Tensor
    hidden: Tensor
    counts: Tensor

    def __init__(
        self, num_masks: int = 4, mask_sampler: MaskSampler = "complementary", mask_seed: int = 0, **places: Any
    ) -> None:
        super().__init__(**places)
        self.num_masks = num_masks
        self.mask_sampler: MaskSampler = mask_sampler
        self.mask_seed = mask_seed

    def setup(self, network: MaskedAutoencoder, mask_ratio: float) -> None:
        """Draw the masks and make room for what is learnt of every place."""
        if network.feature_target is None:
            msg = "FeatureErrorScorer needs a network that predicts features: set feature_target of the model."
            raise ValueError(msg)
        masks = seeded_masks(self.num_masks, network.num_patches, mask_ratio, self.mask_sampler, self.mask_seed)
        if not masks.any(dim=0).all():
            msg = f"num_masks={self.num_masks} of ratio {mask_ratio} leave patches that are never hidden: take more."
            raise ValueError(msg)
        self.register_buffer("masks", masks, persistent=False)
        self.register_buffer("visible", visible_indices(masks), persistent=False)
        self.register_buffer("hidden", visible_indices(~masks), persistent=False)
        self.register_buffer("counts", masks.sum(dim=0)[:, None].float(), persistent=False)
        self.make_room(network, network.feature_target.grid, network.feature_target.features.width)

    def features(self, network: MaskedAutoencoder, images: Tensor) -> Tensor:
        """Errors of every place's features, in standard deviations of normal features: (B, N, D), float32."""
        assert network.feature_target is not None
        predicted = network.feature_values(network.predict(images, self.visible, self.hidden)).float()  # (B, M, K, F)
        batch, values = images.shape[0], predicted.shape[-1]  # len() would fix an exported batch
        index = self.hidden.flatten()[None, :, None].expand(batch, -1, values)
        total = predicted.new_zeros(batch, network.num_patches, values)
        total = total.scatter_add(1, index, predicted.flatten(1, 2))
        return network.feature_target.places(network.feature_target(images) - total / self.counts)
