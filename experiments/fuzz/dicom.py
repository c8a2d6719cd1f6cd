"""DICOM radiographs: depths, signs, padding and encodings of the same picture, headers with mistakes, damaged files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anomalib_memmc.data import read_image
from experiments.dicom import radiograph, save
from experiments.fuzz.case import Case
from experiments.fuzz.damage import DAMAGES

REQUIRED = {
    "Rows": b"\x28\x00\x10\x00",
    "Columns": b"\x28\x00\x11\x00",
    "BitsAllocated": b"\x28\x00\x00\x01",
    "PixelRepresentation": b"\x28\x00\x03\x01",
    "SamplesPerPixel": b"\x28\x00\x02\x00",
    "PixelData": b"\xe0\x7f\x10\x00",
}  # and their tags
MISTAKES: dict[str, dict[str, Any]] = {  # after them only an error is right
    "too many rows": {"Rows": 60},
    "colours": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
    "palette": {"PhotometricInterpretation": "PALETTE COLOR"},
    "three frames": {"NumberOfFrames": 3},
    "giant": {"Rows": 20_000, "Columns": 20_000},
    "two paddings": {"PixelPaddingValue": [1, 2]},
}


def dicom_case(rng: Generator, folder: Path) -> Case:
    """A radiograph: as it is, with a mistake in its header, without a required field, or damaged."""
    dataset, expected = _radiograph(rng)
    path = folder / str(rng.choice(["image.dcm", "image.DICOM", "image"]))
    read = partial(read_image, path)
    draw = rng.random()
    if draw < 0.5:
        save(dataset, path)
        return Case("radiograph", read, partial(_is_right, expected, True), (path.name,))
    if draw < 0.65:
        mistake = str(rng.choice(list(MISTAKES)))
        for name, value in MISTAKES[mistake].items():
            setattr(dataset, name, value)
        save(dataset, path)
        return Case(mistake, read, lambda _: False, (path.name,))
    if draw < 0.75:
        name = str(rng.choice(list(REQUIRED)))
        save(dataset, path)
        tag = REQUIRED[name]
        path.write_bytes(path.read_bytes().replace(tag, bytes([tag[0] + 1]) + tag[1:], 1))
        return Case(f"without {name}", read, partial(_is_right, expected, True), (path.name,))
    save(dataset, path)
    damage = str(rng.choice(list(DAMAGES)))
    path.write_bytes(DAMAGES[damage](path.read_bytes(), rng))
    return Case(damage, read, partial(_is_right, expected, damage == "cut off"), (path.name,))


def _is_right(expected: NDArray, judged: bool, read: Any) -> bool | None:
    image = read.numpy()
    if image.ndim != 3 or image.shape[0] != 3 or not ((image >= 0) & (image <= 1)).all():
        return False
    is_same = image.shape[1:] == expected.shape and bool(np.abs(image - expected).max() < 1e-4)
    return is_same if is_same or judged else None


def _radiograph(rng: Generator) -> tuple[Any, NDArray]:
    """A data set and the picture (H, W) in it, of 0 to 1."""
    import pydicom  # noqa: PLC0415  (optional)

    bits = int(rng.choice([8, 10, 12, 16]))
    signed = bool(bits > 8 and rng.random() < 0.3)
    lowest = -(1 << (bits - 1)) if signed else 0
    picture = rng.integers(20, (1 << bits) - 20, (int(rng.integers(4, 16)), int(rng.integers(2, 8)) * 2))
    stored = picture + lowest
    shown = (picture - picture.min()) / (picture.max() - picture.min())
    dataset = radiograph(picture.shape, bits, signed)
    syntaxes = (pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian)
    dataset.file_meta.TransferSyntaxUID = syntaxes[rng.integers(2)]
    dataset.PhotometricInterpretation = str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    if rng.random() < 0.5:
        dataset.RescaleSlope, dataset.RescaleIntercept = ("2", "-1024") if rng.random() < 0.5 else ("", "")
    if rng.random() < 0.5:
        _pad(rng, dataset, stored, shown, lowest)
    dataset.PixelData = stored.astype(np.uint8 if bits == 8 else np.int16 if signed else np.uint16).tobytes()
    return dataset, shown


def _pad(rng: Generator, dataset: Any, stored: NDArray, shown: NDArray, lowest: int) -> None:
    """Put padding, one value or a range, into the first column but one pixel, in place."""
    ends = [lowest, lowest + 10]
    padded = np.zeros(stored.shape, dtype=bool)
    padded[1:, 0] = True
    is_range = rng.random() < 0.5
    stored[padded] = rng.integers(*ends, padded.sum()) if is_range else lowest
    first, last = ends if rng.random() < 0.5 else ends[::-1]
    dataset.PixelPaddingValue = first if is_range else lowest
    if is_range:
        dataset.PixelPaddingRangeLimit = last
    inside = shown[~padded]
    shown -= inside.min()
    shown /= inside.max() - inside.min()
    shown[padded] = 0
