"""Lightning callbacks: the scorer learns, predictions are tabulated, reconstructions drawn."""

from anomalib_memmc.callbacks.fit_scorer import FitScorer
from anomalib_memmc.callbacks.predictions import PredictionTable
from anomalib_memmc.callbacks.reconstructions import ReconstructionPictures

__all__ = ["FitScorer", "PredictionTable", "ReconstructionPictures"]
