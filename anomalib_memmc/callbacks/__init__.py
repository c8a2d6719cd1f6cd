"""Lightning callbacks: what happens around training, tests and predictions, in one process or several."""

from anomalib_memmc.callbacks.every_image_once import EveryImageOnce
from anomalib_memmc.callbacks.exact_resume import ExactResume
from anomalib_memmc.callbacks.experiment_log import ExperimentLog
from anomalib_memmc.callbacks.final_validation import FinalValidation
from anomalib_memmc.callbacks.fit_feature_target import FitFeatureTarget
from anomalib_memmc.callbacks.fit_scorer import FitScorer
from anomalib_memmc.callbacks.keep_checkpoints import KeepCheckpoints
from anomalib_memmc.callbacks.keep_no_predictions import KeepNoPredictions
from anomalib_memmc.callbacks.one_folder import OneFolder
from anomalib_memmc.callbacks.predictions import PredictionTable
from anomalib_memmc.callbacks.reconstructions import ReconstructionPictures
from anomalib_memmc.callbacks.require_finite import RequireFinite
from anomalib_memmc.callbacks.run_report import RunReport
from anomalib_memmc.callbacks.same_training import SameTraining

__all__ = [
    "EveryImageOnce",
    "ExactResume",
    "ExperimentLog",
    "FinalValidation",
    "FitFeatureTarget",
    "FitScorer",
    "KeepCheckpoints",
    "KeepNoPredictions",
    "OneFolder",
    "PredictionTable",
    "ReconstructionPictures",
    "RequireFinite",
    "RunReport",
    "SameTraining",
]
