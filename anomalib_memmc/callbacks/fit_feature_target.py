"""Where the features that a network predicts are standardised: before its first step."""

from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_memmc.callbacks.normal_images import NormalImages


class FitFeatureTarget(Callback):
    """Fit a network's feature target to the normal training images, unless its checkpoint was resumed."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the frozen network's weights, and learn mean and spread of its features."""
        target = cast(Any, pl_module.model).network.feature_target
        if target is None or target.is_fitted:
            return
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            target.fit(NormalImages(trainer, pl_module, shared=False))
