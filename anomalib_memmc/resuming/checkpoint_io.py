"""Checkpoint files that are whole or not there."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from anomalib.engine.plugins import AnomalibCheckpointIO
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer

from anomalib_memmc.resuming.thresholds_file import remove_thresholds, write_thresholds
from anomalib_memmc.resuming.whole_file import replaced


class AtomicCheckpointIO(AnomalibCheckpointIO):
    """As anomalib's, but a file has its name only when it is whole.

    Lightning writes to a temporary file too, but in the system's temporary folder. Where that is another file system,
    the file is copied to its place byte by byte, and a kill in between destroys the checkpoint before it as well. Here
    it is written beside its place, flushed to the disk, and renamed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, and beside it the thresholds that it holds.

        Args:
            checkpoint: What Lightning collected.
            path: Where to; a remote address (``s3://...``) is left to Lightning.
            storage_options: Must be None, as for Lightning.

        Raises:
            OSError: If the disk does not take it. The file that was there before is still there.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with replaced(Path(path)) as part:
                torch.save(checkpoint, part)
        except RuntimeError as error:  # PyTorch's writer on a full disk
            msg = f"The checkpoint {path} could not be written ({error}). Is the disk full? An older file is unharmed."
            raise OSError(msg) from error
        write_thresholds(Path(path), checkpoint)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, and the thresholds beside it where they are its own.

        Args:
            path: The file, or a remote address.
        """
        super().remove_checkpoint(path)
        if "://" not in str(path):
            remove_thresholds(Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: The file.
            *args: As for anomalib.
            **kwargs: As for anomalib.

        Returns:
            Its contents.

        Raises:
            ValueError: If the file is cut off, or no checkpoint at all.
        """
        if Path(path).is_file() and not zipfile.is_zipfile(path):
            msg = f"{path} is no whole checkpoint: the file is cut off or something else. Take another checkpoint."
            raise ValueError(msg)
        return super().load_checkpoint(path, *args, **kwargs)


def install(trainer: Trainer) -> None:
    """Have a trainer write its checkpoints atomically, unless the user chose how they are written."""
    present = trainer.strategy.checkpoint_io
    if type(present) in {TorchCheckpointIO, AnomalibCheckpointIO}:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO(getattr(present, "extra_safe_globals", None))
