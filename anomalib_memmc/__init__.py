"""MemMC-MAE for anomalib: unsupervised detection and localisation of disease in medical images."""

from anomalib_memmc.data import CovidX, HyperKvasir, Phantom
from anomalib_memmc.model import (
    MemMCMAE,
    MemMCMAEModel,
    NormalQuantilePostProcessor,
    Reconstruction,
    Scores,
    WeightReport,
    load_mae_weights,
    ms_ssim_map,
)
from anomalib_memmc.register import register

__version__ = "0.1.0"

__all__ = [
    "CovidX",
    "HyperKvasir",
    "MemMCMAE",
    "MemMCMAEModel",
    "NormalQuantilePostProcessor",
    "Phantom",
    "Reconstruction",
    "Scores",
    "WeightReport",
    "load_mae_weights",
    "ms_ssim_map",
    "register",
]
