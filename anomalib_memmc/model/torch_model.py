"""MemMC-MAE as a plain torch module: network, masks and scorer; loss in training, scores and maps in evaluation."""

from typing import Any, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn
from torch.nn import functional

from anomalib_memmc.model.decoder import take_tokens
from anomalib_memmc.model.masking import num_visible, random_indices, seeded_masks, visible_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring.base import Scorer, Scores
from anomalib_memmc.scoring.reconstruction import ReconstructionScorer


class Reconstruction(NamedTuple):
    """What the model made of masked images.

    Attributes:
        pixels: Reconstructions (B, M, C, H, W), every patch as predicted, nothing pasted; about [0, 1].
        masks: Masks (B, M, N), True = hidden; patches run row by row.
        masked_inputs: Inputs (B, M, C, H, W) with hidden patches in mid-grey.
    """

    pixels: Tensor
    masks: Tensor
    masked_inputs: Tensor


class MemMCMAEModel(nn.Module):
    """A masked autoencoder, the masks it is trained with, and the scorer that judges images by it.

    Args:
        scorer: How images are scored; None takes the paper's, ``ReconstructionScorer()``.
        mask_ratio: Fraction of the patches hidden, in (0, 1).
        **network: Arguments of :class:`~anomalib_memmc.model.network.MaskedAutoencoder`.

    Raises:
        ValueError: If an argument is out of its range, with the reason.
    """

    def __init__(self, *, scorer: Scorer | None = None, mask_ratio: float = 0.75, **network: Any) -> None:
        super().__init__()
        self.network = MaskedAutoencoder(**network)
        num_visible(self.network.num_patches, mask_ratio)
        self.mask_ratio = mask_ratio
        self.scorer: Scorer
        self.set_scorer(ReconstructionScorer() if scorer is None else scorer)

    def set_scorer(self, scorer: Scorer) -> None:
        """Score with another scorer from now on.

        Args:
            scorer: The scorer; what it has learnt before is lost.

        Raises:
            ValueError: If it does not fit the network, such as cells that do not divide the image.
            TypeError: If it is no scorer.
        """
        if not isinstance(scorer, Scorer):
            msg = f"scorer must be a Scorer of anomalib_memmc.scoring, such as ReconstructionScorer(), got {scorer!r}."
            raise TypeError(msg)
        scorer.setup(self.network, self.mask_ratio)
        self.scorer = scorer.to(self.network.pos_embed.device)

    def forward(self, images: Tensor) -> Tensor | InferenceBatch:
        """Loss in training, scores and maps in evaluation.

        Args:
            images: Images (B, C, H, W), values in [0, 1].

        Returns:
            In training the scalar loss over freshly drawn hidden patches, see :meth:`loss`. In
            evaluation an ``InferenceBatch`` with ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            ValueError: If the images do not have the size or channels the model was built for.
        """
        if self.training:
            return self._loss(images, *random_indices(len(images), self.network.num_patches, self.mask_ratio))
        scores = self.score(images)
        return InferenceBatch(pred_score=scores.pred_score, anomaly_map=scores.anomaly_map)

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Mean squared error over the pixels of the hidden patches, and, weighted, over their features where there are.

        Args:
            images: Images (B, C, H, W), values in [0, 1].
            masks: One mask per image (B, N), True = hidden.

        Returns:
            Scalar, float32.
        """
        return self._loss(images, visible_indices(masks), visible_indices(~masks))

    def score(self, images: Tensor) -> Scores:
        """Score images; an image's numbers do not depend on the rest of the batch.

        Args:
            images: Images (B, C, H, W), values in [0, 1].

        Returns:
            Scores, maps and the spread of the scores over the masks.

        Raises:
            ValueError: If the images do not have the size or channels the model was built for.
        """
        return self.scorer.score(self.network, self.network.check(images))

    def reconstruct(self, images: Tensor, masks: Tensor | None = None) -> Reconstruction:
        """Reconstruct images from their visible patches.

        Args:
            images: Images (B, C, H, W), values in [0, 1].
            masks: Boolean masks (M, N) for all images or (B, M, N), True = hidden; None takes those of the scorer, or
                of ten random ones where it has none.

        Returns:
            The reconstructions, the masks and the masked inputs.

        Raises:
            ValueError: If images or masks do not fit the model, or masks hide different numbers of patches.
        """
        images = self.network.check(images)
        masks = self._check_masks(self._fixed_masks() if masks is None else masks, len(images)).to(images.device)
        pixels = self.network.pixels(self.network.predict(images, visible_indices(masks)))
        return Reconstruction(pixels, masks, torch.where(self.network.mask_pixels(masks), 0.5, images[:, None]))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters to keep out of weight decay: memory, tokens, skips, biases and norms."""
        return {f"network.{name}" for name in self.network.no_weight_decay()}

    def _loss(self, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Loss from the indices of the visible (B, V) and of the hidden patches (B, K)."""
        images = self.network.check(images)
        visible, hidden = (index.to(images.device, non_blocking=True) for index in (visible, hidden))
        predicted = self.network.predict(images, visible[:, None], hidden[:, None])[:, 0]
        pixels = take_tokens(self.network.patchify(self.network.standardise(images)), hidden)
        loss = functional.mse_loss(self.network.pixel_part(predicted).float(), pixels.float())
        target = self.network.feature_target
        if target is None:
            return loss
        features = take_tokens(target(images), hidden)
        return loss + target.weight * functional.mse_loss(self.network.feature_values(predicted).float(), features)

    def _fixed_masks(self) -> Tensor:
        masks = getattr(self.scorer, "masks", None)
        return seeded_masks(10, self.network.num_patches, self.mask_ratio, "random", 0) if masks is None else masks

    def _check_masks(self, masks: Tensor, batch: int) -> Tensor:
        if masks.ndim == 2:
            masks = masks.expand(batch, -1, -1)
        patches = self.network.num_patches
        if masks.dtype != torch.bool or masks.ndim != 3 or masks.shape[0] != batch or masks.shape[2] != patches:
            msg = (
                f"masks must be boolean of shape (M, {patches}) or ({batch}, M, {patches}), "
                f"got {masks.dtype} of shape {tuple(masks.shape)}."
            )
            raise ValueError(msg)
        return masks
