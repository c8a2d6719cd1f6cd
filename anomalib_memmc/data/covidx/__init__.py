"""Covid-X: chest radiographs with and without COVID-19."""

from anomalib_memmc.data.covidx.datamodule import CovidX
from anomalib_memmc.data.covidx.labels import read_labels

__all__ = ["CovidX", "read_labels"]
