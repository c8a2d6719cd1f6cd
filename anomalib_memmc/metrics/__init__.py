"""Metrics of localisation and detection, evidence beside an AUROC, and thresholds from normal images."""

from anomalib_memmc.metrics.conformal import ConformalThreshold, conformal_threshold, p_values
from anomalib_memmc.metrics.defined import AUROC, F1Score
from anomalib_memmc.metrics.iou import IoU, OracleIoU
from anomalib_memmc.metrics.matched import Estimate, matched_auroc, paired_difference
from anomalib_memmc.metrics.pixel_curves import PixelAUPRO, PixelAUROC

__all__ = [
    "AUROC",
    "ConformalThreshold",
    "Estimate",
    "F1Score",
    "IoU",
    "OracleIoU",
    "PixelAUPRO",
    "PixelAUROC",
    "conformal_threshold",
    "matched_auroc",
    "p_values",
    "paired_difference",
]
