"""Metrics of localisation and detection, and thresholds from normal images."""

from anomalib_memmc.metrics.conformal import ConformalThreshold, conformal_threshold, p_values
from anomalib_memmc.metrics.iou import IoU, OracleIoU

__all__ = ["ConformalThreshold", "IoU", "OracleIoU", "conformal_threshold", "p_values"]
