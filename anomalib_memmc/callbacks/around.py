"""Which callbacks stand around a MemMCMAE, and in which order."""

from collections.abc import Sequence

from lightning.pytorch import Callback

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


def callbacks_around(
    components: Sequence[Callback],
    keep_checkpoints: KeepCheckpoints,
    *,
    seed: int | None,
    picture_every: int,
    log_metrics: bool,
    report: bool,
) -> list[Callback]:
    """List the callbacks of a model.

    Args:
        components: Those of anomalib's components: pre-processor, post-processor, evaluator and visualizer.
        keep_checkpoints: What saves checkpoints.
        seed: Seed of a new training.
        picture_every: Epochs between two pictures of reconstructions, 0 for none.
        log_metrics: Whether losses and metrics go to files where there is no logger.
        report: Whether a test ends with a report.

    Returns:
        The callbacks. Scores before the components are raw, and what comes last sees what the others did.
    """
    return [
        OneFolder(),
        *([ExperimentLog()] if log_metrics else []),
        EveryImageOnce(),
        KeepNoPredictions(),
        RequireFinite(),
        PredictionTable(),
        *components,
        FitFeatureTarget(),
        FitScorer(),
        *([ReconstructionPictures(every_n_epochs=picture_every)] if picture_every else []),
        *([RunReport()] if report else []),
        SameTraining(),
        FinalValidation(),
        ExactResume(seed),
        keep_checkpoints,
    ]
