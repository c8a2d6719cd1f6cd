"""A variant for the study: the decoder predicts how uncertain each hidden pixel is, and errors count relative to it.

Loss ``exp(-s) e + s``, error ``exp(-s) e`` of a pixel with squared error e and log-variance s (Kendall and Gal 2017).
"""

from typing import Any, cast

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

import anomalib_memmc
from anomalib_memmc.model.decoder import take_tokens
from anomalib_memmc.model.masking import random_indices
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.scoring import MahalanobisScorer

LEAST, MOST = -10.0, 4.0  # of s: a spread of a pixel between 0.007 and 7


class LogVarianceMemMCMAE(anomalib_memmc.MemMCMAE):
    """MemMC-MAE with a second head: the log-variance of each pixel, after the pixels."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        pixels = self.model.network.decoder.pred
        head = nn.Linear(pixels.in_features, 2 * pixels.out_features)
        nn.init.zeros_(head.weight)  # of the log-variances: a spread of 1 at first
        nn.init.zeros_(head.bias)
        with torch.no_grad():
            head.weight[: pixels.out_features] = pixels.weight
        self.model.network.decoder.pred = head

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One step on a batch of normal images; the logged loss is the squared error."""
        del args, kwargs
        network, images = self.model.network, self.model.network.check(cast(Tensor, batch.image))
        visible, hidden = random_indices(len(images), network.num_patches, self.model.mask_ratio)
        predicted = network.predict(images, visible[:, None], hidden[:, None])[:, 0].float()
        mean, log_variance = predicted.split(network.pixel_values, dim=-1)
        squared = (mean - take_tokens(network.patchify(network.standardise(images)), hidden)).square()
        log_variance = log_variance.clamp(LEAST, MOST)
        loss = ((-log_variance).exp() * squared + log_variance).mean()
        self.log("train_loss", squared.mean(), on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss


class LogVarianceScorer(MahalanobisScorer):
    """As its base, of squared errors relative to the variance that was predicted for the pixel."""

    def _map(self, network: MaskedAutoencoder, images: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Error of each pixel (B, 1, H, W), and no spread."""
        del chunk
        predicted = network.predict(images, self.visible, self.hidden).float()
        patches = network.put_back(predicted, self.hidden.expand(len(images), -1, -1))
        mean, log_variance = patches.split(network.pixel_values, dim=-1)
        squared = (network.pixels(mean) - images[:, None]).square()
        errors = squared * (-network.unpatchify(log_variance.clamp(LEAST, MOST))).exp()
        pixels = network.mask_pixels(self.masks[None]).float()
        total = (errors.mean(dim=2, keepdim=True) * pixels).sum(dim=1)
        return total / pixels.sum(dim=1).clamp(min=1), torch.zeros(len(images))
