"""Lightning callbacks: the scorer learns, predictions are tabulated, reconstructions drawn."""

from anomalib_memmc.callbacks.fit_feature_target import FitFeatureTarget
from anomalib_memmc.callbacks.fit_scorer import FitScorer
from anomalib_memmc.callbacks.predictions import PredictionTable
from anomalib_memmc.callbacks.reconstructions import ReconstructionPictures

__all__ = ["FitFeatureTarget", "FitScorer", "PredictionTable", "ReconstructionPictures"]
