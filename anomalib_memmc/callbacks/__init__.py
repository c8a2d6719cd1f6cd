"""Lightning callbacks: the scorer learns, predictions are tabulated, reconstructions drawn, runs survive."""

from anomalib_memmc.callbacks.exact_resume import ExactResume
from anomalib_memmc.callbacks.final_validation import FinalValidation
from anomalib_memmc.callbacks.fit_feature_target import FitFeatureTarget
from anomalib_memmc.callbacks.fit_scorer import FitScorer
from anomalib_memmc.callbacks.keep_checkpoints import KeepCheckpoints
from anomalib_memmc.callbacks.predictions import PredictionTable
from anomalib_memmc.callbacks.reconstructions import ReconstructionPictures
from anomalib_memmc.callbacks.same_schedule import SameSchedule

__all__ = [
    "ExactResume",
    "FinalValidation",
    "FitFeatureTarget",
    "FitScorer",
    "KeepCheckpoints",
    "PredictionTable",
    "ReconstructionPictures",
    "SameSchedule",
]
