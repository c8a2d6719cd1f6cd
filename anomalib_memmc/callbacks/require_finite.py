"""Where a run is stopped that would end in numbers from NaN."""

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_memmc.model.finite import require_finite_predictions, require_finite_weights, weights_of


class RequireFinite(Callback):
    """Stop a run whose weights, scores or maps are NaN or infinite. For any anomalib model.

    A sorting takes NaN for the largest value, so that metrics of such scores look like results. Weights are looked at
    before each validation, test and prediction and after each epoch of training, which comes before its checkpoint.
    Scores and maps are looked at in each batch, as the model gives them. Stand before the post-processor and the table
    of predictions in the trainer's list.

    Raises:
        NotFiniteError: Naming the first tensor, or the first image, and what to do.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the weights, before a scorer learns by them."""
        del trainer
        require_finite_weights(weights_of(cast(Any, pl_module).model), "The model")

    on_test_start = on_predict_start = on_validation_start
    on_train_epoch_end = on_validation_start  # before a checkpoint is made of the weights
    on_train_end = on_validation_start  # also where the training was stopped within an epoch

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at scores and maps."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        require_finite_predictions(outputs)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
