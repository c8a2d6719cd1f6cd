"""Read DICOM radiographs through pydicom (extra ``dicom``)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_memmc.data.io.decode import MAX_PIXELS, too_large
from anomalib_memmc.data.io.errors import ImageReadError
from anomalib_memmc.extras import missing_extra

DICOM_SUFFIXES = (".dcm", ".dicom")
PREAMBLE = 128


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its extension, or, if it has none, by the letters ``DICM`` after the preamble.

    The end of a name that is a unique identifier, such as ``1.2.840.113619``, is no extension.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix.strip(".0123456789") or not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(PREAMBLE)
        return file.read(4) == b"DICM"


def read_dicom(path: Path) -> NDArray[np.float64]:
    """Read the pixels of a single-frame grey DICOM file.

    The file's rescale slope and intercept are applied, ``MONOCHROME1`` (bright air) is inverted so that air is dark as
    everywhere else, and padding outside the picture (one value or a range) takes the smallest real value. Display
    windows are not applied.

    Args:
        path: The file.

    Returns:
        Pixels of shape (H, W), in the file's unit after the rescale.

    Raises:
        ImageReadError: If pydicom is not installed, or the file cannot be read, or it is no single grey frame, or it
            has more than 64 million pixels.
    """
    dataset, stored = _load(path)
    kind = getattr(dataset, "PhotometricInterpretation", "MONOCHROME2")
    if stored.ndim != 2 or kind not in {"MONOCHROME1", "MONOCHROME2"}:
        msg = (
            f"The DICOM file {path} holds pixels of shape {stored.shape} and kind {kind}; one grey frame (H, W) is "
            f"supported. Convert it to one PNG per frame."
        )
        raise ImageReadError(msg)
    inside = ~_padding(dataset, stored, path)
    slope, intercept = _number(dataset, "RescaleSlope", path), _number(dataset, "RescaleIntercept", path)
    values = stored.astype(np.float64) * (slope or 1) + (intercept or 0)
    if kind == "MONOCHROME1":
        values = -values
    if inside.any():
        values[~inside] = values[inside].min()
    return values


def _padding(dataset: Any, stored: NDArray, path: Path) -> NDArray[np.bool_]:
    """Which pixels lie outside the picture: those of PixelPaddingValue, or from there to PixelPaddingRangeLimit."""
    value, limit = (_number(dataset, f"PixelPadding{name}", path) for name in ("Value", "RangeLimit"))
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    bits = int(_number(dataset, "BitsStored", path) or 8 * stored.itemsize)
    ends = [_as_stored(int(end), bits, stored.dtype.kind == "i") for end in (value, value if limit is None else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(value: int, bits: int, signed: bool) -> int:
    """A value as a pixel of so many bits holds it: a file may write -2000 as the unsigned 63536."""
    value %= 1 << bits
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def _number(dataset: Any, name: str, path: Path) -> float | None:
    """A number among the file's attributes; ``None`` where it is absent or empty.

    Raises:
        ImageReadError: If it is no number.
    """
    value = None
    try:
        value = getattr(dataset, name, None)
        number = None if value is None or value == "" else float(value)
    except Exception as error:  # also pydicom's, where a damaged element is decoded
        msg = (
            f"The DICOM file {path} has {name} = {value!r}, which is not one number ({error}): mend it or convert the "
            f"file to PNG."
        )
        raise ImageReadError(msg) from error
    if number is not None and not math.isfinite(number):
        msg = f"The DICOM file {path} has {name} = {number}, which is not finite: mend it or convert the file to PNG."
        raise ImageReadError(msg)
    return number


def _load(path: Path) -> tuple[Any, NDArray]:
    """The file's attributes and its stored pixels."""
    try:
        import pydicom  # noqa: PLC0415  (optional)
    except ImportError as error:
        msg = missing_extra("dicom", f"Reading the DICOM file {path} needs pydicom", "convert the file to PNG")
        raise ImageReadError(msg) from error
    try:
        dataset = pydicom.dcmread(path)
        rows, columns = int(getattr(dataset, "Rows", 0)), int(getattr(dataset, "Columns", 0))
        if rows * columns > MAX_PIXELS:
            raise ImageReadError(too_large(path, f"{columns:,} x {rows:,} pixels"))
        return dataset, np.asarray(dataset.pixel_array)
    except ImageReadError:
        raise
    except Exception as error:  # pydicom's decoders raise many kinds
        msg = (
            f"Cannot read the DICOM file {path}: {error}. It is damaged, holds no image, or is compressed in a way "
            f"that pydicom has no decoder for: copy it again or convert it to PNG."
        )
        raise ImageReadError(msg) from error
