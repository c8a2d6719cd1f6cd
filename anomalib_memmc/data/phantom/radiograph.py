"""Paint a chest-radiograph-like image, with or without an opacity in a lung."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anomalib_memmc.data.phantom.canvas import Plane, ellipse, grid, smooth_noise, soft_step


def paint_radiograph(rng: Generator, size: int, anomalous: bool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Paint a frontal chest: body, lungs with ribs, clavicles, spine, heart and diaphragm.

    Args:
        rng: Source of everything random.
        size: Side of the image, in pixels.
        anomalous: Whether to add an opacity: a cloudy white patch within one lung.

    Returns:
        Image of shape (size, size, 3), its channels equal, and mask of shape (size, size), true where the opacity has
        more than half its density.
    """
    pixels_x, pixels_y = grid(size)
    x, y = _pose(rng, pixels_x, pixels_y)
    left, right = _lung(rng, x, y, -1), _lung(rng, x, y, 1)
    lungs = np.maximum(left, right)
    heart = _heart(rng, x, y)
    lungs = lungs * (1 - heart)
    plane = _body(rng, x, y) - 0.42 * lungs + _bones(rng, x, y, lungs) + _middle(rng, x, y) + 0.12 * heart
    plane = plane + 0.035 * smooth_noise(rng, size, 12) * lungs
    mask = np.zeros((size, size), dtype=bool)
    if anomalous:
        opacity = _opacity(rng, x, y, (left if rng.random() < 0.5 else right) * (1 - heart))
        plane = plane + float(rng.uniform(0.3, 0.42)) * opacity
        mask = opacity > 0.5
    plane = np.clip(plane, 0, 1.05) ** rng.uniform(0.85, 1.2)
    plane = plane * rng.uniform(0.85, 1.0) + rng.normal(0, 0.012, plane.shape)
    grey = (np.clip(plane, 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), mask


def _pose(rng: Generator, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The patient's own coordinates: a little shifted, turned and scaled."""
    angle, scale = rng.normal(0, 0.03), rng.uniform(0.95, 1.1)
    shift = rng.normal(0, 0.035, 2)
    right, down = (x - shift[0]) * scale, (y - shift[1]) * scale
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return (cos * right + sin * down).astype(np.float32), (cos * down - sin * right).astype(np.float32)


def _body(rng: Generator, x: Plane, y: Plane) -> Plane:
    """Soft tissue against the dark air around it: shoulders, trunk, neck."""
    slope = y + float(rng.uniform(0.76, 0.84)) - 0.32 * np.abs(x) ** 1.6
    flank = float(rng.uniform(0.93, 1.05)) - np.abs(x) - 0.1 * np.maximum(y, 0)
    arms = soft_step(-0.1 - y, 0.1)
    trunk = soft_step(slope, 0.03) * np.maximum(soft_step(flank, 0.02), arms)
    tissue = np.maximum(trunk, soft_step(0.24 - np.abs(x), 0.03) * soft_step(-0.6 - y, 0.1))
    belly = 0.14 * soft_step(y - 0.62, 0.05)
    edges = 0.3 * np.abs(x) ** 3
    return tissue * (0.62 + belly - edges + 0.025 * smooth_noise(rng, len(x), 4))


def _lung(rng: Generator, x: Plane, y: Plane, side: int) -> Plane:
    """How much of a pixel is lung, in [0, 1]; -1 is the lung at the left of the image."""
    centre = (side * 0.44, 0.02)
    radii = (float(rng.uniform(0.3, 0.34)), float(rng.uniform(0.66, 0.74)))
    shape = soft_step(1 - ellipse(x, y, centre, radii, -side * 0.12), 0.035)
    dome = 0.5 + 0.35 * (x - centre[0]) ** 2 * 4 + float(rng.normal(0, 0.03)) + (0.05 if side > 0 else 0.0)
    return shape * soft_step(dome - y, 0.02)


def _bones(rng: Generator, x: Plane, y: Plane, lungs: Plane) -> Plane:
    """Ribs that slope down to the sides, and the two clavicles."""
    spacing, phase = rng.uniform(0.19, 0.22), rng.uniform(0, 1)
    behind = (y - 0.55 * np.abs(x) ** 1.4 + 0.2 * np.abs(x)) / spacing + phase
    in_front = (y - 0.8 * np.abs(x) + 0.1) / (1.35 * spacing) + phase
    ribs = 0.1 * _stripes(behind, 0.28) + 0.05 * _stripes(in_front, 0.22)
    inside = ribs * (0.25 + 0.75 * lungs) * soft_step(0.8 - np.abs(x), 0.04) * soft_step(0.75 - np.abs(y), 0.06)
    collar = np.abs(y + 0.62 + 0.22 * np.abs(x) - 0.1 * np.abs(x) ** 2) - 0.035
    clavicles = 0.13 * soft_step(-collar, 0.012) * soft_step(0.75 - np.abs(x), 0.04) * soft_step(np.abs(x) - 0.1, 0.02)
    return inside + clavicles


def _stripes(position: Plane, width: float) -> Plane:
    """Bands at the whole numbers of `position`, 1 in their middle."""
    return np.exp(-(((position - np.round(position)) / width) ** 2) * 3)


def _middle(rng: Generator, x: Plane, y: Plane) -> Plane:
    """Spine, mediastinum with the dark windpipe, and the vessels at the lungs' roots."""
    spine = 0.13 * np.exp(-((x / 0.11) ** 2)) * (1 + 0.15 * np.sin(y * 26 + rng.uniform(0, 6)))
    spine = spine + 0.08 * np.exp(-((x / 0.17) ** 4))
    windpipe = -0.12 * np.exp(-((x / 0.055) ** 2)) * soft_step(-0.15 - y, 0.05)
    roots = sum(0.12 * np.exp(-(ellipse(x, y, (side * 0.24, -0.02), (0.13, 0.2)) ** 2)) for side in (-1, 1))
    return spine + windpipe + roots


def _heart(rng: Generator, x: Plane, y: Plane) -> Plane:
    """How much of a pixel the heart covers, in [0, 1]."""
    radii = (float(rng.uniform(0.31, 0.38)), float(rng.uniform(0.24, 0.3)))
    return soft_step(1 - ellipse(x, y, (0.14, 0.33), radii, 0.6), 0.06)


def _opacity(rng: Generator, x: Plane, y: Plane, lung: Plane) -> Plane:
    """The density of a cloudy patch whose middle lies well within a lung, in [0, 1]."""
    rows, columns = np.nonzero((lung > 0.9) & (y > -0.45))
    pick = int(rng.integers(len(rows)))
    centre = (float(x[rows[pick], columns[pick]]), float(y[rows[pick], columns[pick]]))
    radii = (float(rng.uniform(0.18, 0.28)), float(rng.uniform(0.22, 0.34)))
    distance = ellipse(x, y, centre, radii, float(rng.uniform(0, np.pi))) + 0.2 * smooth_noise(rng, len(x), 9)
    cloud = soft_step(1 - distance, 0.13) * (1 + 0.12 * smooth_noise(rng, len(x), 14))
    return np.clip(cloud * (0.15 + 0.85 * lung), 0, 1)
