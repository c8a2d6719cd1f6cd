"""A variant for the study: MemMC-MAE tested with the exponential moving average of its weights.

The average (decay 0.99 a step: the last hundred steps or so) replaces the weights after the last step, before the last
validation, so that thresholds and normal errors are those of the averaged weights.
"""

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import anomalib_memmc


class AveragedMemMCMAE(anomalib_memmc.MemMCMAE):
    """MemMC-MAE with averaged weights."""

    def on_train_batch_end(self, *args, **kwargs):
        """Average the weights, and after the last step take the average."""
        del args, kwargs
        if not hasattr(self, "averages"):
            self.averages = [AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.99))]  # a list: no submodule
        (average,) = self.averages
        average.update_parameters(self.model)
        if self.global_step == self.trainer.estimated_stepping_batches:
            self.model.load_state_dict(average.module.state_dict())
