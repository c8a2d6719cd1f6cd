"""Checkpoint files that are whole or not there."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from anomalib.engine.plugins import AnomalibCheckpointIO
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer

SUFFIX = ".part"
"""Ends the name of a checkpoint that is being written. What a kill leaves of it can be deleted."""


class AtomicCheckpointIO(AnomalibCheckpointIO):
    """As anomalib's, but a file has its name only when it is whole.

    Lightning writes to a temporary file too, but in the system's temporary folder. Where that is another file system,
    the file is copied to its place byte by byte, and a kill in between destroys the checkpoint before it as well. Here
    it is written beside its place, flushed to the disk, and renamed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

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


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, so that its name stands for the whole file or for none."""
    with replaced(target) as part:
        shutil.copyfile(source, part)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` at the end, and is removed after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + SUFFIX)
    try:
        yield part
        _flush(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some file systems, and Windows, do not flush folders
        _flush(path.parent)


def _flush(path: Path) -> None:
    """Have the system write a file or folder to the disk now."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
