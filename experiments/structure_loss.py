"""A variant for the study: MemMC-MAE trained on the squared error plus 0.05 times the structural error."""

import torch
from torch.nn import functional

import anomalib_memmc
from anomalib_memmc.model.decoder import take_tokens
from anomalib_memmc.model.masking import random_masks, visible_indices
from anomalib_memmc.scoring.ms_ssim import structure_map

WEIGHT = 0.05  # at the end of a training the two terms are then of similar size


class MemMCMAE(anomalib_memmc.MemMCMAE):
    """MemMC-MAE whose loss has a structure term at the finest scale, over the hidden patches."""

    def training_step(self, batch, *args, **kwargs):
        """One step on a batch of normal images; the logged loss is the squared error."""
        del args, kwargs
        model = self.model
        images = model._check(batch.image)
        masks = random_masks(len(images), model.bank.shape[1], model.mask_ratio).to(images.device)
        visible, hidden = visible_indices(masks), visible_indices(~masks)
        pixels = model._standardise(images)
        patches = model._patchify(pixels)
        predicted = model._predict(pixels, visible[:, None], hidden[:, None]).float()
        squared = functional.mse_loss(predicted, take_tokens(patches, hidden))
        pasted = patches.scatter(1, hidden[..., None].expand(-1, -1, predicted.shape[2]), predicted)
        weights = model._mask_pixels(masks[:, None]).float()
        views = model._pixels(pasted, torch.Size([len(images), 1]))
        structure = (structure_map(views, images[:, None]) * weights).sum() / weights.sum()
        loss = squared + WEIGHT * structure
        self._require_finite(loss)
        self.log("train_loss", squared, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss
