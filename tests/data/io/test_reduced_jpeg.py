"""A JPEG that is shrunk anyway is decoded at a fraction of its size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_memmc.data import MedicalImageDataset, make_samples, read_image
from anomalib_memmc.data.base import dataset
from anomalib_memmc.data.base.cache import ImageCache
from anomalib_memmc.data.phantom.colonoscopy import paint_colonoscopy
from anomalib_memmc.data.phantom.radiograph import paint_radiograph

WIDTH, HEIGHT, SIZE = 640, 512, 64  # of the picture, and of the cache: read at a quarter


@pytest.fixture(scope="module", params=["grey", "colour"])
def picture(request: pytest.FixtureRequest) -> Image.Image:
    paint = paint_radiograph if request.param == "grey" else paint_colonoscopy
    pixels, _ = paint(np.random.default_rng(0), WIDTH, anomalous=False)
    return Image.fromarray(pixels[:HEIGHT, :, 0] if request.param == "grey" else pixels[:HEIGHT])


def test_as_many_pixels_are_read_as_suffice(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.jpg")
    picture.save(tmp_path / "a.png", compress_level=1)
    for least, side in ((None, 512), (257, 512), (256, 256), (129, 256), (128, 128), (65, 128), (64, 64), (1, 64)):
        image = read_image(tmp_path / "a.jpg", least)
        assert image.shape == (3, side, side * WIDTH // HEIGHT)
        assert (image.dtype, image.is_contiguous()) == (torch.float32, True)
    assert read_image(tmp_path / "a.png", 64).shape == (3, HEIGHT, WIDTH)


def test_it_stands_upright(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 504).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    Image.fromarray(np.tile(ramp[:, None], (1, 304))).save(tmp_path / "a.jpg", quality=95, exif=exif)
    whole, image = read_image(tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg", 70)
    assert (whole.shape, image.shape) == ((3, 304, 504), (3, 76, 126))
    assert whole[0, 0, 0] > 0.95 > 0.05 > whole[0, 0, -1]
    torch.testing.assert_close(image, whole[:, 2::4, 2::4], rtol=0, atol=3 / 255)


def cached(path: Path, folder: Path, crop: tuple | None, blank: tuple | None) -> torch.Tensor:
    """The image of a cache in levels of 255."""
    samples = make_samples([{"image_path": str(path), "label_index": 0, "split": "train"}])
    return MedicalImageDataset(samples, crop=crop, blank=blank, cache=ImageCache("disk", SIZE, folder))[0].image * 255


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("crop", "blank", "read_at", "most", "mean"),
    [
        (None, None, 4, 8, 0.4),
        ((0.25, 0.25, 0.75, 0.75), None, 2, 8, 0.4),
        ((0.101, 0.053, 0.903, 0.907), None, 2, 30, 1.0),  # cut up to half a pixel of what is read beside
        (None, (0.0, 0.6, 0.33, 1.0), 4, 30, 0.5),  # and so is the edge of what is painted
        ((0.25, 0.0, 0.5, 1.0), (0.0, 0.0, 0.5, 0.25), 1, 0, 0.0),  # no pixel to spare: read whole
    ],
)
def test_the_cache_holds_what_it_would_of_the_whole_image(
    picture: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    orientation: int,
    crop: tuple | None,
    blank: tuple | None,
    read_at: int,
    most: float,
    mean: float,
) -> None:
    """At least twice the cache's side is left, so that the resizing with antialiasing has the last word."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.jpg", quality=90, exif=exif)
    fractions = []

    def read(path: Path, least: int) -> torch.Tensor:
        image = read_image(path, least)
        fractions.append(WIDTH // max(image.shape))
        return image

    monkeypatch.setattr(dataset, "read_image", read)
    reduced = cached(tmp_path / "a.jpg", tmp_path / "reduced", crop, blank)
    monkeypatch.setattr(dataset, "read_image", lambda path, least: read_image(path))
    whole = cached(tmp_path / "a.jpg", tmp_path / "whole", crop, blank)
    assert fractions == [read_at]
    assert reduced.shape == whole.shape
    assert min(reduced.shape[-2:]) == SIZE
    difference = (reduced - whole).abs()
    assert difference.max() <= most
    assert difference.mean() <= mean
    assert (whole == 0).all(dim=0).sum().item() == pytest.approx(
        (reduced == 0).all(dim=0).sum().item(), rel=0.05, abs=20
    )


@pytest.mark.parametrize(
    ("width", "height", "read_at"),
    [(640, 512, 4), (640, 508, 2), (636, 510, 2), (640, 511, 1), (513, 512, 1), (517, 1032, 1), (516, 1032, 4)],
)
def test_no_side_leaves_a_remainder(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int, read_at: int
) -> None:
    """A decoder rounds sides up; the part of a pixel at the edge would shift the whole image."""
    picture.resize((width, height)).save(tmp_path / "a.jpg", quality=90)
    assert max(read_image(tmp_path / "a.jpg", 2 * SIZE).shape) * read_at == max(width, height)
    reduced = cached(tmp_path / "a.jpg", tmp_path / "reduced", None, None)
    monkeypatch.setattr(dataset, "read_image", lambda path, least: read_image(path))
    whole = cached(tmp_path / "a.jpg", tmp_path / "whole", None, None)
    assert reduced.shape == whole.shape
    assert (reduced - whole).abs().max() <= 8
    assert (reduced - whole).abs().mean() <= 0.4


def test_the_worst_case_of_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=95)
    whole = ImageCache("disk", SIZE, tmp_path / "whole").read(
        tmp_path / "a.jpg", None, lambda _: read_image(tmp_path / "a.jpg")
    )
    difference = (cached(tmp_path / "a.jpg", tmp_path / "reduced", None, None) - whole * 255).abs()
    assert difference.max() <= 16
    assert difference.mean() <= 3


def test_without_a_cache_every_pixel_is_read(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.jpg")
    samples = make_samples([{"image_path": str(tmp_path / "a.jpg"), "label_index": 0, "split": "test"}])
    data = MedicalImageDataset(samples)
    for image in (data[0].image, data.read(tmp_path / "a.jpg")):
        assert torch.equal(image, read_image(tmp_path / "a.jpg"))
        assert image.shape == (3, HEIGHT, WIDTH)
