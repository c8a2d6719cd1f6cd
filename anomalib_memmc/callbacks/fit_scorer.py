"""Where a scorer learns from normal images: the one way in."""

import logging
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_memmc.callbacks.normal_images import NormalImages
from anomalib_memmc.memory.advice import SCORING, advice

logger = logging.getLogger(__name__)


class FitScorer(Callback):
    """Fit a model's scorer to its normal training images: before each validation, and after the last step.

    The images are taken as a validation sees them, without training augmentations, so that thresholds, checkpoints and
    tests all use the scores of the weights at hand. It costs one pass of scoring over the training images. Of several
    processes each takes its share, and the scorer gathers what they measured. A test or a prediction with a scorer
    that has never been fitted is warned of.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fitted_at = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Get what the scorer needs, so that nothing is missing after hours of training."""
        del trainer
        cast(Any, pl_module.model).scorer.prepare()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit, if this validation is part of a training and not its sanity check."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._fit(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit to the final weights, if no validation has."""
        is_last = trainer.global_step >= trainer.estimated_stepping_batches or trainer.should_stop
        if is_last and self._fitted_at != trainer.global_step:
            self._fit(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where nothing was learnt."""
        del trainer
        scorer = cast(Any, pl_module.model).scorer
        if not scorer.is_fitted:
            logger.warning(
                "%s knows no normal images yet, so its scores mean little: train the model, or pass its checkpoint.",
                type(scorer).__name__,
            )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where nothing was learnt."""
        self.on_test_start(trainer, pl_module)

    def _fit(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = cast(Any, pl_module.model)
        if not model.scorer.learns:
            return
        was_training = model.training
        model.eval()
        with torch.no_grad(), trainer.precision_plugin.val_step_context(), advice(SCORING):
            model.scorer.fit(model.network, NormalImages(trainer, pl_module))
        model.scorer.is_fitted.fill_(True)
        model.train(was_training)
        self._fitted_at = trainer.global_step
