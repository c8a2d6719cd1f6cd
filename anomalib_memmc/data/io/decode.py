"""Decode image files as they show, upright and in all their bits, which Pillow alone does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags
from PIL import Image as PilImage
from PIL.ImageFile import ImageFile

from anomalib_memmc.data.io.errors import ImageReadError

MAX_PIXELS = 64_000_000  # 8,000 x 8,000: whole radiographs are up to 6,000 x 6,000
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
GREY_MODES = ("1", "L", "LA", "La")
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO = 0  # of TIFF_PHOTOMETRIC
JPEG2000_START, JPEG2000_BITS = b"\xff\x4f\xff\x51", 42  # the code stream, and where in it the bits of a channel stand
UPRIGHT = {  # EXIF orientation -> what turns (H, W, ...) upright
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
LOSSY = {"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "jpeg", "tiff_jpeg"}  # Pillow's formats, and compressions of a TIFF


@dataclass(frozen=True)
class Picture:
    """The pixels of a file, as it shows: upright, with white as the largest value.

    Attributes:
        pixels: (H, W) or (H, W, 3): uint8, or a deeper type.
        alpha: (H, W), of the type of `pixels`; ``None`` where the file has no alpha channel.
        lossy: Whether the file is of a kind, such as JPEG, that adds noise of a few levels.
        inverted: Whether the file stores white as zero.
    """

    pixels: NDArray
    alpha: NDArray | None
    lossy: bool
    inverted: bool


def decode(path: Path, least: int | None = None) -> Picture:
    """Decode a file of one image, or the first of several.

    Args:
        path: Any file Pillow opens. Colours of 16 bits are read from PNG, TIFF and JPEG 2000.
        least: Pixels that suffice for the shorter side. A JPEG is then decoded at a half, a quarter or an eighth of its
            size where that leaves as many and divides both sides; other files at their own. ``None`` wants all.

    Returns:
        The picture.

    Raises:
        ImageReadError: If the file is missing, too large, damaged, or of no known format.
    """
    with open_image(path) as image:
        if least is not None and image.format == "JPEG":
            divisor = _divisor(image.size, least)
            image.draft(None, (image.width // divisor, image.height // divisor))
        if image.mode in DEEP_MODES:
            pixels, alpha = np.array(image), None
            pixels = pixels.view(np.uint32) if _is_unsigned_32_bit(image) else pixels
        else:
            pixels, alpha = _deep_colours(image, path) or _eight_bits(image)
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation)
        upright = UPRIGHT.get(orientation, lambda array: array)
        inverted = getattr(image, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO
        if inverted and pixels.dtype != np.uint8:  # Pillow inverts 8 bits, and only these
            pixels = -pixels if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max - pixels
        lossy = not LOSSY.isdisjoint((image.format, image.info.get("compression")))
    return Picture(upright(pixels), None if alpha is None else upright(alpha), lossy, inverted)


@contextmanager
def open_image(path: str | Path) -> Iterator[ImageFile]:
    """Open an image with Pillow, and say what is wrong with it, here and while it is used.

    Args:
        path: The file.

    Yields:
        The image. Its size is checked, its pixels are not decoded.

    Raises:
        ImageReadError: If the file is missing, damaged, of no known format, or has more than 64 million pixels.
    """
    try:
        # by its path, Pillow would map an uncompressed TIFF into memory, and garble one that is to be turned
        with Path(path).open("rb") as file, PilImage.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageReadError(too_large(path, f"{image.width:,} x {image.height:,} pixels"))
            if image.format == "PNG":
                _verify(path)
            yield image
    except ImageReadError:
        raise
    except FileNotFoundError as error:
        msg = f"The image {path} does not exist. Check the path, or take it out of the data set."
        raise ImageReadError(msg) from error
    except PilImage.DecompressionBombError as error:
        raise ImageReadError(too_large(path, f"more than {2 * (PilImage.MAX_IMAGE_PIXELS or 0):,} pixels")) from error
    except Exception as error:  # at damaged files and headers Pillow raises many kinds
        msg = (
            f"Cannot read the image {path}: {error}. The file is damaged, cut off, or of a format that Pillow "
            f"does not know: copy it again, convert it to PNG, or take it out of the data set."
        )
        raise ImageReadError(msg) from error


def _divisor(size: tuple[int, int], least: int) -> int:
    """What a JPEG's sides are divided by in decoding, with no remainder: a part of a pixel would shift the others."""
    fits = (each for each in (8, 4, 2) if min(size) >= each * least and not any(side % each for side in size))
    return next(fits, 1)


