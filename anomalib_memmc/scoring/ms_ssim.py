"""Multi-scale structural similarity as a map: where two images differ, not only how much.

Libraries give MS-SSIM as a scalar. Here every scale is filtered at full size (reflect padding), stretched to the
image and multiplied, so that an error stays where it is.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, fine to coarse (Wang et al. 2003)."""

_TAPS = 11
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2
_FLOOR = 1e-3  # near 0 the exponents are so steep that rounding would show in the map


def num_scales(height: int, width: int) -> int:
    """Number of dyadic scales an image allows: at most five, the coarsest at least 11 pixels a side.

    Args:
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        Between 1 and 5.

    Raises:
        ValueError: If a side is shorter than 11 pixels.
    """
    side = min(height, width)
    if side < _TAPS:
        msg = f"MS-SSIM needs images of at least {_TAPS} pixels a side, got {height} x {width}."
        raise ValueError(msg)
    sides = [side]
    while len(sides) < len(WEIGHTS) and (halved := (sides[-1] + 1) // 2) >= _TAPS:
        sides.append(halved)
    return len(sides)


def ms_ssim_terms(x: Tensor, y: Tensor) -> list[Tensor]:
    """The similarity terms of every scale, fine to coarse, before exponents.

    Contrast and structure at every scale, times luminance at the coarsest. Averaged over the region that no padding
    touches (5 pixels from each side) and multiplied, they give the scalar MS-SSIM.

    Args:
        x: Images (..., C, H, W) with values in [0, 1].
        y: Images of the same shape; leading dimensions may broadcast, so that one image meets many reconstructions.

    Returns:
        One tensor (..., C, H / 2^s, W / 2^s) per scale, values in [-1, 1].

    Raises:
        ValueError: If the images differ in channels or size, have fewer than four dimensions, or a side is shorter
            than 11 pixels.
    """
    scales = _check_pair(x, y)
    terms = []
    for scale in range(scales):
        if scale:
            x, y = _halve(x), _halve(y)
        moments = _moments(x, y)
        terms.append(_contrast_structure(moments))
    return [*terms[:-1], _luminance(moments) * terms[-1]]


def ms_ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Per-pixel dissimilarity ``1 - MS-SSIM`` of two image batches.

    An 11-tap Gaussian (sigma 1.5) with reflect padding at each of up to five dyadic scales (fewer where the image is
    too small, the exponents then rescaled to the same sum), terms below 0.001 raised to it, bilinear stretching, the
    product over the scales with the standard exponents, and the mean over the channels. The paper names MS-SSIM; how it
    becomes a map is not in the paper (terms and exponents: Wang et al. 2003).
    Always computed in float32, on values clamped to [0, 1].

    Args:
        x: Images (B, C, H, W), values in [0, 1].
        y: Images of the same shape. Further leading dimensions are allowed and broadcast.

    Returns:
        Float32 tensor (B, 1, H, W): 0 where the images are equal, 1 (0.999, by the floor) at worst.

    Raises:
        ValueError: If the images differ in channels or size, have fewer than four dimensions, or a side is shorter
            than 11 pixels.

    Examples:
        >>> x = torch.zeros(1, 3, 64, 64)
        >>> ms_ssim_map(x, x).max().item()
        0.0
    """
    with torch.autocast(device_type=x.device.type, enabled=False):
        terms = ms_ssim_terms(x.float().clamp(0, 1), y.float().clamp(0, 1))
        weights = [weight * sum(WEIGHTS) / sum(WEIGHTS[: len(terms)]) for weight in WEIGHTS[: len(terms)]]
        exponent = torch.zeros_like(terms[0])  # sums of logarithms: OpenVINO takes many times as long for a power
        for scale, (term, weight) in enumerate(zip(terms, weights, strict=True)):
            exponent = exponent + weight * _stretch(term.clamp(min=_FLOOR), 2**scale, x.shape[-2:]).log()
        return (1 - exponent.exp().mean(dim=-3, keepdim=True)).clamp(0, 1)


def structure_map(x: Tensor, y: Tensor, scale: int = 1) -> Tensor:
    """Per-pixel dissimilarity of contrast and structure at one scale, a factor of MS-SSIM without exponent.

    ``1 - (2 cov(x, y) + C) / (var x + var y + C)`` in windows of 11 pixels (Gaussian, sigma 1.5, reflect padding),
    the mean over the channels, stretched to the image. Brightness, coarser and finer structure do not enter: it judges
    textures and edges of about that size only. Always computed in float32, on values clamped to [0, 1].

    Args:
        x: Images (B, C, H, W), values in [0, 1].
        y: Images of the same shape. Further leading dimensions are allowed and broadcast.
        scale: 1 is the image as it is, 2 the image at half its size, and so on, up to ``num_scales``.

    Returns:
        Float32 tensor (B, 1, H, W) in [0, 2]: 0 where the images are equal, above 1 where structures are opposed.

    Raises:
        ValueError: If the images differ in channels or size, have fewer than four dimensions, or a side is shorter
            than 11 pixels, or if they do not allow this scale.
    """
    scales = _check_pair(x, y)
    if not 1 <= scale <= scales:
        msg = f"Images of {x.shape[-2]} x {x.shape[-1]} pixels have scales 1 to {scales}, got {scale}."
        raise ValueError(msg)
    size = x.shape[-2:]
    with torch.autocast(device_type=x.device.type, enabled=False):
        x, y = x.float().clamp(0, 1), y.float().clamp(0, 1)
        for _ in range(scale - 1):
            x, y = _halve(x), _halve(y)
        errors = (1 - _contrast_structure(_moments(x, y)).mean(dim=-3, keepdim=True)).clamp(0, 2)
        return _stretch(errors, 2 ** (scale - 1), size)


def _check_pair(x: Tensor, y: Tensor) -> int:
    """Number of scales that two image batches of one shape allow.

    Raises:
        ValueError: If their shapes do not match or are too small.
    """
    if x.shape[-3:] != y.shape[-3:] or x.ndim != y.ndim or x.ndim < 4:
        msg = f"Expected two image batches of one shape (B, C, H, W), got {tuple(x.shape)} and {tuple(y.shape)}."
        raise ValueError(msg)
    return num_scales(*x.shape[-2:])


def _stretch(x: Tensor, factor: int, size: torch.Size) -> Tensor:
    """Bilinear enlargement of (..., C, h, w) by a factor, to (..., C, *size).

    ``_halve`` pads odd sides before their first pixel, so that what is too much is cut off there. Applied as a matrix
    product, as the Gaussian is: interpolation is slow in OpenVINO, and no faster in torch.
    """
    if factor == 1:
        return x
    rows, columns = (
        torch.as_tensor(_stretch_matrix(side, factor, kept), dtype=x.dtype, device=x.device)
        for side, kept in zip(x.shape[-2:], size, strict=True)
    )
    return functional.linear(functional.linear(x, columns).mT, rows).mT


@torch.compiler.assume_constant_result  # numpy's interpolation cannot be compiled
def _stretch_matrix(side: int, factor: int, kept: int) -> NDArray[np.float64]:
    """Linear interpolation at pixel centres as a matrix (kept, side), the last ``kept`` of ``side * factor`` pixels."""
    centres = (np.arange(side * factor)[-kept:] + 0.5) / factor - 0.5
    return np.stack([np.interp(centres, np.arange(side), pixel) for pixel in np.eye(side)], axis=1)


def _halve(x: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels of (..., C, H, W); odd sides are padded by zero, as pytorch_msssim does."""
    padding = (x.shape[-2] % 2, x.shape[-1] % 2)
    halved = functional.avg_pool2d(x.flatten(0, -4), kernel_size=2, padding=padding)
    return halved.view(*x.shape[:-2], *halved.shape[-2:])


@torch.compiler.assume_constant_result  # numpy's padding cannot be compiled
def _blur_matrix(side: int) -> NDArray[np.float64]:
    """The 11-tap Gaussian with reflect padding as a matrix (side, side) that acts on a column of pixels."""
    offsets = np.arange(_TAPS) - _TAPS // 2
    taps = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    padded = np.pad(np.eye(side), ((_TAPS // 2, _TAPS // 2), (0, 0)), mode="reflect")
    return sum(padded[k : k + side] * tap for k, tap in enumerate(taps / taps.sum()))


class _Moments(NamedTuple):
    """Local statistics of two images x and y and of their difference d = x - y, each (..., C, H, W)."""

    mean_x: Tensor
    mean_y: Tensor
    mean_d: Tensor
    variance_d: Tensor
    variances: Tensor
    """Sum of the variances of x and y."""


def _moments(x: Tensor, y: Tensor) -> _Moments:
    """Statistics in Gaussian windows.

    The Gaussian is applied as a matrix product, which is faster than a depthwise convolution on a CPU.
    """
    rows, columns = (torch.as_tensor(_blur_matrix(side), dtype=x.dtype, device=x.device) for side in x.shape[-2:])

    def blur(image: Tensor) -> Tensor:
        return functional.linear(functional.linear(image, columns).mT, rows).mT

    difference = x - y
    mean_y, mean_d = blur(y), blur(difference)
    mean_x = mean_y + mean_d
    variance_y = blur(y.square()) - mean_y.square()
    variances = blur(x.square()) - mean_x.square() + variance_y
    variance_d = blur(difference.square()) - mean_d.square()
    return _Moments(mean_x, mean_y, mean_d, variance_d.clamp(min=0), variances.clamp(min=0))


def _contrast_structure(of: _Moments) -> Tensor:
    """Contrast times structure, ``(2 cov(x, y) + C) / (var x + var y + C) = 1 - var d / (var x + var y + C)``.

    Written with the difference: equal images give exactly 1, and rounding stays small where images are flat.
    """
    return 1 - of.variance_d / (of.variances + _C2)


def _luminance(of: _Moments) -> Tensor:
    """``(2 mean x mean y + C) / (mean x^2 + mean y^2 + C)``, written with the difference likewise."""
    return 1 - of.mean_d.square() / (of.mean_x.square() + of.mean_y.square() + _C1)
