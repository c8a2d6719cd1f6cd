"""A checkpoint to resume from, at any moment of a training."""

import logging
import time
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from anomalib_memmc.model.thresholds import thresholds_of
from anomalib_memmc.resuming import link_latest, link_latest_weights
from anomalib_memmc.resuming.checkpoint_io import install
from anomalib_memmc.resuming.thresholds_file import THRESHOLDS, write_thresholds
from anomalib_memmc.resuming.whole_file import copy_file

logger = logging.getLogger(__name__)

LAST = "last.ckpt"


class KeepCheckpoints(Callback):
    """Write ``last.ckpt`` beside anomalib's ``model.ckpt`` after the first step and every so many minutes.

    It is written between two steps of the optimizer that no validation separates, or after an epoch, so that a run
    resumed from it goes on exactly. When the training has ended, ``model.ckpt`` has the last weights, and ``last.ckpt``
    goes. It stays, with the last weights, where the trainer's own checkpoints keep others. A resumed run has a folder
    of its own and begins with a copy of the file that it was resumed from.

    All checkpoints of the training are written atomically (``AtomicCheckpointIO``), with their thresholds as
    ``thresholds.json`` beside them. anomalib's link ``latest`` points to the run as soon as that has weights, and until
    then to the last one that had some.

    Args:
        minutes: Least time between two of these checkpoints, in minutes, at least 0.

    Raises:
        ValueError: If ``minutes`` is negative.
    """

    def __init__(self, minutes: float = 10) -> None:
        super().__init__()
        if not minutes >= 0:
            msg = f"checkpoint_minutes must be at least 0, got {minutes}."
            raise ValueError(msg)
        self.minutes = minutes
        self._saved_at = float("-inf")
        self._resumed_from: str | Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have whole files written, and a link that leads to weights."""
        del pl_module
        install(trainer)
        if stage == "fit" and trainer.is_global_zero and _folder(trainer):
            link_latest_weights(Path(trainer.default_root_dir))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the file that was resumed from."""
        self._resumed_from, folder = trainer.ckpt_path, _folder(trainer)
        self._saved_at = time.monotonic() if self._resumed_from else float("-inf")
        if folder and self._resumed_from and trainer.is_global_zero and Path(self._resumed_from).is_file():
            copy_file(Path(self._resumed_from), folder / LAST)
            write_thresholds(
                folder / LAST,
                {
                    "epoch": trainer.current_epoch,
                    "global_step": trainer.global_step,
                    THRESHOLDS: thresholds_of(getattr(pl_module, "post_processor", None)),
                },
            )
            link_latest(Path(trainer.default_root_dir))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time."""
        del pl_module, outputs, batch, batch_idx
        if _between_steps(trainer):
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if it is time, unless this was the last epoch: what remains is for ``on_train_end``."""
        del pl_module
        if trainer.global_step < trainer.estimated_stepping_batches and not trainer.should_stop:
            self._save_if_due(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last weights, once."""
        del pl_module
        folder = _folder(trainer)
        if not folder:
            return
        if not any(_has_saved(trainer, callback) for callback in trainer.checkpoint_callbacks):
            self._save(trainer)
        elif trainer.is_global_zero:
            (folder / LAST).unlink(missing_ok=True)
            link_latest(Path(trainer.default_root_dir))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of anomalib's ``train --ckpt_path``, which resumes from a file, and then tests that file again."""
        del pl_module
        if trainer.ckpt_path and trainer.ckpt_path == self._resumed_from:
            logger.warning(
                "This tests %s, the checkpoint that the training was resumed from, and not the weights that it ended "
                "with. Those are in %s: test them with --ckpt_path, or train with anomalib-memmc, which does.",
                trainer.ckpt_path,
                _folder(trainer) or trainer.default_root_dir,
            )

    def _save_if_due(self, trainer: Trainer) -> None:
        due = time.monotonic() - self._saved_at >= 60 * self.minutes
        if _folder(trainer) and trainer.strategy.broadcast(due):  # the clocks of processes differ
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(cast(Path, _folder(trainer)) / LAST, weights_only=False)
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            link_latest(Path(trainer.default_root_dir))


def _folder(trainer: Trainer) -> Path | None:
    """Where the trainer keeps its checkpoints; None where it keeps none."""
    callback = trainer.checkpoint_callback
    if cast(Any, trainer).fast_dev_run or not isinstance(callback, ModelCheckpoint) or "://" in str(callback.dirpath):
        return None
    return Path(callback.dirpath or trainer.default_root_dir)


def _between_steps(trainer: Trainer) -> bool:
    """Whether another step of the same epoch follows at once, with no gradients left over and no validation before."""
    loop, fetcher = trainer.fit_loop.epoch_loop, cast(Any, trainer.fit_loop._data_fetcher)
    ends = loop._is_training_done or loop.batch_progress.is_last_batch or trainer.should_stop
    return not (ends or loop._should_accumulate() or loop._should_check_val_fx(fetcher))


def _has_saved(trainer: Trainer, callback: Callback) -> bool:
    """Whether one of the trainer's own checkpoints has the weights of the last step and stays."""
    return isinstance(callback, ModelCheckpoint) and callback._last_global_step_saved == trainer.global_step
