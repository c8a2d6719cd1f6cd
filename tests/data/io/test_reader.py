from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from anomalib_memmc.data import ImageReadError, read_image, read_mask

RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tiff", "a.TIF", "a.bmp"])
def test_colour_is_divided_by_255(tmp_path: Path, name: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), COLOUR.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str, suffix: str) -> None:
    if mode == "CMYK" and suffix == "png":
        suffix = "jpg"
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOUR).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 16, 16)
    assert 0 <= image.min() < image.max() <= 1


def test_grey_has_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    assert image[0, 0, 1] == pytest.approx(1 / 255)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    rgba = np.dstack([COLOUR, np.full((16, 16), 7, dtype=np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png").numpy(), COLOUR.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_deep_ramp_stays_a_ramp_whatever_its_bits(tmp_path: Path, name: str, bits: int) -> None:
    ramp = RAMP >> (16 - bits)
    Image.fromarray(ramp).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (3, 16, 16)
    np.testing.assert_allclose(image[0].numpy(), ramp / ramp.max(), atol=1e-5)


def test_unsigned_32_bit_tiff_does_not_wrap(tmp_path: Path) -> None:
    wide = RAMP.astype(np.uint32) * 65000
    tifffile.imwrite(tmp_path / "a.tif", wide)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0].numpy(), wide / wide.max(), atol=1e-5)


DEEP = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=-1) >> 4
OPAQUE = np.full((16, 16), 65535, dtype=np.uint16)


def write_deep(path: Path, pixels: np.ndarray, **options: object) -> None:
    """Write 16-bit colours, which Pillow cannot."""
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    elif path.suffix == ".jp2":
        path.write_bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jp2", {}),
        ("a.tif", {}),
        ("big-endian.tif", {"byteorder": ">"}),
        ("packed.tif", {"compression": "zlib"}),
        ("planes.tif", {"planarconfig": "separate"}),
    ],
)
def test_12_bits_in_16_bit_colours_are_scaled_as_grey_is(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    pixels = DEEP.transpose(2, 0, 1) if "planarconfig" in options else DEEP
    write_deep(tmp_path / name, pixels, **options)
    np.testing.assert_allclose(read_image(tmp_path / name).numpy(), DEEP.transpose(2, 0, 1) / DEEP.max(), atol=1e-5)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_the_alpha_of_deep_colours_is_dropped(tmp_path: Path, name: str) -> None:
    write_deep(tmp_path / name, np.dstack([DEEP, OPAQUE]))
    np.testing.assert_allclose(read_image(tmp_path / name).numpy(), DEEP.transpose(2, 0, 1) / DEEP.max(), atol=1e-5)


def test_the_alpha_of_deep_grey_is_dropped(tmp_path: Path) -> None:
    write_deep(tmp_path / "a.png", np.dstack([RAMP >> 4, OPAQUE]))
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 16, 16)
    np.testing.assert_allclose(image[1].numpy(), (RAMP >> 4) / 4095, atol=1e-5)


@pytest.mark.parametrize("name", ["cut.png", "cut.tif", "cut.jp2"])
def test_truncated_deep_colours_are_named(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64, 3)).astype(np.uint16)
    write_deep(tmp_path / name, noise)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[: (tmp_path / name).stat().st_size * 3 // 4])
    with pytest.raises(ImageReadError, match=rf"{name}.*copy it again"):
        read_image(tmp_path / name)


def test_deep_colours_of_another_format_are_refused(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.sgi", bpc=2)
    with pytest.raises(ImageReadError, match=r"a\.sgi: colours of 16 bits in a SGI file are not supported"):
        read_image(tmp_path / "a.sgi")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_zero_is_inverted(tmp_path: Path, dtype: type) -> None:
    stored = (RAMP if dtype is np.uint16 else GREY).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0].numpy(), 1 - stored / stored.max(), atol=1e-5)


def write_turned(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """Write pixels with an EXIF tag."""
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize(("orientation", "turns", "flip"), [(2, 0, True), (3, 2, False), (6, 3, False), (8, 1, False)])
def test_an_image_is_turned_as_its_exif_tag_says(
    tmp_path: Path, name: str, orientation: int, turns: int, flip: bool
) -> None:
    pixels = GREY[:8] if name != "a.png" else RAMP[:8]
    write_turned(tmp_path / name, pixels, orientation)
    write_turned(tmp_path / f"plain-{name}", pixels, 1)
    expected = np.rot90(read_image(tmp_path / f"plain-{name}").numpy(), turns, axes=(1, 2))
    np.testing.assert_array_equal(read_image(tmp_path / name).numpy(), expected[..., ::-1] if flip else expected)


def test_deep_colours_and_masks_are_turned_too(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP[:8], photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    expected = np.rot90(DEEP[:8], 3).transpose(2, 0, 1)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").numpy(), expected / DEEP[:8].max(), atol=1e-5)
    write_turned(tmp_path / "m.png", (GREY[:8] > 40).astype(np.uint8), 6)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (16, 8)).numpy(), np.rot90(GREY[:8] > 40, 3))


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    for read in (read_image, read_mask):
        with pytest.raises(ImageReadError, match=r"huge\.png has .* pixels; the limit is 64,000,000"):
            read(path)


def test_a_deep_image_of_one_value_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 3000, dtype=np.uint16)).save(tmp_path / "a.png")
    assert torch.equal(torch.as_tensor(read_image(tmp_path / "a.png")), torch.zeros(3, 8, 8))


def test_float_tiff_is_stretched_and_nan_refused(tmp_path: Path) -> None:
    Image.fromarray((GREY / 10 - 3).astype(np.float32)).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    assert (image.min(), image.max()) == (0, 1)
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ImageReadError, match=r"nan\.tif.*not finite"):
        read_image(tmp_path / "nan.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageReadError, match=rf"cut\.{suffix}.*copy it again"):
        read_image(path)


def test_a_png_that_ends_in_zeros_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 8, (16, 24)).astype(np.uint8)).save(path)
    data = path.read_bytes()
    for end in range(60, data.index(b"IEND"), 2):  # at some of them Pillow takes the zeros for pixels
        path.write_bytes(data[:end] + bytes(len(data) - end))
        with pytest.raises(ImageReadError, match=r"a\.png.*copy it again"):
            read_image(path)


def test_no_image_and_no_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.png", "empty.jpg", "absent.png"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)


def test_a_jpeg_mask_is_cut_at_128(tmp_path: Path) -> None:
    truth = np.zeros((40, 48), dtype=np.uint8)
    truth[9:23, 11:31] = 1
    Image.fromarray(truth * 255).save(tmp_path / "m.jpg", quality=60)
    stored = np.asarray(Image.open(tmp_path / "m.jpg"))
    assert (stored > 0).sum() > 1.1 * truth.sum()  # the trap
    mask = read_mask(tmp_path / "m.jpg", (40, 48))
    assert mask.dtype == torch.uint8
    np.testing.assert_array_equal(mask.numpy(), truth)


LESION = GREY > 100


@pytest.mark.parametrize(
    "values",
    [
        np.where(LESION, 1, 0).astype(np.uint8),
        np.where(LESION, 127, 0).astype(np.uint8),
        np.where(LESION, GREY % 5 + 1, 0).astype(np.uint8),  # class indices
        np.where(LESION, 2, 0).astype(np.uint16),
        np.where(LESION, 1000, 0).astype(np.uint16),
        np.where(LESION, 1, 0).astype(np.float32),
        np.where(LESION[..., None], [0, 0, 64], 0).astype(np.uint8),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_pixel_that_is_not_zero_is_anomalous(tmp_path: Path, values: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"m.{'tif' if values.dtype == np.float32 else suffix}"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_mask(path, (16, 16)).numpy(), LESION)


def test_a_palettes_colours_are_what_counts(tmp_path: Path) -> None:
    mask = Image.fromarray(np.where(LESION, 0, 3).astype(np.uint8)).convert("P")
    mask.putpalette([200, 200, 0, *[0] * 9])
    mask.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numpy(), LESION)


def test_a_jpeg_mask_of_127_is_cut_at_half_of_it(tmp_path: Path) -> None:
    truth = np.zeros((40, 48), dtype=np.uint8)
    truth[9:23, 11:31] = 1
    Image.fromarray(truth * 127).save(tmp_path / "m.jpg", quality=60)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg").numpy(), truth)


@pytest.mark.parametrize("scale", [1, 256])
def test_a_mask_that_was_a_jpeg_or_has_soft_edges_is_cut_at_half(tmp_path: Path, scale: int) -> None:
    dtype = np.uint16 if scale > 1 else np.uint8
    noisy = np.where(LESION, 255 - GREY % 8, GREY % 8).astype(dtype) * scale
    Image.fromarray(noisy).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numpy(), LESION)
    Image.fromarray(GREY.astype(dtype) * scale).save(tmp_path / "soft.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "soft.png").numpy(), GREY >= 128)


@pytest.mark.parametrize("colour", [0, 255, 90])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_mask_in_the_alpha_channel_alone_is_used(tmp_path: Path, mode: str, colour: int) -> None:
    mask = Image.new(mode, (16, 16), (*[colour] * (len(mode) - 1), 0))
    mask.putalpha(Image.fromarray(np.where(LESION, 130, 0).astype(np.uint8)))
    mask.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numpy(), LESION)


def test_a_deep_mask_in_the_alpha_channel_is_used(tmp_path: Path) -> None:
    write_deep(tmp_path / "m.png", np.dstack([0 * OPAQUE, np.where(LESION, 2, 0).astype(np.uint16)]))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numpy(), LESION)


@pytest.mark.parametrize("alpha", [255, 0, LESION * 255, (GREY > 20) * 255])
def test_colours_count_where_the_alpha_channel_agrees(tmp_path: Path, alpha: object) -> None:
    mask = Image.fromarray(np.where(LESION[..., None], [0, 90, 0], 0).astype(np.uint8))
    mask.putalpha(Image.fromarray(np.broadcast_to(np.uint8(alpha), (16, 16)).copy()))
    mask.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numpy(), LESION)


def test_a_mask_that_says_two_things_is_refused(tmp_path: Path) -> None:
    mask = Image.fromarray(np.where(LESION[..., None], 0, 255).astype(np.uint8).repeat(3, axis=-1))
    mask.putalpha(Image.fromarray(np.where(LESION, 255, 0).astype(np.uint8)))
    mask.save(tmp_path / "m.png")
    with pytest.raises(ImageReadError, match=r"m\.png says one thing in its colours and another in its alpha"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize(
    ("values", "trouble"),
    [(LESION / 3, "fractions"), (np.where(LESION, np.nan, 0), "fractions"), (-1.0 * LESION, "neg")],
)
def test_a_mask_of_odd_numbers_is_refused(tmp_path: Path, values: np.ndarray, trouble: str) -> None:
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(ImageReadError, match=rf"m\.tif holds {trouble}"):
        read_mask(tmp_path / "m.tif")


def test_a_mask_of_white_as_zero_is_taken_only_in_black_and_white(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        tifffile.imwrite(tmp_path / "m.tif", LESION * dtype(np.iinfo(dtype).max), photometric="miniswhite")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.tif").numpy(), ~LESION)
        tifffile.imwrite(tmp_path / "m.tif", LESION.astype(dtype), photometric="miniswhite")
        with pytest.raises(ImageReadError, match=r"m\.tif stores white as zero"):
            read_mask(tmp_path / "m.tif")


def test_an_empty_jpeg_mask_stays_empty(tmp_path: Path) -> None:
    Image.fromarray(np.ones((16, 16), dtype=np.uint8)).save(tmp_path / "m.jpg")
    assert read_mask(tmp_path / "m.jpg", (16, 16)).sum() == 0


def test_a_mask_of_another_size_names_both_files(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "m.png")
    with pytest.raises(ImageReadError, match=r"m\.png is 16 x 16 .*image\.jpg is 30 x 20"):
        read_mask(tmp_path / "m.png", (20, 30), "image.jpg")


def test_a_missing_mask_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"absent\.png of image\.jpg is missing"):
        read_mask(tmp_path / "absent.png", (20, 30), "image.jpg")


def _fake_pydicom(monkeypatch: pytest.MonkeyPatch, **attributes: object) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", SimpleNamespace(dcmread=lambda _: SimpleNamespace(**attributes)))


def test_dicom_without_pydicom_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageReadError, match=r"anomalib-memmc\[dicom\]"):
        read_image(tmp_path / "a.DCM")


