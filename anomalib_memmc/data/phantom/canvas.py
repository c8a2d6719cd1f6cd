"""The brushes that the phantoms are painted with: grids, soft edges, smooth noise."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.floating]


def grid(size: int) -> tuple[Plane, Plane]:
    """Coordinates of the pixels of a square: x to the right and y downwards, each (size, size), in [-1, 1]."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def soft_step(values: Plane, width: float) -> Plane:
    """From 0 where `values` are far below 0 to 1 where they are far above, over about 4 `width`."""
    return 1 / (1 + np.exp(np.clip(-values / width, -30, 30)))


def smooth_noise(rng: Generator, size: int, cells: int) -> Plane:
    """Noise whose bumps are about `size` / `cells` pixels wide: (size, size), standard deviation near 1."""
    coarse = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)) * 1.4


def ellipse(x: Plane, y: Plane, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Plane:
    """Distance from an ellipse's centre in units of its radius: 1 on its rim."""
    cos, sin = np.cos(angle), np.sin(angle)
    right, down = x - centre[0], y - centre[1]
    return np.hypot((cos * right + sin * down) / radii[0], (cos * down - sin * right) / radii[1])
