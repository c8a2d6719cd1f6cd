from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
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
    tifffile = pytest.importorskip("tifffile", reason="Pillow writes no unsigned 32-bit TIFF")
    tifffile.imwrite(tmp_path / "a.tif", wide)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0].numpy(), wide / wide.max(), atol=1e-5)


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


def test_a_mask_of_labels_is_not_lost(tmp_path: Path) -> None:
    truth = (GREY > 100).astype(np.uint8)
    Image.fromarray(truth).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (16, 16)).numpy(), truth)


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
