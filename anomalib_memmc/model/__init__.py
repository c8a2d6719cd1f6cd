"""The model: network, torch module, Lightning module and weight loading."""

from anomalib_memmc.model.feature_target import FeatureTarget
from anomalib_memmc.model.lightning_model import MemMCMAE
from anomalib_memmc.model.masking import complementary_masks, random_masks, seeded_masks
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.model.post_processor import NormalQuantilePostProcessor
from anomalib_memmc.model.pretrained import WeightReport, load_mae_weights
from anomalib_memmc.model.torch_model import MemMCMAEModel, Reconstruction

__all__ = [
    "FeatureTarget",
    "MaskedAutoencoder",
    "MemMCMAE",
    "MemMCMAEModel",
    "NormalQuantilePostProcessor",
    "Reconstruction",
    "WeightReport",
    "complementary_masks",
    "load_mae_weights",
    "random_masks",
    "seeded_masks",
]
