"""Lightning callbacks: tables and pictures of what a model makes of images."""

from anomalib_memmc.callbacks.predictions import PredictionTable
from anomalib_memmc.callbacks.reconstructions import ReconstructionPictures

__all__ = ["PredictionTable", "ReconstructionPictures"]
