"""A run is resumed with the learning rates and the model that it began with, or not at all."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_memmc.configurable import plain
from anomalib_memmc.model.checkpoint import differences, saved_arguments
from anomalib_memmc.model.optimizer import Schedule, schedule_of

_NOT_OF_THE_WEIGHTS = frozenset({"checkpoint_minutes", "compile", "picture_every", "pretrained", "recompute", "scorer"})
_OF_THE_SCHEDULE = frozenset({"lr", "lr_scaling", "max_epochs", "warmup_epochs"})
_OF_THE_CHECKPOINT = frozenset({"seed"})  # random states come from it


class SameTraining(Callback):
    """Refuse to resume what is finished, or to go on with other learning rates, or with other arguments of the model.

    A checkpoint brings its optimizer with it: another ``weight_decay`` would be written down and not be used.

    The rate falls to 0 at the end of the run. A checkpoint brings its schedule with it, and past its end a cosine
    rises to the peak again. More epochs, another batch size or another number of images make another schedule.
    """

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0
        self._schedule: Schedule | None = None
        self._arguments: Mapping[str, Any] = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note how far the run had come, its schedule and its arguments."""
        del pl_module
        if trainer.ckpt_path and trainer.state.fn == TrainerFn.FITTING:
            self._steps = checkpoint.get("global_step", 0)
            states = checkpoint.get("lr_schedulers", [])
            self._schedule = schedule_of(states[0]) if len(states) == 1 else None
            self._arguments = saved_arguments(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the run that shall begin.

        Raises:
            ValueError: If the checkpoint's run is finished, or has another schedule, or other arguments.
        """
        ignored = _NOT_OF_THE_WEIGHTS | _OF_THE_SCHEDULE | _OF_THE_CHECKPOINT
        if differing := differences(self._arguments, plain(dict(pl_module.hparams)), ignored):
            msg = (
                f"{trainer.ckpt_path} belongs to a run with {'; '.join(differing.values())}. Resume with the arguments "
                "of that run, or start a new run without --ckpt_path."
            )
            raise ValueError(msg)
        configs = trainer.lr_scheduler_configs
        theirs = self._schedule
        ours = schedule_of(configs[0].scheduler.state_dict()) if len(configs) == 1 else None
        if theirs is None or ours is None:
            return
        if theirs != ours:
            msg = (
                f"{trainer.ckpt_path} belongs to a run of {theirs}, and this run would have {ours}, so the learning "
                "rate would jump. Resume with the max_epochs, batch size, lr, warm-up and data of that run. To train "
                "longer, start a new run without --ckpt_path."
            )
            raise ValueError(msg)
        if self._steps >= ours.total:
            msg = (
                f"The run of {trainer.ckpt_path} is finished: all its {ours.total} steps are done, and its learning "
                "rate is 0. Test the checkpoint, or start a new run with more epochs, without --ckpt_path."
            )
            raise ValueError(msg)
