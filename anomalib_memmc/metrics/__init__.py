"""Metrics of localisation and detection, evidence beside an AUROC, and thresholds from normal images."""

from anomalib_memmc.metrics.conformal import ConformalThreshold, conformal_threshold, p_values
from anomalib_memmc.metrics.iou import IoU, OracleIoU
from anomalib_memmc.metrics.matched import Estimate, matched_auroc, paired_difference

__all__ = [
    "ConformalThreshold",
    "Estimate",
    "IoU",
    "OracleIoU",
    "conformal_threshold",
    "matched_auroc",
    "p_values",
    "paired_difference",
]