def test_dicom_is_rescaled_and_stretched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_pydicom(monkeypatch, pixel_array=RAMP >> 4, RescaleSlope=2.0, RescaleIntercept=-1024.0)
    image = read_image(tmp_path / "a.dcm")
    np.testing.assert_allclose(image[0].numpy(), (RAMP >> 4) / 4095, atol=1e-4)


def test_monochrome1_is_inverted_and_padding_is_dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = (RAMP >> 4).astype(np.int32)
    stored[0, :4] = -2000
    _fake_pydicom(monkeypatch, pixel_array=stored, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=-2000)
    image = read_image(tmp_path / "a.dcm")
    assert (image[:, 0, :4] == 0).all()
    assert image[0, 0, 4] == 1
    assert image[0, -1, -1] == 0


@pytest.mark.parametrize(("value", "limit"), [(-2000, -1990), (-1990, -2000), (63536, 63546)])
def test_a_range_of_padding_is_dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: int, limit: int) -> None:
    stored = (RAMP >> 4).astype(np.int16)
    stored[0, :3] = (-2000, -1995, -1990)
    padding = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit, "BitsStored": 16}
    _fake_pydicom(monkeypatch, pixel_array=stored, **padding)
    image = read_image(tmp_path / "a.dcm")
    assert (image[:, 0, :3] == 0).all()
    np.testing.assert_allclose(image[0, 1].numpy(), (stored[1] - stored[0, 3]) / (4095 - stored[0, 3]), atol=1e-4)


def test_odd_numbers_in_a_dicom_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_pydicom(monkeypatch, pixel_array=RAMP, RescaleSlope=None, RescaleIntercept="")
    np.testing.assert_allclose(read_image(tmp_path / "a.dcm")[0].numpy(), RAMP / 65535, atol=1e-5)
    _fake_pydicom(monkeypatch, pixel_array=RAMP, PixelPaddingValue=[1, 2])
    with pytest.raises(ImageReadError, match=r"a\.dcm has PixelPaddingValue = \[1, 2\]"):
        read_image(tmp_path / "a.dcm")
    _fake_pydicom(monkeypatch, pixel_array=RAMP, RescaleSlope="inf")
    with pytest.raises(ImageReadError, match=r"a\.dcm has RescaleSlope = inf"):
        read_image(tmp_path / "a.dcm")


def test_a_dicom_of_colours_or_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_pydicom(monkeypatch, pixel_array=RAMP, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(ImageReadError, match=r"a\.dcm holds .* kind PALETTE COLOR"):
        read_image(tmp_path / "a.dcm")
    _fake_pydicom(monkeypatch, Rows=9000, Columns=9000)
    with pytest.raises(ImageReadError, match=r"a\.dcm has 9,000 x 9,000 pixels; the limit"):
        read_image(tmp_path / "a.dcm")


def test_dicom_of_several_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_pydicom(monkeypatch, pixel_array=np.zeros((5, 8, 8)))
    with pytest.raises(ImageReadError, match=r"a\.dcm.*\(5, 8, 8\)"):
        read_image(tmp_path / "a.dcm")


def test_a_real_dicom_file_is_read(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 16, 16, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.PixelData = (RAMP >> 4).tobytes()
    dataset.save_as(tmp_path / "no_extension", enforce_file_format=True)
    image = read_image(tmp_path / "no_extension")
    np.testing.assert_allclose(image[2].numpy(), 1 - (RAMP >> 4) / 4095, atol=1e-5)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "no_extension").read_bytes()[:300])
    with pytest.raises(ImageReadError, match=r"cut\.dcm"):
        read_image(tmp_path / "cut.dcm")
