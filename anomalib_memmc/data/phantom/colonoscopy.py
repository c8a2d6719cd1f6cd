"""Paint a colonoscopy-like frame, with or without a polyp."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anomalib_memmc.data.phantom.canvas import Plane, ellipse, grid, smooth_noise, soft_step

MUCOSA = np.array([0.86, 0.50, 0.40], dtype=np.float32)
PALE = np.array([1.08, 1.22, 1.2], dtype=np.float32)
VESSEL = np.array([0.10, 0.28, 0.24], dtype=np.float32)


def paint_colonoscopy(rng: Generator, size: int, anomalous: bool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Paint a frame: mucosa with vessels, folds around a dark lumen, specular highlights, a black border.

    Args:
        rng: Source of everything random.
        size: Side of the frame, in pixels.
        anomalous: Whether to add a polyp: a dome with its own colour, pits and shading.

    Returns:
        Frame of shape (size, size, 3) and mask of shape (size, size), true on the polyp.
    """
    x, y = grid(size)
    lumen = (float(rng.uniform(-0.35, 0.35)), float(rng.uniform(-0.35, 0.35)))
    frame, light = _wall(rng, x, y, lumen)
    polyp = np.zeros((size, size), dtype=bool)
    if anomalous:
        frame, polyp = _add_polyp(rng, x, y, frame, light, lumen)
    frame = frame + _highlights(rng, x, y, light)[..., None]
    frame = frame * rng.uniform(0.85, 1.1) + rng.normal(0, 0.008, (size, size, 1)).astype(np.float32)
    view = ellipse(x, y, (0, 0), (0.98, 0.98))
    frame = frame * soft_step(1 - view, 0.012)[..., None]
    return (np.clip(frame, 0, 1) * 255).round().astype(np.uint8), polyp


def _wall(rng: Generator, x: Plane, y: Plane, lumen: tuple[float, float]) -> tuple[NDArray[np.floating], Plane]:
    """The mucosa (H, W, 3) and how much light falls on it (H, W)."""
    size = len(x)
    warp: Plane = 0.06 * smooth_noise(rng, size, 4)
    depth = ellipse(x, y, lumen, (1.0, float(rng.uniform(0.8, 1.2))), float(rng.uniform(0, np.pi))) + warp
    rings = np.log(np.maximum(depth, 0.06)) * rng.uniform(9.0, 13.0) + rng.uniform(0, 2 * np.pi)
    phase = np.mod(rings / (2 * np.pi) + 0.08 * smooth_noise(rng, size, 3), 1)  # 0 behind a fold's lip, 1 on the next
    lip = np.exp(-(((1 - phase) / 0.3) ** 2)) - 1.5 * np.exp(-((phase / 0.34) ** 2))
    folds = 0.17 * lip * np.clip(0.55 + 0.5 * smooth_noise(rng, size, 3), 0, 1.2) * np.exp(-0.8 * np.maximum(depth, 0))
    tunnel = 0.08 + 0.92 * (1 - np.exp(-((np.maximum(depth, 0) / 0.36) ** 1.6)))
    light = tunnel * (1.08 - 0.22 * (x * x + y * y)) + folds * tunnel + 0.03 * smooth_noise(rng, size, 5)
    cast = MUCOSA + rng.normal(0, 0.02, 3).astype(np.float32)
    vessels = np.exp(-((smooth_noise(rng, size, 7) / 0.09) ** 2)) * soft_step(depth - 0.5, 0.08)
    texture = 1 + 0.02 * smooth_noise(rng, size, 24)
    frame = light[..., None] * (cast - 0.28 * vessels[..., None] * VESSEL) * texture[..., None]
    return frame.astype(np.float32), light.astype(np.float32)


def _add_polyp(
    rng: Generator,
    x: Plane,
    y: Plane,
    frame: NDArray[np.floating],
    light: Plane,
    lumen: tuple[float, float],
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """The frame with a polyp, and where it is."""
    size = len(x)
    centre = _polyp_place(rng, lumen)
    radius = float(rng.uniform(0.2, 0.34))
    distance = ellipse(x, y, centre, (radius, radius * float(rng.uniform(0.75, 1.0))), float(rng.uniform(0, np.pi)))
    distance = distance * (1 + 0.07 * smooth_noise(rng, size, 5))
    inside = soft_step(1 - distance, 0.025)
    height = np.sqrt(np.maximum(1 - np.minimum(distance, 1) ** 2, 0))
    slope = ((x - centre[0]) * (0 - centre[0]) + (y - centre[1]) * (0 - centre[1])) / radius
    level = float(light[distance < 1].mean())
    shade = level * (0.72 + 0.36 * height + 0.2 * slope * (1 - height))
    pits = 1 + 0.09 * smooth_noise(rng, size, 22)
    tint = MUCOSA * np.array([1.0, 0.68, 0.74], np.float32) if rng.random() < 0.6 else MUCOSA * PALE
    dome = (shade * pits)[..., None] * (tint + rng.normal(0, 0.02, 3).astype(np.float32))
    glint = ellipse(x, y, (centre[0] * 0.75, centre[1] * 0.75), (0.25 * radius, 0.16 * radius))
    dome = dome + 0.5 * np.exp(-(glint**2))[..., None]
    away = soft_step(-slope * radius, 0.12)  # the camera's lamp is in the middle: the shadow falls outwards
    shadow = 1 - (0.12 + 0.4 * away) * np.exp(-((np.maximum(distance - 1, 0) / 0.28) ** 2))
    frame = frame * shadow[..., None] * (1 - inside[..., None]) + dome * inside[..., None]
    return frame.astype(np.float32), (distance < 1) & (x * x + y * y < 0.96)


def _polyp_place(rng: Generator, lumen: tuple[float, float]) -> tuple[float, float]:
    """A point on the wall: within the view and away from the lumen."""
    while True:
        place = rng.uniform(-0.6, 0.6, 2)
        if np.hypot(*place) < 0.62 and np.hypot(place[0] - lumen[0], place[1] - lumen[1]) > 0.45:
            return float(place[0]), float(place[1])


def _highlights(rng: Generator, x: Plane, y: Plane, light: Plane) -> Plane:
    """Small white reflections where the wall is well lit."""
    shine = np.zeros_like(x)
    for _ in range(int(rng.integers(4, 12))):
        centre = rng.uniform(-0.8, 0.8, 2)
        radii = rng.uniform(0.012, 0.045, 2)
        spot = ellipse(x, y, (float(centre[0]), float(centre[1])), (float(radii[0]), float(radii[1])))
        shine = np.maximum(shine, np.exp(-(spot**2)))
    return (0.6 * shine * np.clip(light, 0, 1)).astype(np.float32)
