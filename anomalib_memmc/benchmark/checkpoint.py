"""What the commands that test a checkpoint share: their arguments, and the model and data these name."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from anomalib.data import AnomalibDataModule

from anomalib_memmc.benchmark.config import dotlist, override, read_config
from anomalib_memmc.benchmark.job import build
from anomalib_memmc.model import MemMCMAE
from anomalib_memmc.model.checkpoint_file import require_checkpoint
from anomalib_memmc.register import register


def checkpoint_parser(command: str, description: str, files: str) -> argparse.ArgumentParser:
    """A parser that takes a checkpoint, the preset of its data, and a folder for the results.

    Args:
        command: Name of the command, which also names the default folder.
        description: What it does, one sentence.
        files: What it writes.

    Returns:
        A parser of ``--checkpoint``, ``--config`` and ``--output``; other arguments are overrides of the preset.
    """
    parser = argparse.ArgumentParser(
        prog=f"anomalib-memmc {command}",
        description=description,
        epilog="Any key of the configuration can be overridden: --data.init_args.root DIR",
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", required=True, type=Path, help="a checkpoint of MemMCMAE")
    parser.add_argument("--config", required=True, help="the preset whose data to test on")
    parser.add_argument("--output", type=Path, default=Path("results") / command, help=f"folder for {files}")
    return parser


def load(checkpoint: Path, config: str, overrides: Sequence[str]) -> tuple[MemMCMAE, AnomalibDataModule]:
    """Load a checkpoint, and set up the data of a preset.

    Args:
        checkpoint: File of a checkpoint of MemMCMAE.
        config: File of the preset.
        overrides: Command-line tokens that replace keys of the preset.

    Returns:
        The model on the CPU in evaluation mode, and the data module, set up with training images as a validation sees
        them.

    Raises:
        FileNotFoundError: If the checkpoint or the configuration does not exist.
        ValueError: If the checkpoint is none of MemMC-MAE.
    """
    require_checkpoint(checkpoint, MemMCMAE)
    register()
    _, datamodule, _ = build(override(read_config(config), list(dotlist(overrides))))
    datamodule.train_augmentations = datamodule.val_augmentations
    datamodule.setup()
    model = MemMCMAE.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    return cast(MemMCMAE, model).eval(), datamodule
