"""Images and masks: modes, depths, formats and EXIF tags of the same picture, and damaged files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from anomalib_memmc.data import read_image, read_mask
from experiments.fuzz.case import Case
from experiments.fuzz.damage import DAMAGES

Written = tuple[Path, NDArray]
"""A file, and the picture in it: an image (3, H, W) in [0, 1], or a mask (H, W) of 0 and 1."""

COMPRESSIONS = (None, "zlib", "lzw", "packbits")
TURNS = {1: (0, False), 2: (0, True), 3: (2, False), 6: (3, False), 8: (1, False)}  # EXIF tag -> turns, mirrored


def image_case(rng: Generator, folder: Path) -> Case:
    """An image in a random format, in half of the cases damaged."""
    name, write = _choose(IMAGES, rng)
    path, expected = write(rng, folder)
    if rng.random() < 0.5:
        return Case(name, partial(read_image, path), partial(_is_image, expected, True), (path.name,))
    damage, judged = _damage(rng, path)
    return Case(f"{name}, {damage}", partial(read_image, path), partial(_is_image, expected, judged), (path.name,))


def mask_case(rng: Generator, folder: Path) -> Case:
    """A mask in a random format, in a third of the cases damaged, in some of another size than its image."""
    name, write = _choose(MASKS, rng)
    path, expected = write(rng, folder)
    size = expected.shape
    draw = rng.random()
    if draw < 0.1:
        read = partial(read_mask, path, (size[0] + 1, size[1]), "image.png")
        return Case(f"{name}, of another size", read, lambda _: False, (path.name,))
    read = partial(read_mask, path, size, "image.png")
    if draw < 0.6:
        return Case(name, read, partial(_is_mask, expected, True), (path.name,))
    damage, judged = _damage(rng, path)
    return Case(f"{name}, {damage}", read, partial(_is_mask, expected, judged), (path.name,))


def _is_image(expected: NDArray, judged: bool, read: Any) -> bool | None:
    image = read.numpy()
    if image.dtype != np.float32 or image.ndim != 3 or image.shape[0] != 3 or not ((image >= 0) & (image <= 1)).all():
        return False
    is_same = image.shape == expected.shape and bool(np.abs(image - expected).max() < 1e-4)
    return is_same if is_same or judged else None


def _is_mask(expected: NDArray, judged: bool, read: Any) -> bool | None:
    mask = read.numpy()
    if mask.dtype != np.uint8 or mask.shape != expected.shape or mask.max(initial=0) > 1:
        return False
    is_same = bool((mask == expected).all())
    return is_same if is_same or judged else None


def _choose(table: dict[str, Any], rng: Generator) -> tuple[str, Any]:
    return list(table.items())[rng.integers(len(table))]


def _damage(rng: Generator, path: Path) -> tuple[str, bool]:
    """Damage a file; what was done, and whether a reader can see it: a PNG has checksums, and an end is missed."""
    name, damage = _choose(DAMAGES, rng)
    data = path.read_bytes()
    path.write_bytes(damage(data, rng))
    return name, name == "cut off" or data.startswith(b"\x89PNG")


def _size(rng: Generator) -> tuple[int, int]:
    return int(rng.integers(4, 24)), int(rng.integers(4, 24))


def _grey(rng: Generator, levels: int = 256, dtype: Any = np.uint8) -> NDArray:
    """A picture whose darkest pixel is 0 and whose brightest is the highest level."""
    pixels = rng.integers(0, levels, _size(rng)).astype(dtype)
    pixels.flat[:2] = 0, levels - 1
    return pixels


def _colours(rng: Generator, levels: int = 256, dtype: Any = np.uint8) -> NDArray:
    pixels = rng.integers(0, levels, (*_size(rng), 3)).astype(dtype)
    pixels.flat[:2] = 0, levels - 1
    return pixels


def _as_image(pixels: NDArray, top: float) -> NDArray:
    """Pixels (H, W) or (H, W, 3) of 0 to `top` as the reader should give them."""
    planes = np.repeat(pixels[None], 3, axis=0) if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return planes.astype(np.float64) / top


def _alpha(rng: Generator, pixels: NDArray) -> NDArray:
    return rng.integers(0, np.iinfo(pixels.dtype).max, pixels.shape[:2]).astype(pixels.dtype)


def _write(path: Path, pixels: NDArray, orientation: int = 1, **options: Any) -> None:
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, **({"exif": exif} if orientation != 1 else {}), **options)


def _eight_bits(rng: Generator, folder: Path) -> Written:
    pixels = _grey(rng) if rng.random() < 0.5 else _colours(rng)
    path = folder / f"image.{rng.choice(['png', 'PNG', 'tif', 'bmp', 'webp', 'ppm', 'jpg'])}"
    if path.suffix in {".webp", ".jpg"}:  # what was lost is not the reader's fault
        _write(path, pixels, quality=90)
        with Image.open(path) as image:
            pixels = np.asarray(image)
    else:
        _write(path, pixels)
    return path, _as_image(pixels, 255)


def _with_alpha(rng: Generator, folder: Path) -> Written:
    pixels = _grey(rng) if rng.random() < 0.5 else _colours(rng)
    path = folder / f"image.{rng.choice(['png', 'tif'])}"
    _write(path, np.dstack([pixels, _alpha(rng, pixels)]))
    return path, _as_image(pixels, 255)


def _palette(rng: Generator, folder: Path) -> Written:
    palette, indices = rng.integers(0, 256, (256, 3)).astype(np.uint8), _grey(rng)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(palette.tobytes())
    path = folder / f"image.{rng.choice(['png', 'tif', 'bmp', 'gif'])}"
    image.save(path)
    return path, _as_image(palette[indices], 255)


def _deep_grey(rng: Generator, folder: Path) -> Written:
    top = 2 ** int(rng.choice([10, 12, 16])) - 1
    pixels = _grey(rng, top + 1, np.uint16)
    path = folder / f"image.{rng.choice(['png', 'tif'])}"
    _write(path, pixels)
    return path, _as_image(pixels, top)


def _deep_colours(rng: Generator, folder: Path) -> Written:
    top = 2 ** int(rng.choice([10, 12, 16])) - 1
    pixels = _grey(rng, top + 1, np.uint16) if rng.random() < 0.3 else _colours(rng, top + 1, np.uint16)
    is_grey = pixels.ndim == 2
    stored = np.dstack([pixels, _alpha(rng, pixels)]) if is_grey or rng.random() < 0.5 else pixels
    path = folder / f"image.{'png' if is_grey else rng.choice(['png', 'tif', 'jp2'])}"
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(stored))
    elif path.suffix == ".jp2":
        path.write_bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True))
    else:
        tifffile.imwrite(path, stored, photometric="rgb", compression=rng.choice(COMPRESSIONS))
    return path, _as_image(pixels, top)


def _tiff(rng: Generator, folder: Path) -> Written:
    """Grey or colour of 8 or 16 bits, white or black as zero, in any byte order, layout and compression."""
    dtype = rng.choice([np.uint8, np.uint16])
    top = np.iinfo(dtype).max
    pixels = _grey(rng, top + 1, dtype) if rng.random() < 0.6 else _colours(rng, top + 1, dtype)
    options: dict[str, Any] = {"byteorder": rng.choice(["<", ">"]), "compression": rng.choice(COMPRESSIONS)}
    options |= {"bigtiff": bool(rng.random() < 0.2), "tile": (16, 16) if rng.random() < 0.3 else None}
    path, expected = folder / "image.tif", _as_image(pixels, top)
    if pixels.ndim == 3:
        is_planar = rng.random() < 0.5
        options["planarconfig"] = "separate" if is_planar else "contig"
        tifffile.imwrite(path, pixels.transpose(2, 0, 1) if is_planar else pixels, photometric="rgb", **options)
        return path, expected
    white_is_zero = rng.random() < 0.5
    tifffile.imwrite(path, pixels, photometric="miniswhite" if white_is_zero else "minisblack", **options)
    return path, 1 - expected if white_is_zero else expected


def _other_numbers(rng: Generator, folder: Path) -> Written:
    """Signed, 32-bit and floating point pixels."""
    dtype = rng.choice([np.int16, np.int32, np.uint32, np.float32])
    pixels = _grey(rng, 3000, np.int64)
    offset = 0 if dtype == np.uint32 else -1000
    path = folder / "image.tif"
    tifffile.imwrite(path, (pixels + offset).astype(dtype))
    return path, _as_image(pixels, 2999)


def _turned(rng: Generator, folder: Path) -> Written:
    deep = bool(rng.random() < 0.3)
    pixels = _grey(rng, 65536 if deep else 256, np.uint16 if deep else np.uint8)
    path = folder / f"image.{rng.choice(['png', 'tif'])}"
    orientation = int(rng.choice(list(TURNS)))
    _write(path, pixels, orientation)
    return path, _as_image(_upright(pixels, orientation), 65535 if deep else 255)


def _upright(pixels: NDArray, orientation: int) -> NDArray:
    turns, mirrored = TURNS[orientation]
    turned = np.rot90(pixels, turns)
    return turned[:, ::-1] if mirrored else turned


def _huge(rng: Generator, folder: Path) -> Written:
    """A header of more pixels than there are; no array is right."""
    path = folder / "image.png"
    _write(path, _grey(rng))
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", *rng.choice([9_000, 15_000, 40_000, 2**31 - 1], 2))
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return path, np.full((3, 1, 1), np.nan)


def _wrong_name(rng: Generator, folder: Path) -> Written:
    path, expected = _eight_bits(rng, folder)
    return path.rename(path.with_suffix(str(rng.choice([".png", ".jpg", ".tif", ".bmp"])))), expected


def _more_at_the_end(rng: Generator, folder: Path) -> Written:
    path, expected = _eight_bits(rng, folder)
    path.write_bytes(path.read_bytes() + rng.bytes(50))
    return path, expected


IMAGES: dict[str, Callable[[Generator, Path], Written]] = {
    "8 bits": _eight_bits,
    "8 bits with alpha": _with_alpha,
    "palette": _palette,
    "deep grey": _deep_grey,
    "deep colours": _deep_colours,
    "TIFF": _tiff,
    "other numbers": _other_numbers,
    "turned": _turned,
    "huge": _huge,
    "wrong extension": _wrong_name,
    "more at the end": _more_at_the_end,
}


def _truth(rng: Generator) -> NDArray[np.bool_]:
    """A mask of squares of 8 px, on which JPEG is exact enough; neither empty nor full."""
    squares = rng.random((int(rng.integers(2, 4)), int(rng.integers(2, 4)))) < 0.5
    squares.flat[:2] = True, False
    return squares.repeat(8, axis=0).repeat(8, axis=1)


def _values(rng: Generator, folder: Path) -> Written:
    """Any value but zero: 1, 2, 127, 255 or class indices, in 8 or 16 bits, grey or colour."""
    truth, dtype = _truth(rng), rng.choice([np.uint8, np.uint16])
    value = rng.choice([1, 2, 127, 255, 0]) or rng.integers(1, 20, truth.shape)
    pixels = (truth * value).astype(dtype)
    if dtype == np.uint8 and rng.random() < 0.3:
        pixels = np.dstack([pixels, 0 * pixels, 0 * pixels])[..., rng.permutation(3)]
    path = folder / f"mask.{rng.choice(['png', 'tif'])}"
    _write(path, pixels)
    return path, truth


def _one_bit(rng: Generator, folder: Path) -> Written:
    truth = _truth(rng)
    path = folder / f"mask.{rng.choice(['png', 'tif', 'bmp'])}"
    Image.fromarray(truth).save(path)
    return path, truth


def _jpeg(rng: Generator, folder: Path) -> Written:
    truth = _truth(rng)
    path = folder / "mask.jpg"
    _write(path, (truth * rng.choice([127, 255])).astype(np.uint8), quality=int(rng.integers(60, 100)))
    return path, truth


def _was_jpeg(rng: Generator, folder: Path) -> Written:
    truth = _truth(rng)
    noise = rng.integers(1, 8, truth.shape)
    path = folder / "mask.png"
    _write(path, np.where(truth, 255 - noise, noise).astype(np.uint8))
    return path, truth


def _in_alpha(rng: Generator, folder: Path) -> Written:
    truth = _truth(rng)
    alpha = (truth * rng.choice([1, 127, 255])).astype(np.uint8)
    colour = np.full_like(alpha, rng.choice([0, 60, 255]))
    path = folder / f"mask.{rng.choice(['png', 'tif'])}"
    _write(path, np.dstack([colour, alpha] if rng.random() < 0.5 else [colour, colour, colour, alpha]))
    return path, truth


def _turned_mask(rng: Generator, folder: Path) -> Written:
    truth, orientation = _truth(rng), int(rng.choice(list(TURNS)))
    path = folder / f"mask.{rng.choice(['png', 'tif'])}"
    _write(path, truth.astype(np.uint8) * 255, orientation)
    return path, _upright(truth, orientation)


def _float_mask(rng: Generator, folder: Path) -> Written:
    truth = _truth(rng)
    path = folder / "mask.tif"
    _write(path, truth.astype(np.float32))
    return path, truth


def _white_is_zero_mask(rng: Generator, folder: Path) -> Written:
    """Of black and white only; labels stored so are refused."""
    truth, dtype = _truth(rng), rng.choice([np.uint8, np.uint16])
    path = folder / "mask.tif"
    top = rng.choice([1, np.iinfo(dtype).max])
    tifffile.imwrite(path, (~truth).astype(dtype) * dtype(top), photometric="miniswhite")
    return path, truth


MASKS: dict[str, Callable[[Generator, Path], Written]] = {
    "values": _values,
    "one bit": _one_bit,
    "JPEG": _jpeg,
    "was a JPEG": _was_jpeg,
    "in alpha": _in_alpha,
    "turned": _turned_mask,
    "floating point": _float_mask,
    "white is zero": _white_is_zero_mask,
}
