"""The trained encoder as a backbone of other detectors, such as anomalib's PaDiM and PatchCore."""

from anomalib_memmc.backbone.folder import save_backbone
from anomalib_memmc.backbone.memmc_mae import MemMCBackbone

__all__ = ["MemMCBackbone", "save_backbone"]
