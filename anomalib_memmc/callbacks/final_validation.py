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
        if trainer.enable_validation:
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
        if self._validated_at != trainer.global_step:
            logger.warning(
                "This training had no validation (limit_val_batches is 0, or there are no validation images), so the "
                "model has no thresholds: its labels, masks, F1 and IoU mean nothing. Scores and AUROC do."
            )
            return
        for callback in cast(list[Any], trainer.checkpoint_callbacks):
            if isinstance(callback, ModelCheckpoint) and callback._last_global_step_saved == trainer.global_step:
                trainer.save_checkpoint(callback._last_checkpoint_saved, callback.save_weights_only)
