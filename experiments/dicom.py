"""A grey radiograph as a DICOM data set, for files that are generated."""

from pathlib import Path
from typing import Any


def radiograph(shape: tuple[int, ...], bits: int, signed: bool = False) -> Any:
    """The header of an uncompressed image without its pixels, which go into ``PixelData``.

    Args:
        shape: Height and width.
        bits: Bits that are used, of 8 where they suffice, else of 16.
        signed: Whether values may be negative.

    Returns:
        A data set of pydicom, explicit little endian, 0 black.
    """
    import pydicom  # noqa: PLC0415  (optional)

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *shape, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    return dataset


def save(dataset: Any, path: Path) -> None:
    """Write a data set as a file with its preamble."""
    dataset.save_as(path, enforce_file_format=True)
