"""A variant for the study: MemMC-MAE trained on the squared error plus 0.05 times the structural error."""

from typing import Any, cast

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.nn import functional

import anomalib_memmc
from anomalib_memmc.model.decoder import take_tokens
from anomalib_memmc.model.masking import random_masks, visible_indices
from anomalib_memmc.scoring import StructureMap

WEIGHT = 0.05  # at the end of a training the two terms are then of similar size


class StructureLossMemMCMAE(anomalib_memmc.MemMCMAE):
    """MemMC-MAE whose loss has a structure term at the finest scale, over the hidden patches."""

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One step on a batch of normal images; the logged loss is the squared error."""
        del args, kwargs
        network, images = self.model.network, self.model.network.check(cast(Tensor, batch.image))
        masks = random_masks(len(images), network.num_patches, self.model.mask_ratio).to(images.device)
        visible, hidden = visible_indices(masks), visible_indices(~masks)
        patches = network.patchify(network.standardise(images))
        predicted = network.predict(images, visible[:, None], hidden[:, None])[:, 0].float()
        squared = functional.mse_loss(predicted, take_tokens(patches, hidden))
        pasted = patches.scatter(1, hidden[..., None].expand(-1, -1, predicted.shape[2]), predicted)
        weights = network.mask_pixels(masks[:, None]).float()
        errors = StructureMap()(network.pixels(pasted[:, None]), images[:, None])
        loss = squared + WEIGHT * (errors * weights).sum() / weights.sum()
        if not torch.isfinite(loss):
            msg = f"The training loss is {loss.item()} at step {self.global_step}."
            raise RuntimeError(msg)
        self.log("train_loss", squared, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss
