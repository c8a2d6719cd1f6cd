"""The case picture: one image, what a model makes of it, and the verdict in words. Not in the paper."""

from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anomalib_memmc.data.io import read_image
from anomalib_memmc.data.io.text import printable
from anomalib_memmc.detection.result import WORDS, Result, digits_of
from anomalib_memmc.reporting.sheet import BAR, MOST_PIXELS, Line, Panel, draw_sheet

COLOURS = "inferno"
"""Brightness rises with the value, so that a map keeps its order in grey print and for the colour-blind."""
_LONGEST_NAME = 60
_TOLERANCE = 1e-3
_PANEL = (0, 1, 1, 0)  # left, right, bottom, top
_ON_BLACK = [Stroke(linewidth=3, foreground="black"), Normal()]


def case_figure(image: str | Path | Tensor, result: Result) -> Figure:
    """Draw an image, the model's reconstruction and map, and the verdict in words above them.

    The image is drawn at its own resolution (up to 1,020 pixels on its longer side) and with nothing on it. Where it is
    called anomalous, a second panel outlines what the map marks; one that is called normal has no outline. The colours
    of maps in (0, 1) mean the same in all pictures, and the bar names the map's threshold. The ground truth, where
    known, is a line below, and a panel of its own where a region is annotated.

    Args:
        image: The file, or the image (C, H, W) in [0, 1] with one or three channels.
        result: What a model says of it, such as ``Detector.judge`` returns. What it lacks is left out.

    Returns:
        A figure with an Agg canvas, independent of pyplot: ``savefig`` writes it.

    Raises:
        ImageReadError: If the file cannot be read.
        ValueError: If the tensor is no such image.

    Examples:
        >>> from anomalib_memmc import Detector
        >>> from anomalib_memmc.reporting import case_figure
        >>> result = Detector("model.ckpt").judge("image.png")  # doctest: +SKIP
        >>> case_figure("image.png", result).savefig("case.png")  # doctest: +SKIP
    """
    whole = _checked(image if isinstance(image, Tensor) else read_image(image))
    height, width = whole.shape[-2:]
    name = "" if isinstance(image, Tensor) and not result.path else f"{_name(result.path or image)}, "
    head = [Line(result.verdict, size=12, weight="bold"), Line(f"{name}{width} x {height} pixels", colour="0.35")]
    foot = [Line(f"Ground truth: {_truth(result)}", style="italic")] if result.gt_label is not None else []
    return draw_sheet(_panels(whole, result), (height, width), head, foot)


def _panels(whole: Tensor, result: Result) -> list[Panel]:
    """What there is to show of an image (C, H, W), the image first and the ground truth last."""
    threshold, pixels = result.map_threshold, _drawn(whole)
    size = pixels.shape[:2]
    panels = [Panel("image", lambda axes: _show(axes, pixels))]
    heat = None if result.anomaly_map is None else _at_least(result.anomaly_map, size)
    if heat is not None and threshold is not None and result.label == 1:
        is_marked = bool((heat > threshold).any())
        title = "outlined: map above\nits threshold" if is_marked else "nothing in the map is\nabove its threshold"
        panels.append(Panel(title, lambda axes: _outlined(axes, pixels, heat, threshold, "solid")))
    if result.reconstruction is not None:
        rebuilt = _drawn(_checked(result.reconstruction.clamp(0, 1)))
        title = f"reconstruction\n({rebuilt.shape[1]} x {rebuilt.shape[0]} pixels)"
        panels.append(Panel(title, lambda axes: _show(axes, rebuilt)))
    if heat is not None:
        title = "anomaly map\n(bright = unusual)"
        panels.append(Panel(title, lambda axes: _map(axes, heat, threshold), BAR))
    if result.gt_mask is not None and bool(result.gt_mask.any()):
        truth = _plane(result.gt_mask).numpy()
        title = "ground truth:\nannotated region"
        panels.append(Panel(title, lambda axes: _outlined(axes, pixels, truth, 0.5, "dashed")))
    return panels


def _name(path: str | Path | Tensor) -> str:
    """A file's name, without its middle where that is long."""
    name = printable(Path(str(path)).name)
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}...{name[-half:]}"


