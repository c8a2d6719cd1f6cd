"""Read medical images and masks from disk.

anomalib's own reader turns a 16-bit PNG almost white and enlarges a mask that is stored as JPEG. This one does neither.
An error names the file that cannot be read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage
from torchvision.tv_tensors import Image, Mask

from anomalib_memmc.data.io.dicom import is_dicom, read_dicom
from anomalib_memmc.data.io.errors import ImageReadError

MASK_THRESHOLD = 128
LOSSY_SUFFIXES = {".jpg", ".jpeg"}
EIGHT_BIT_MODES = {"1": "L", "L": "L", "LA": "L", "La": "L"}  # everything else with 8 bits a channel becomes RGB
TIFF_BITS, TIFF_SAMPLE_FORMAT = 258, 339
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def read_image(path: str | Path) -> Image:
    """Read an image of any usual medical format as three float channels.

    * 8 bits a channel: divided by 255. Grey images become three equal channels, palettes are looked up, an alpha
      channel is dropped.
    * More than 8 bits a channel (16-bit PNG, TIFF, DICOM): the smallest stored value becomes 0, the largest 1.
      Such a file does not say how many of its bits are in use (10, 12 and 14 are all common), so dividing by 65535
      would leave a 12-bit radiograph black; its values are in the unit of one detector and mean nothing absolute.
      An image of one value becomes 0.

    Args:
        path: A PNG, JPEG, TIFF, BMP or any other file Pillow opens (the extension's case does not matter), or a DICOM
            file (``.dcm``, ``.dicom`` or no extension), which needs the extra ``dicom``.

    Returns:
        Image of shape (3, H, W), float32, in [0, 1]. Of a file with several pages: the first.

    Raises:
        ImageReadError: If the file is missing, truncated, no image, or of more dimensions than an image has.
    """
    path = Path(path)
    if is_dicom(path):
        plane = _full_range(read_dicom(path), path)
    else:
        pixels = _decode(path)
        plane = pixels.astype(np.float32) / 255.0 if pixels.dtype == np.uint8 else _full_range(pixels, path)
    return Image(_to_three_channels(plane))


def read_mask(path: str | Path, size: tuple[int, int], image_path: str | Path | None = None) -> Mask:
    """Read a mask; a pixel is anomalous from 128 of 255 on.

    The masks of Hyper-Kvasir are JPEGs whose pixels are 0-7 and 248-255: ``> 0`` would grow them by 4-5 %. A mask whose
    largest value is 1 is taken as labels 0 and 1, unless it is a JPEG.

    Args:
        path: The mask's file, grey or colour, of 8 bits.
        size: (H, W) of its image, in pixels.
        image_path: The image's file, for the messages.

    Returns:
        Mask of shape (H, W), uint8, of zeros and ones.

    Raises:
        ImageReadError: If the mask is missing, unreadable, or not of the image's size.
    """
    path = Path(path)
    owner = f" of {image_path}" if image_path is not None else ""
    if not path.is_file():
        msg = f"The mask {path}{owner} is missing. Restore it, or take the image out of the data set."
        raise ImageReadError(msg)
    pixels = _decode(path)
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=-1)
    if grey.shape != tuple(size):
        msg = (
            f"The mask {path} is {grey.shape[1]} x {grey.shape[0]} pixels, but its image{owner} is "
            f"{size[1]} x {size[0]}. Mask and image must have the same size: export the mask again."
        )
        raise ImageReadError(msg)
    labels = grey.max(initial=0) <= 1 and path.suffix.lower() not in LOSSY_SUFFIXES
    threshold = 1 if labels else MASK_THRESHOLD
    return Mask(torch.from_numpy((grey >= threshold).astype(np.uint8)))


def _decode(path: Path) -> NDArray:
    """Decode a file with Pillow: (H, W) or (H, W, 3), uint8, or (H, W) of a deeper type.

    Raises:
        ImageReadError: If Pillow cannot.
    """
    try:
        with PilImage.open(path) as image:
            if image.mode in DEEP_MODES:
                pixels = np.array(image)
                return pixels.view(np.uint32) if _is_unsigned_32_bit(image) else pixels
            return np.array(image.convert(EIGHT_BIT_MODES.get(image.mode, "RGB")))
    except FileNotFoundError as error:
        msg = f"The image {path} does not exist. Check the path, or take it out of the data set."
        raise ImageReadError(msg) from error
    except (OSError, SyntaxError, ValueError, EOFError, PilImage.DecompressionBombError) as error:
        msg = (
            f"Cannot read the image {path}: {error}. The file is damaged, cut off, or of a format that Pillow "
            f"does not know: copy it again, convert it to PNG, or take it out of the data set."
        )
        raise ImageReadError(msg) from error


def _is_unsigned_32_bit(image: PilImage.Image) -> bool:
    """Whether an image is a TIFF of unsigned 32-bit pixels, which Pillow reads as signed ones."""
    tags = getattr(image, "tag_v2", {})
    return image.mode == "I" and tags.get(TIFF_BITS) == (32,) and tags.get(TIFF_SAMPLE_FORMAT, (1,)) == (1,)


def _full_range(pixels: NDArray, path: Path) -> NDArray[np.float32]:
    """Map the smallest pixel to 0 and the largest to 1; a constant image to 0."""
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        msg = f"The image {path} holds pixels that are not finite numbers (NaN or infinite): export it again."
        raise ImageReadError(msg)
    low, high = values.min(), values.max()
    return ((values - low) / (high - low if high > low else 1.0)).astype(np.float32)


def _to_three_channels(plane: NDArray[np.float32]) -> torch.Tensor:
    """(H, W) or (H, W, 3) to (3, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(plane))
    if tensor.ndim == 2:
        return tensor.expand(3, -1, -1).contiguous()
    return tensor.permute(2, 0, 1).contiguous()
