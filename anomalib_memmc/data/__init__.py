"""Medical data sets for anomalib: Hyper-Kvasir, Covid-X, and phantoms that need no download."""

from anomalib_memmc.data.base.datamodule import MedicalDataModule
from anomalib_memmc.data.base.dataset import MedicalImageDataset, make_samples
from anomalib_memmc.data.covidx.datamodule import CovidX
from anomalib_memmc.data.covidx.labels import read_labels
from anomalib_memmc.data.hyperkvasir.datamodule import HyperKvasir
from anomalib_memmc.data.io.errors import DatasetError, DatasetNotFoundError, ImageReadError
from anomalib_memmc.data.io.reader import read_image, read_mask
from anomalib_memmc.data.phantom.datamodule import Phantom

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
