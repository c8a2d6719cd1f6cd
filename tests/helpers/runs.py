"""Tiny trainings that are resumed: every checkpoint that one writes can be kept, and another goes on from it."""

import os
import shutil
from pathlib import Path

import torch
from anomalib.engine import Engine
from helpers.models import TINY_MEMMC
from lightning.pytorch import Callback

from anomalib_memmc import MemMCMAE

TRAINER = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "max_epochs": 3,
}


class Kept(Callback):
    """Copies every checkpoint, and names the copy after file, epoch and step."""

    def __init__(self, folder: Path):
        self.folder = folder

    def setup(self, trainer, pl_module, stage):
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True)
        save = trainer.save_checkpoint

        def save_and_copy(path, *args, **kwargs):
            save(path, *args, **kwargs)
            name = f"{Path(path).stem}-{trainer.current_epoch}-{trainer.global_step}.ckpt"
            shutil.copy(path, self.folder / name)

        trainer.save_checkpoint = save_and_copy


class Die(Callback):
    """Ends the process after a step, as a kill does."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            os._exit(9)


def fit(datamodule, folder, ckpt_path=None, callbacks=(), model=None, **trainer):
    """Train; by default a seeded tiny model that writes ``last.ckpt`` after every step."""
    model = MemMCMAE(**TINY_MEMMC, seed=0, warmup_epochs=1, checkpoint_minutes=0) if model is None else model
    engine = Engine(default_root_dir=folder, callbacks=list(callbacks), **{**TRAINER, **trainer})
    engine.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return model, engine


def assert_equal(one, other):
    """Weights, thresholds and what the scorer learnt, bit for bit."""
    theirs = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value.nan_to_num(-1), theirs[name].nan_to_num(-1)), name


def weights(run: Path) -> Path:
    """The folder of a run's checkpoints, by the link ``latest``."""
    return next(run.glob("MemMCMAE/*/latest")) / "weights" / "lightning"
