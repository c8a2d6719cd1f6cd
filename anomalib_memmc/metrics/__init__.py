"""Metrics of localisation, and quantiles of normal images."""

from anomalib_memmc.metrics.iou import IoU, OracleIoU

__all__ = ["IoU", "OracleIoU"]
