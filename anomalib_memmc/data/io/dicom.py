"""Read DICOM radiographs through pydicom (extra ``dicom``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_memmc.data.io.errors import ImageReadError

DICOM_SUFFIXES = (".dcm", ".dicom")
PREAMBLE = 128


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its extension, or, if it has none, by the letters ``DICM`` after the preamble."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(PREAMBLE)
        return file.read(4) == b"DICM"


def read_dicom(path: Path) -> NDArray[np.float64]:
    """Read the pixels of a single-frame grey DICOM file.

    The file's rescale slope and intercept are applied, ``MONOCHROME1`` (bright air) is inverted so that air is dark as
    everywhere else, and padding outside the picture takes the smallest real value. Display windows are not applied.

    Args:
        path: The file.

    Returns:
        Pixels of shape (H, W), in the file's unit after the rescale.

    Raises:
        ImageReadError: If pydicom is not installed, or the file cannot be read, or it is no single grey frame.
    """
    dataset, stored = _load(path)
    if stored.ndim != 2:
        msg = (
            f"The DICOM file {path} holds pixels of shape {stored.shape}; one grey frame (H, W) is supported. "
            f"Convert it to one PNG per frame."
        )
        raise ImageReadError(msg)
    values = stored.astype(np.float64)
    padding = getattr(dataset, "PixelPaddingValue", None)
    inside = stored != padding if padding is not None else np.ones(stored.shape, dtype=bool)
    values = values * float(getattr(dataset, "RescaleSlope", 1) or 1) + float(getattr(dataset, "RescaleIntercept", 0))
    if getattr(dataset, "PhotometricInterpretation", "MONOCHROME2") == "MONOCHROME1":
        values = -values
    if inside.any():
        values[~inside] = values[inside].min()
    return values


def _load(path: Path) -> tuple[Any, NDArray]:
    """The file's attributes and its stored pixels."""
    try:
        import pydicom  # noqa: PLC0415  (optional)
    except ImportError as error:
        msg = (
            f"Reading the DICOM file {path} needs pydicom: pip install 'anomalib-memmc[dicom]', "
            f"or convert the file to PNG."
        )
        raise ImageReadError(msg) from error
    try:
        dataset = pydicom.dcmread(path)
        return dataset, np.asarray(dataset.pixel_array)
    except Exception as error:  # pydicom's decoders raise many kinds
        msg = (
            f"Cannot read the DICOM file {path}: {error}. It is damaged, holds no image, or is compressed in a way "
            f"that pydicom has no decoder for: copy it again or convert it to PNG."
        )
        raise ImageReadError(msg) from error
