import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, laplace

from anomalib_memmc.reporting.baselines import (
    MEASURES,
    NAMES,
    PROPERTIES,
    aspect_ratio,
    brightness_map,
    centre_map,
    file_bytes,
    laplacian_median,
    laplacian_variance,
    mean_intensity,
)


def test_laplacian_variance_is_scipys_and_falls_with_blur():
    sharp = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    images = torch.from_numpy(np.stack([sharp, gaussian_filter(sharp, 2)]))[:, None].expand(-1, 3, -1, -1)
    values = laplacian_variance(images)
    assert values[0].item() == pytest.approx(laplace(sharp)[1:-1, 1:-1].var(), rel=1e-4)
    assert values[1] < values[0] / 10


@pytest.mark.parametrize("shape", [(20, 30), (21, 31)])  # an even and an odd number of interior pixels
def test_noise_is_the_median_of_the_absolute_laplacian(shape):
    clean = np.zeros(shape, dtype=np.float32)
    clean[5:9, 5:9] = 1  # edges alone are no noise
    noisy = clean + np.random.default_rng(0).normal(0, 0.02, shape).astype(np.float32)
    images = torch.from_numpy(np.stack([clean, noisy]))[:, None].expand(-1, 3, -1, -1)
    values = laplacian_median(images)
    assert values[0] == 0
    assert values[1].item() == pytest.approx(np.median(np.abs(laplace(noisy)[1:-1, 1:-1])), rel=1e-4)


def test_every_measure_has_its_names():
    assert list(NAMES) == list(PROPERTIES)
    assert list(NAMES) == [*MEASURES, "file_bytes", "aspect_ratio"]


def test_mean_intensity():
    images = torch.rand(4, 3, 5, 6)
    torch.testing.assert_close(mean_intensity(images), images.flatten(1).mean(dim=1))


def test_file_measures(tmp_path):
    path = tmp_path / "image.png"
    Image.new("L", (40, 20)).save(path)
    assert aspect_ratio(path) == 2.0
    assert file_bytes(path) == path.stat().st_size
    (tmp_path / "text.png").write_text("no image")
    assert math.isnan(aspect_ratio(tmp_path / "text.png"))
    assert math.isnan(file_bytes(tmp_path / "missing.png"))


def test_trivial_maps_are_brightness_and_nearness_to_the_centre():
    images = torch.rand(2, 3, 20, 30)
    torch.testing.assert_close(brightness_map(images)[:, 0], images.mean(dim=1))
    maps = centre_map(images)
    assert maps.shape == (2, 1, 20, 30)
    assert maps.amin() >= 0
    assert 0.95 < maps.amax() < 1
    assert maps[0, 0, 10, 15] == maps.amax()
    torch.testing.assert_close(maps, maps.flip(2, 3))
    assert maps[0, 0, 0, 15] < maps[0, 0, 5, 15]


@pytest.mark.parametrize("make", [brightness_map, centre_map])
def test_trivial_maps_leave_out_what_is_no_tissue(make):
    images = torch.rand(2, 3, 20, 30)
    tissue = torch.ones(2, 1, 20, 30, dtype=torch.bool)
    tissue[0, :, :, :16] = False
    whole, left = make(images), make(images, tissue)
    assert torch.equal(left[tissue], whole[tissue])
    assert (left[0, :, :, :16] == whole[0, :, :, 16:].amin()).all()
