"""The model: operators, torch module, Lightning module and weight loading."""

from anomalib_memmc.model.lightning_model import MemMCMAE
from anomalib_memmc.model.masking import complementary_masks, mask_bank, random_masks
from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor
from anomalib_memmc.model.pretrained import WeightReport, load_mae_weights
from anomalib_memmc.model.torch_model import MemMCMAEModel, Reconstruction, Scores
from anomalib_memmc.scoring.ms_ssim import ms_ssim_map

__all__ = [
    "MemMCMAE",
    "MemMCMAEModel",
    "NormalQuantilePostProcessor",
    "Reconstruction",
    "Scores",
    "WeightReport",
    "complementary_masks",
    "load_mae_weights",
    "mask_bank",
    "ms_ssim_map",
    "random_masks",
]
