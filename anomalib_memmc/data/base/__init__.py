"""What all data sets share: samples, parts, cache."""

from anomalib_memmc.data.base.datamodule import MedicalDataModule
from anomalib_memmc.data.base.dataset import MedicalImageDataset, make_samples

__all__ = ["MedicalDataModule", "MedicalImageDataset", "make_samples"]
