"""A training ends with a validation, whenever it ends."""

import logging
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

logger = logging.getLogger(__name__)


class FinalValidation(Callback):
    """Validate the last weights, if the trainer has not, and have the checkpoints keep what that measures.

    Thresholds, and what the scorer knows of normal images, are measured in validations. A training may end without one:
    with fewer epochs than ``check_val_every_n_epoch``, by ``max_steps`` or ``max_time``, or stopped early. Where there
    are no validation images, a warning says what is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._validated_at = -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step of a validation of the training."""
        del pl_module
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._validated_at = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate once more, and write the checkpoint of this step again."""
        del pl_module
        if self._validated_at == trainer.global_step:
            return
        if not trainer.enable_validation:
            logger.warning(
                "This training had no validation (limit_val_batches is 0, or the data module has none), so the model "
                "has no thresholds: its labels, masks, F1 and IoU will mean nothing. Scores and AUROC are not affected."
            )
            return
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
        for callback in cast(list[Any], trainer.checkpoint_callbacks):
            if _kept_this_step(trainer, callback):
                trainer.save_checkpoint(callback.best_model_path, callback.save_weights_only)


def _kept_this_step(trainer: Trainer, callback: Callback) -> bool:
    """Whether a checkpoint without a monitored metric holds the present step: before the validation, or of it."""
    return (
        isinstance(callback, ModelCheckpoint)
        and callback.monitor is None
        and bool(callback.best_model_path)
        and callback._last_global_step_saved == trainer.global_step
    )
