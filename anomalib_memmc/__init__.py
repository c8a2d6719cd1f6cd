"""MemMC-MAE for anomalib: unsupervised detection and localisation of disease in medical images."""

from anomalib_memmc.backbone import save_backbone
from anomalib_memmc.data import CovidX, HyperKvasir, Phantom
from anomalib_memmc.detection.detector import Detector
from anomalib_memmc.field_of_view import FieldOfView
from anomalib_memmc.model import (
    FeatureTarget,
    MaskedAutoencoder,
    MemMCMAE,
    MemMCMAEModel,
    NormalQuantilePostProcessor,
    Reconstruction,
    WeightReport,
    load_mae_weights,
)
from anomalib_memmc.model.pre_processor import ResizePreProcessor
from anomalib_memmc.register import register
from anomalib_memmc.reporting.case_visualizer import CaseVisualizer
from anomalib_memmc.reporting.visualizer import RegionVisualizer
from anomalib_memmc.scoring import Scores
from anomalib_memmc.scoring.ms_ssim import ms_ssim_map

__version__ = "0.1.0"

__all__ = [
    "CaseVisualizer",
    "CovidX",
    "Detector",
    "FeatureTarget",
    "FieldOfView",
    "HyperKvasir",
    "MaskedAutoencoder",
    "MemMCMAE",
    "MemMCMAEModel",
    "NormalQuantilePostProcessor",
    "Phantom",
    "Reconstruction",
    "RegionVisualizer",
    "ResizePreProcessor",
    "Scores",
    "WeightReport",
    "load_mae_weights",
    "ms_ssim_map",
    "register",
    "save_backbone",
]
