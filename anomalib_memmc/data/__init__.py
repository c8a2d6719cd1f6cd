"""Medical data sets for anomalib: Hyper-Kvasir, Covid-X, and phantoms that need no download."""

from anomalib_memmc.data.covidx import CovidX
from anomalib_memmc.data.covidx_labels import read_labels
from anomalib_memmc.data.datamodule import MedicalDataModule
from anomalib_memmc.data.dataset import MedicalImageDataset, make_samples
from anomalib_memmc.data.errors import DatasetError, DatasetNotFoundError, ImageReadError
from anomalib_memmc.data.hyperkvasir import HyperKvasir
from anomalib_memmc.data.phantom import Phantom
from anomalib_memmc.data.reader import read_image, read_mask

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
