"""The model: operators, torch module, Lightning module and weight loading."""

from .lightning_model import MemMCMAE
from .masking import complementary_masks, mask_bank, random_masks
from .ms_ssim import ms_ssim_map
from .torch_model import MemMCMAEModel, Reconstruction, Scores
from .weights import WeightReport, load_mae_weights

__all__ = [
    "MemMCMAE",
    "MemMCMAEModel",
    "Reconstruction",
    "Scores",
    "WeightReport",
    "complementary_masks",
    "load_mae_weights",
    "mask_bank",
    "ms_ssim_map",
    "random_masks",
]
