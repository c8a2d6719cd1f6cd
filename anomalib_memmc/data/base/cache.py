"""Training images that are decoded and shrunk once, not in every epoch."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchvision.transforms.v2.functional import resize
from torchvision.tv_tensors import Image

from anomalib_memmc.data.base.ram_folder import ram_folder

CacheMode = Literal["memory", "disk"]
FORMAT = "4"  # part of every key: raise it when the reader or this file changes what is stored
SUM = 4  # bytes at the end of a file: the CRC-32 of all before
ENOUGH = 2  # times its size: what an image is read at, so that resizing with antialiasing has the last word


class ImageCache:
    """A folder of shrunk images as 8-bit arrays, one file an image, filled as images are first read.

    A file is named after everything it depends on: the image's path, size and time of change, the crop, the cache's
    size and the code's format. An image that changes gets a new name and is read anew. A file appears under its name
    only when it is complete, so any number of workers, processes and runs may share a folder. It ends with a
    checksum: a file that was damaged later is made anew.

    Args:
        mode: ``"memory"``, a folder on the RAM disk that the processes of a run share on a machine and that is removed
            at the run's end; or ``"disk"``, a folder that stays for later runs.
        size: Shorter side of a stored image in pixels, >= 1; smaller images are kept as they are.
        folder: Where ``"disk"`` keeps its files; ``None`` takes ``anomalib_memmc`` in the user's cache folder.

    Raises:
        ValueError: If an argument is out of its range, or ``"memory"`` is asked for and there is no RAM disk.
    """

    def __init__(self, mode: CacheMode, size: int = 256, folder: str | Path | None = None) -> None:
        if mode not in {"memory", "disk"}:
            msg = f"cache must be 'memory', 'disk' or None, got {mode!r}."
            raise ValueError(msg)
        if size < 1:
            msg = f"cache_size must be at least 1 pixel, got {size}."
            raise ValueError(msg)
        self.size = size
        self.folder = ram_folder() if mode == "memory" else Path(folder) if folder else user_folder()

    def read(self, path: str | Path, crop: object, read: Callable[[int], Image]) -> Image:
        """Return an image from the cache, putting it there first where it is not.

        Args:
            path: The image's file.
            crop: What was cut out of it and painted over, by any value whose ``repr`` tells such cuts apart.
            read: Reads and crops the image: (3, H, W), float32 in [0, 1]. It is told the shorter side in pixels that
                suffices: twice the cache's.

        Returns:
            The image (3, h, w), float32 in [0, 1], rounded to 8 bits; ``min(h, w)`` is at most ``size``.

        Raises:
            OSError: If the image is missing, or the cache cannot be written.
        """
        stored = self._path(path, crop)
        pixels = _load(stored)
        if pixels is None:
            pixels = self._shrink(read(ENOUGH * self.size))
            _save(stored, pixels)
        return Image(torch.from_numpy(pixels).float().div_(255).expand(3, -1, -1).contiguous())

    def _path(self, path: str | Path, crop: object) -> Path:
        status = Path(path).stat()
        parts = (FORMAT, str(self.size), repr(crop), os.path.abspath(path), status.st_size, status.st_mtime_ns)
        digest = hashlib.sha256(os.fsencode("\0".join(map(str, parts)))).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:32]}.npy"

    def _shrink(self, image: Image) -> np.ndarray:
        """(3, H, W) float -> (1 or 3, h, w) uint8; one channel where all three are equal."""
        if min(image.shape[-2:]) > self.size:
            image = resize(image, [self.size], antialias=True)
        pixels = image.as_subclass(torch.Tensor).mul(255).round().clamp(0, 255).to(torch.uint8).numpy()
        return pixels[:1].copy() if (pixels == pixels[:1]).all() else pixels


def user_folder() -> Path:
    """The package's folder in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anomalib_memmc"


def _load(path: Path) -> np.ndarray | None:
    """The array of a file, or ``None`` where there is none that can be used."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    array, checksum = memoryview(content)[:-SUM], content[-SUM:]
    return np.load(io.BytesIO(array)) if len(array) and checksum == _checksum(array) else None


def _checksum(array: bytes | memoryview) -> bytes:
    return zlib.crc32(array).to_bytes(SUM, "big")


def _save(path: Path, pixels: np.ndarray) -> None:
    """Write an array so that no reader ever finds half of it.

    Raises:
        OSError: If it cannot be written, with what to do.
    """
    array, temporary = io.BytesIO(), None
    np.save(array, pixels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            temporary.chmod(0o644)  # a folder may serve several users
            file.write(array.getvalue() + _checksum(array.getvalue()))
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        msg = (
            f"The image cache {path.parent.parent} cannot be written: {error}. Free space, use cache='disk' where the "
            "RAM disk is small, or set another cache_dir."
        )
        raise OSError(msg) from error
