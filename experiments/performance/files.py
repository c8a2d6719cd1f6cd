"""Generated radiographs and frames in the formats of archives."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments import dicom

Save = Callable[[NDArray[np.uint8], Path], None]


def save_jpeg(pixels: NDArray[np.uint8], path: Path) -> None:
    """Save grey (H, W) or colour (H, W, 3) as a JPEG of usual quality."""
    Image.fromarray(pixels).save(path, quality=92)


def save_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Save grey (H, W) or colour (H, W, 3) as a PNG."""
    Image.fromarray(pixels).save(path)


def save_dicom(pixels: NDArray[np.uint8], path: Path) -> None:
    """Save grey (H, W) as an uncompressed DICOM file of 12 bits in 16, with noise below the eighth bit."""
    deep = pixels.astype(np.uint16) << 4 | np.random.default_rng(0).integers(0, 16, pixels.shape, dtype=np.uint16)
    dataset = dicom.radiograph(deep.shape, bits=12)
    dataset.PixelData = deep.tobytes()
    dicom.save(dataset, path)


FORMATS: dict[str, tuple[str, Save]] = {"PNG": (".png", save_png), "JPEG": (".jpg", save_jpeg)}
"""Name -> the files' ending, and how one is saved."""
if find_spec("pydicom"):
    FORMATS["DICOM"] = (".dcm", save_dicom)
