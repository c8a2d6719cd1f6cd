"""Hyper-Kvasir: colonoscopy frames and segmented polyps."""

from anomalib_memmc.data.hyperkvasir.datamodule import HyperKvasir

__all__ = ["HyperKvasir"]