def _verify(path: str | Path) -> None:
    """Check the sums of a PNG's chunks, which Pillow ignores while it decodes: it spoils the image that it checks."""
    with Path(path).open("rb") as file, PilImage.open(file) as image:
        image.verify()


def too_large(path: str | Path, size: str) -> str:
    """The message about an image of too many pixels.

    Args:
        path: The file.
        size: How large it is, in words.
    """
    return (
        f"The image {path} has {size}; the limit is {MAX_PIXELS:,}. Shrink it, cut it into tiles, or, if it should "
        f"not be so large, copy it again."
    )


def _eight_bits(image: ImageFile) -> tuple[NDArray, NDArray | None]:
    """Grey or colours of 8 bits, and the alpha channel where there is one; palettes are looked up."""
    if not image.has_transparency_data:
        return np.array(image.convert("L" if image.mode in GREY_MODES else "RGB")), None
    rgba = np.array((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    return rgba[..., 0] if image.mode in GREY_MODES else rgba[..., :3], rgba[..., 3]


def _deep_colours(image: ImageFile, path: Path) -> tuple[NDArray, NDArray | None] | None:
    """Colours, or grey with alpha, of more than 8 bits, which Pillow cuts down; ``None`` where there are only 8.

    Raises:
        ValueError: If they cannot be read.
    """
    bits = _bits(image, path)
    if bits <= 8:
        return None
    if image.format not in DEEP_DECODERS:
        msg = f"colours of {bits} bits in a {image.format} file are not supported"
        raise ValueError(msg)
    try:
        pixels = DEEP_DECODERS[image.format](path)
    except Exception as error:  # each decoder has its own
        raise ValueError(error) from error
    if sorted(pixels.shape[:2]) != sorted(image.size) or pixels.ndim != 3 or not 2 <= pixels.shape[2] <= 4:
        msg = f"its {bits}-bit pixels have the shape {pixels.shape}, which is neither grey nor colour"
        raise ValueError(msg)
    colours = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    return colours, pixels[..., -1] if pixels.shape[2] in {2, 4} else None


def _bits(image: ImageFile, path: Path) -> int:
    """The bits of a channel, from the header."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(TIFF_BITS, (1,)))  # type: ignore[attr-defined]
    if image.format == "JPEG2000":
        data = path.read_bytes()
        start = data.find(JPEG2000_START)
        return (data[start + JPEG2000_BITS] & 0x7F) + 1 if start >= 0 else 8
    stored = " ".join(f"{tile[0]} {tile[3]}" for tile in image.tile)
    return 16 if any(name in stored for name in (";16B", ";16L", ";16N", "SGI16")) else 8  # as Pillow names raw pixels


def _read_tiff(path: Path) -> NDArray:
    """The first page of a TIFF as (H, W, C)."""
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        if page.photometric not in {tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK}:
            msg = f"{page.photometric.name} of more than 8 bits is not supported"
            raise ValueError(msg)
        return np.moveaxis(page.asarray(), 0, -1) if page.axes == "SYX" else page.asarray()


DEEP_DECODERS: dict[str, Callable[[Path], NDArray]] = {
    "PNG": lambda path: imagecodecs.png_decode(path.read_bytes()),
    "JPEG2000": lambda path: imagecodecs.jpeg2k_decode(path.read_bytes()),
    "TIFF": _read_tiff,
}


def _is_unsigned_32_bit(image: ImageFile) -> bool:
    """Whether an image is a TIFF of unsigned 32-bit pixels, which Pillow reads as signed ones."""
    tags = getattr(image, "tag_v2", {})
    return image.mode == "I" and tags.get(TIFF_BITS) == (32,) and tags.get(TIFF_SAMPLE_FORMAT, (1,)) == (1,)
