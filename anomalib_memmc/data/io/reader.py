"""Read medical images and masks from disk.

anomalib's own reader turns a 16-bit PNG almost white and enlarges a mask that is stored as JPEG. This one does neither.
An error names the file that cannot be read.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.tv_tensors import Image, Mask

from anomalib_memmc.data.io.decode import Picture, decode
from anomalib_memmc.data.io.dicom import is_dicom, read_dicom
from anomalib_memmc.data.io.errors import ImageReadError

NOISE = 16  # of 255: a JPEG that is nowhere brighter is black
NEAR_BLACK, NEAR_WHITE = slice(1, 8), slice(248, 255)  # what a JPEG makes of 0 and 255
MANY_SHADES = 32


def read_image(path: str | Path, least: int | None = None) -> Image:
    """Read an image of any usual medical format as three float channels, upright as its EXIF tag says.

    * 8 bits a channel: divided by 255. Grey images become three equal channels, palettes are looked up, an alpha
      channel is dropped.
    * More than 8 bits a channel (16-bit PNG, TIFF, DICOM; grey or colour): the smallest stored value becomes 0, the
      largest of all channels 1.
      Such a file does not say how many of its bits are in use (10, 12 and 14 are all common), so dividing by 65535
      would leave a 12-bit radiograph black; its values are in the unit of one detector and mean nothing absolute.
      An image of one value becomes 0.

    Args:
        path: A PNG, JPEG, TIFF, BMP or any other file Pillow opens (the extension's case does not matter), or a DICOM
            file (``.dcm``, ``.dicom`` or no extension), which needs the extra ``dicom``.
        least: Pixels that suffice for the shorter side, for an image that is shrunk afterwards: a JPEG is then decoded
            at a half, a quarter or an eighth of its size, where that leaves as many and divides both sides. ``None``
            reads every pixel.

    Returns:
        Image of shape (3, H, W), float32, in [0, 1]. Of a file with several pages: the first.

    Raises:
        ImageReadError: If the file is missing, truncated, no image, of more dimensions than an image has, or of more
            than 64 million pixels, which is told before it is decoded.
    """
    path = Path(path)
    if is_dicom(path):
        plane = _full_range(read_dicom(path), path)
    else:
        pixels = decode(path, least).pixels
        plane = pixels if pixels.dtype == np.uint8 else _full_range(pixels, path)
    return Image(_to_three_channels(plane))


def read_mask(path: str | Path, size: tuple[int, int] | None = None, image_path: str | Path | None = None) -> Mask:
    """Read a mask: every pixel that is not zero is anomalous, in any bit depth, unless the mask is a grey picture.

    The masks of Hyper-Kvasir are JPEGs whose pixels are 0-7 and 248-255: ``> 0`` would grow them by 4-5 %. So in a
    JPEG, and in any other file whose pixels are shades from near black to near white, a pixel is anomalous from half of
    the brightest on (128 of 255). A mask in the alpha channel is used where the colours say nothing.

    Args:
        path: The mask's file, grey or colour.
        size: (H, W) of its image, in pixels; ``None`` takes any.
        image_path: The image's file, for the messages.

    Returns:
        Mask of shape (H, W), uint8, of zeros and ones.

    Raises:
        ImageReadError: If the mask is missing, unreadable, not of the image's size, or leaves open what is anomalous.
    """
    path = Path(path)
    owner = f" of {image_path}" if image_path is not None else ""
    if not path.is_file():
        msg = f"The mask {path}{owner} is missing. Restore it, or take the image out of the data set."
        raise ImageReadError(msg)
    picture = decode(path)
    height, width = picture.pixels.shape[:2]
    if size is not None and (height, width) != tuple(size):
        msg = (
            f"The mask {path} is {width} x {height} pixels, but its image{owner} is "
            f"{size[1]} x {size[0]}. Mask and image must have the same size: export the mask again."
        )
        raise ImageReadError(msg)
    return Mask(torch.from_numpy(_lesion(picture, path).astype(np.uint8)))


def _lesion(picture: Picture, path: Path) -> NDArray[np.bool_]:
    """Which pixels of a mask are anomalous.

    Raises:
        ImageReadError: If the file leaves it open.
    """
    channels = np.atleast_3d(picture.pixels)
    grey = reduce(np.maximum, np.moveaxis(channels, -1, 0))  # ten times as fast as max(axis=-1)
    if grey.dtype.kind == "f" and not (np.isfinite(grey).all() and (grey == np.round(grey)).all()):
        raise ImageReadError(_unclear(path, "holds fractions"))
    if grey.min(initial=0) < 0:
        raise ImageReadError(_unclear(path, "holds negative numbers"))
    white = np.iinfo(grey.dtype).max if grey.dtype.kind == "u" else 0
    if picture.inverted and not np.isin(grey, (0, white)).all():
        raise ImageReadError(_unclear(path, "stores white as zero and has more than two values"))
    coloured = grey >= _threshold(grey, picture.lossy)
    if picture.alpha is None:
        return coloured
    seen = picture.alpha >= _threshold(picture.alpha, picture.lossy)
    if seen.all() or not seen.any():  # an alpha channel of one value says nothing
        return coloured
    if coloured.all() or not coloured.any():
        return seen
    if (coloured & ~seen).any():
        raise ImageReadError(_unclear(path, "says one thing in its colours and another in its alpha channel"))
    return coloured


def _threshold(grey: NDArray, lossy: bool) -> int:
    """The smallest value that is anomalous."""
    top = int(grey.max(initial=0))
    if lossy:
        return max((top + 1) // 2, NOISE + 1)
    if grey.dtype not in (np.uint8, np.uint16):
        return 1
    depth = 8 * (grey.dtype.itemsize - 1)
    counts = np.bincount((grey >> depth).ravel(), minlength=256)
    is_white = top >> depth >= NEAR_WHITE.start
    was_jpeg = counts[NEAR_BLACK].any() and counts[NEAR_WHITE].any()
    is_picture = is_white and (was_jpeg or np.count_nonzero(counts) > MANY_SHADES)
    return 128 << depth if is_picture else 1


def _unclear(path: Path, trouble: str) -> str:
    return f"The mask {path} {trouble}, so which pixels are anomalous is not clear: save it as grey of 0 and 255."


def _full_range(pixels: NDArray, path: Path) -> NDArray[np.float32]:
    """Map the smallest pixel to 0 and the largest to 1; a constant image to 0."""
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        msg = f"The image {path} holds pixels that are not finite numbers (NaN or infinite): export it again."
        raise ImageReadError(msg)
    low, high = values.min(), values.max()
    return ((values - low) / (high - low if high > low else 1.0)).astype(np.float32)


def _to_three_channels(plane: NDArray) -> torch.Tensor:
    """(H, W) or (H, W, 3), of floats or of 8 bits, to (3, H, W) of floats."""
    tensor = torch.from_numpy(np.ascontiguousarray(plane))
    tensor = tensor if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    if tensor.dtype == torch.uint8:
        tensor = tensor.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return tensor.expand(3, -1, -1).contiguous()
