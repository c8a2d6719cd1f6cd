"""A variant for the study: half of the images of a step have their patches hidden in blocks of 2 x 2."""

from typing import Any, cast

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

import anomalib_memmc
from anomalib_memmc.model.masking import num_visible, random_masks

SHARE = 0.5
SIDE = 2  # patches; SimMIM's best blocks of 32 px where a patch has 16


class BlockMaskMemMCMAE(anomalib_memmc.MemMCMAE):
    """MemMC-MAE that also learns to fill contiguous blocks, whose middle has no visible neighbour."""

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One step on a batch of normal images."""
        del args, kwargs
        images, network = cast(Tensor, batch.image), self.model.network
        in_blocks = round(SHARE * len(images))
        masks = block_masks(in_blocks, network.grid, self.model.mask_ratio)
        others = random_masks(len(images) - in_blocks, network.num_patches, self.model.mask_ratio)
        loss = self.model.loss(images, torch.cat([masks, others]).to(images.device))
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss


def block_masks(num_masks: int, grid: tuple[int, int], mask_ratio: float) -> Tensor:
    """Random masks that hide and show blocks of 2 x 2 patches; the last block is cut where the number asks for it.

    Args:
        num_masks: Number of masks M.
        grid: Rows and columns of patches, N in all.
        mask_ratio: Fraction of patches to hide, in (0, 1).

    Returns:
        Boolean tensor (M, N), True = hidden.
    """
    rows, columns = (-(-length // SIDE) for length in grid)
    order = torch.rand(num_masks, rows * columns).argsort(dim=1).argsort(dim=1).float().unflatten(1, (rows, columns))
    of_patch = order.repeat_interleave(SIDE, dim=1).repeat_interleave(SIDE, dim=2)[:, : grid[0], : grid[1]].flatten(1)
    visible = (of_patch + torch.rand(of_patch.shape)).argsort(dim=1)[:, : num_visible(grid[0] * grid[1], mask_ratio)]
    return torch.ones_like(of_patch, dtype=torch.bool).scatter(1, visible, False)
