"""MemMC-MAE for anomalib: unsupervised detection and localisation of disease in medical images."""

from .data import CovidX, HyperKvasir, Phantom
from .model import (
    MemMCMAE,
    MemMCMAEModel,
    Reconstruction,
    Scores,
    WeightReport,
    load_mae_weights,
    ms_ssim_map,
)
from .register import register

__version__ = "0.1.0"

__all__ = [
    "CovidX",
    "HyperKvasir",
    "MemMCMAE",
    "MemMCMAEModel",
    "Phantom",
    "Reconstruction",
    "Scores",
    "WeightReport",
    "load_mae_weights",
    "ms_ssim_map",
    "register",
]
