"""A variant for the study: MemMC-MAE trained on the squared error plus 0.05 times the structural error."""

import torch
from torch.nn import functional

import anomalib_memmc
from anomalib_memmc.model.decoder import take_tokens
from anomalib_memmc.model.masking import random_indices
from anomalib_memmc.model.ms_ssim import structure_map

WEIGHT = 0.05  # at the end of a training the two terms are then of similar size


class MemMCMAE(anomalib_memmc.MemMCMAE):
    """MemMC-MAE whose loss has a structure term at the finest scale, over the hidden patches."""

    def training_step(self, batch, *args, **kwargs):
        """One step on a batch of normal images; the logged loss is the squared error."""
        del args, kwargs
        model = self.model
        images = model._check(batch.image)
        visible, hidden = random_indices(len(images), model.bank.shape[1], model.mask_ratio)
        visible, hidden = visible.to(images.device), hidden.to(images.device)
        predicted = model._predict(model._standardise(images), visible[:, None], hidden[:, None])
        patches = model._patchify(model._standardise(images))
        predicted = predicted.float()
        squared = functional.mse_loss(predicted, take_tokens(patches, hidden))
        pasted = patches.scatter(1, hidden[..., None].expand(-1, -1, predicted.shape[2]), predicted)
        is_hidden = torch.zeros(patches.shape[:2], dtype=torch.bool, device=images.device).scatter(1, hidden, True)
        weights = model._mask_pixels(is_hidden[:, None]).float()
        views = model._pixels(pasted, torch.Size([len(images), 1]))
        structure = (structure_map(views, images[:, None]) * weights).sum() / weights.sum()
        loss = squared + WEIGHT * structure
        self._require_finite(loss)
        self.log("train_loss", squared, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss
