"""Medical data sets for anomalib: Hyper-Kvasir, Covid-X, and phantoms that need no download."""

from anomalib_memmc.data.base import MedicalDataModule, MedicalImageDataset, make_samples
from anomalib_memmc.data.covidx import CovidX, read_labels
from anomalib_memmc.data.hyperkvasir import HyperKvasir
from anomalib_memmc.data.io import DatasetError, DatasetNotFoundError, ImageReadError, read_image, read_mask
from anomalib_memmc.data.phantom import Phantom

__all__ = [
    "CovidX",
    "DatasetError",
    "DatasetNotFoundError",
    "HyperKvasir",
    "ImageReadError",
    "MedicalDataModule",
    "MedicalImageDataset",
    "Phantom",
    "make_samples",
    "read_image",
    "read_labels",
    "read_mask",
]