def _truth(result: Result) -> str:
    """The ground truth in words, and what is annotated."""
    truth = WORDS[int(result.gt_label or 0)]
    if result.gt_label and result.gt_mask is None:
        return f"{truth} (no region is annotated)"
    return truth


def _checked(image: Tensor) -> Tensor:
    """An image (C, H, W) in [0, 1].

    Raises:
        ValueError: If it is none.
    """
    image = image.detach().as_subclass(Tensor).float().cpu()
    is_image = image.ndim == 3 and image.shape[0] in {1, 3} and image.numel() > 0 and bool(image.isfinite().all())
    if not is_image or float(image.min()) < -_TOLERANCE or float(image.max()) > 1 + _TOLERANCE:
        msg = f"An image is finite, (C, H, W) with 1 or 3 channels, in [0, 1]; got shape {tuple(image.shape)}."
        raise ValueError(msg)
    return image.clamp(0, 1)


def _drawn(image: Tensor) -> NDArray[np.float32]:
    """An image (C, H, W) as (h, w, 3), with no more pixels than are drawn."""
    excess = max(image.shape[-2:]) / MOST_PIXELS
    if excess > 1:
        size = [max(1, round(side / excess)) for side in image.shape[-2:]]
        image = functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    return image.expand(3, -1, -1).permute(1, 2, 0).numpy()


def _at_least(values: Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    """A map (H, W), in each direction enlarged to a size if it is smaller."""
    plane = _plane(values)
    larger = [max(pair) for pair in zip(plane.shape, size, strict=True)]
    return functional.interpolate(plane[None, None], larger, mode="bilinear", align_corners=False)[0, 0].numpy()


def _plane(values: Tensor) -> Tensor:
    """A map or a mask (H, W) or (1, H, W) as (H, W), float, on the CPU."""
    return values.detach().as_subclass(Tensor).float().cpu().reshape(values.shape[-2:])


def _show(axes: Axes, pixels: NDArray[np.float32]) -> None:
    """An image that fills its panel, whatever its pixels are."""
    axes.imshow(pixels, extent=_PANEL, aspect="auto")


def _outlined(axes: Axes, pixels: NDArray[np.float32], values: NDArray[np.float32], level: float, style: str) -> None:
    """An image with a line around what lies above a level; black and white, so that it shows on any ground."""
    _show(axes, pixels)
    if not (values > level).any():
        return
    closed = np.pad(values, 1, constant_values=min(float(values.min()), level - 1e-6))  # also at the image's border
    down, across = ((np.arange(-1, count + 1) + 0.5) / count for count in values.shape)
    lines = axes.contour(across, down, closed, levels=[level], colors="white", linewidths=1.3, linestyles=style)
    lines.set_path_effects(_ON_BLACK)
    axes.set_xlim(*_PANEL[:2])
    axes.set_ylim(*_PANEL[2:])


def _map(axes: Axes, heat: NDArray[np.float32], threshold: float | None) -> None:
    """The map and its colour bar."""
    low, high = _ends(heat, threshold)
    shown = axes.imshow(heat, cmap=COLOURS, vmin=low, vmax=high, extent=_PANEL, aspect="auto")
    box, figure = axes.get_position(), cast(Figure, axes.get_figure())
    inch = 1 / figure.get_figwidth()
    bar = figure.add_axes((box.x1 + 0.06 * inch, box.y0, 0.12 * inch, box.height))
    colour_bar = figure.colorbar(shown, cax=bar)
    ticks = {low: digits_of(low), high: digits_of(high)}
    if threshold is not None:
        ticks[threshold] = f"{digits_of(threshold)}\nthreshold"
        bar.axhline(threshold, color="white", linewidth=1.3).set_path_effects(_ON_BLACK)
    colour_bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=8)


def _ends(heat: NDArray[np.float32], threshold: float | None) -> tuple[float, float]:
    """Ends of the colour scale: 0 and 1 for a normalised map, else the extremes."""
    low, high = float(np.nanmin(heat)), float(np.nanmax(heat))
    if threshold is not None:
        if low >= 0 and high <= 1 and 0 < threshold < 1:
            return 0.0, 1.0
        low, high = min(low, threshold), max(high, threshold)
    return (low, high) if high > low else (low - 0.5, low + 0.5)
