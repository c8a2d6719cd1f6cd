"""Files that are whole or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".part"
"""Ends the name of a file that is being written. What a kill leaves of it can be deleted."""


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
