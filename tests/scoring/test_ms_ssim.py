"""The MS-SSIM map against the published scalar, and its own promises."""

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim, ssim

from anomalib_memmc.scoring.ms_ssim import WEIGHTS, ms_ssim_map, ms_ssim_terms, num_scales, structure_map


def pair(*shape, noise=0.15, seed=0):
    """Smooth images and distorted copies."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 9, 9, generator=generator)
    x = torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bicubic").clamp(0, 1)
    return x, (x * 0.9 + noise * torch.rand(shape, generator=generator)).clamp(0, 1)


SIZES = [(161, 161), (176, 192), (177, 230), (224, 224), (163, 301)]


@pytest.mark.parametrize("size", SIZES)
def test_terms_give_the_published_scalar(size):
    x, y = pair(2, 3, *size)
    product = torch.ones(2, 3)
    for term, weight in zip(ms_ssim_terms(x, y), WEIGHTS, strict=True):
        product = product * term[..., 5:-5, 5:-5].mean(dim=(-2, -1)).clamp(min=0) ** weight
    expected = ms_ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(product.mean(dim=1), expected, atol=1e-5, rtol=0)
    assert (expected < 0.99).all()


@pytest.mark.parametrize("size", [(224, 224), (176, 192)])
@pytest.mark.parametrize("noise", [0.02, 0.15, 0.5])
def test_mean_of_the_map_is_near_the_scalar(size, noise):
    x, y = pair(2, 3, *size, noise=noise)
    scalar = 1 - ms_ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(ms_ssim_map(x, y).mean(dim=(1, 2, 3)), scalar, atol=0.1, rtol=0)


@pytest.mark.parametrize("size", [(11, 11), (32, 48), (65, 90), (224, 224)])
def test_zero_on_identical_images(size):
    for x in (pair(2, 3, *size)[0], torch.zeros(2, 3, *size), torch.ones(2, 3, *size)):
        result = ms_ssim_map(x, x)
        assert result.shape == (2, 1, *size)
        assert not result.any()


def naive_map(x, y):
    """The map of one channel (H, W) in float64: padded by hand, filtered tap by tap, stretched by whole factors."""
    shape = x.shape
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(image):
        for axis in (0, 1):
            side = image.shape[axis]
            padded = np.pad(image, [(5, 5) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
            image = sum(tap * padded.take(range(k, k + side), axis=axis) for k, tap in enumerate(taps))
        return image

    scales = sum(-(-min(shape) // 2**s) >= 11 for s in range(5))
    exponents = np.array(WEIGHTS[:scales]) * sum(WEIGHTS) / sum(WEIGHTS[:scales])
    result = np.ones(shape)
    for scale in range(scales):
        mean_x, mean_y = blur(x), blur(y)
        covariance = blur(x * y) - mean_x * mean_y
        variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
        term = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        if scale == scales - 1:
            term *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        wide = torch.nn.functional.interpolate(
            torch.tensor(term).clamp(min=0)[None, None], scale_factor=2**scale, mode="bilinear", align_corners=False
        )[0, 0].numpy()
        result *= wide[wide.shape[0] - shape[0] :, wide.shape[1] - shape[1] :] ** exponents[scale]
        x, y = (np.pad(image, [(side % 2, 0) for side in image.shape]) for image in (x, y))
        x, y = (image.reshape(len(image) // 2, 2, -1, 2).mean(axis=(1, 3)) for image in (x, y))
    return 1 - result


@pytest.mark.parametrize("size", [(11, 14), (32, 48), (45, 67), (161, 176)])
def test_map_by_hand(size):
    x, y = pair(1, 1, *size)
    expected = torch.tensor(naive_map(x[0, 0].double().numpy(), y[0, 0].double().numpy()))
    torch.testing.assert_close(ms_ssim_map(x, y)[0, 0].double(), expected, atol=1e-4, rtol=0)
    assert 0.01 < expected.mean() < 0.9


def test_symmetric_and_bounded():
    x, y = pair(2, 3, 48, 64, noise=0.2)  # more brings terms near 0, where the exponents magnify rounding
    torch.testing.assert_close(ms_ssim_map(x, y), ms_ssim_map(y, x), atol=1e-4, rtol=0)
    for other in (y, 1 - x, torch.zeros_like(x), (x > 0.5).float()):
        result = ms_ssim_map(x, other)
        assert torch.isfinite(result).all()
        assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("size", [(128, 128), (176, 192), (163, 177), (225, 299)])
@pytest.mark.parametrize("at", [(30, 30), (64, 90), (75, 66)])
def test_an_error_stays_where_it_is(size, at):
    x = torch.full((1, 1, *size), 0.5)
    y = x.clone()
    y[..., at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2] = 0.8  # 3 x 3, centred at `at`
    result = ms_ssim_map(x, y)[0, 0]
    for axis, position in enumerate(at):
        profile = result.sum(dim=1 - axis)
        centre = (profile * torch.arange(len(profile))).sum() / profile.sum()
        assert centre.item() == pytest.approx(position, abs=1)
    row, column = divmod(result.argmax().item(), size[1])
    assert max(abs(row - at[0]), abs(column - at[1])) <= 2


@pytest.mark.parametrize(
    ("size", "scales"), [((11, 11), 1), ((20, 99), 1), ((21, 30), 2), ((48, 64), 3), ((128, 128), 4), ((161, 400), 5)]
)
def test_small_images_use_fewer_scales(size, scales):
    x, y = pair(1, 1, *size)
    assert num_scales(*size) == len(ms_ssim_terms(x, y)) == scales
    assert ms_ssim_map(x, y).shape == (1, 1, *size)


@pytest.mark.parametrize("size", [(10, 64), (64, 10), (1, 1)])
def test_too_small(size):
    x = torch.rand(1, 1, *size)
    with pytest.raises(ValueError, match="at least 11"):
        ms_ssim_map(x, x)


@pytest.mark.parametrize("shape", [(1, 3, 32, 33), (1, 1, 32, 32), (3, 32, 32)])
def test_different_shapes(shape):
    with pytest.raises(ValueError, match="shape"):
        ms_ssim_map(torch.rand(1, 3, 32, 32), torch.rand(shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y = (image.to(dtype) for image in pair(2, 3, 48, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = ms_ssim_map(x, y)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, ms_ssim_map(x.float(), y.float()), atol=0, rtol=0)
    assert torch.isfinite(result).all()


def test_values_outside_0_1_are_clamped():
    x, y = pair(1, 3, 48, 64)
    torch.testing.assert_close(ms_ssim_map(x * 4 - 1, y), ms_ssim_map((x * 4 - 1).clamp(0, 1), y), atol=0, rtol=0)


def test_batch_independence_and_broadcast():
    x, y = pair(6, 3, 48, 64)
    together = ms_ssim_map(x, y)
    for index in range(6):
        alone = ms_ssim_map(x[index : index + 1], y[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-6, rtol=0)
    views = ms_ssim_map(x.view(2, 3, 3, 48, 64), y[::3].unsqueeze(1))
    assert views.shape == (2, 3, 1, 48, 64)
    torch.testing.assert_close(views[1, 2], ms_ssim_map(x[5:6], y[3:4])[0], atol=1e-6, rtol=0)


def test_channels_are_averaged():
    x, y = pair(1, 3, 48, 64)
    single = torch.stack([ms_ssim_map(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]).mean(dim=0)
    torch.testing.assert_close(ms_ssim_map(x, y), single, atol=1e-6, rtol=0)


# --- the structure term alone ---


@pytest.mark.parametrize("scale", [1, 2])
def test_structure_is_one_minus_a_term(scale):
    x, y = pair(2, 3, 64, 48)
    expected = 1 - ms_ssim_terms(x, y)[scale - 1].mean(dim=1, keepdim=True)
    expected = torch.nn.functional.interpolate(expected, size=(64, 48), mode="bilinear")
    torch.testing.assert_close(structure_map(x, y, scale), expected)
    assert not structure_map(x, x, scale).any()


def test_structure_stays_where_it_is():
    """Of an odd size too, where a scale begins with a padded pixel."""
    x = pair(1, 1, 63, 63)[0]
    y = x.clone()
    y[..., 40:44, 20:24] += 0.5 - y[..., 40:44, 20:24]
    errors = structure_map(x, y, 2)[0, 0]
    assert errors.shape == (63, 63)
    row, column = divmod(errors.argmax().item(), 63)
    assert abs(row - 42) <= 4
    assert abs(column - 22) <= 4


@pytest.mark.parametrize("scale", [0, 4])
def test_structure_wants_a_scale_of_the_image(scale):
    with pytest.raises(ValueError, match="scales 1 to 3"):
        structure_map(*pair(1, 1, 64, 48), scale)


def test_structure_ignores_brightness_that_ssim_sees():
    x = pair(1, 1, 64, 64)[0] * 0.5
    brighter = x + 0.3
    assert structure_map(x, brighter).max() < 1e-4
    assert ssim(x, brighter, data_range=1.0) < 0.9


def test_structure_of_a_negative_is_above_one():
    x = pair(1, 1, 64, 64, noise=0.5)[1]
    assert 1 < structure_map(x, 1 - x).mean() <= 2


@pytest.mark.parametrize(("x", "y"), [((1, 3, 32, 32), (1, 3, 32, 33)), ((3, 32, 32), (3, 32, 32))])
def test_structure_wants_two_batches_of_one_shape(x, y):
    with pytest.raises(ValueError, match="one shape"):
        structure_map(torch.rand(x), torch.rand(y))
