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
