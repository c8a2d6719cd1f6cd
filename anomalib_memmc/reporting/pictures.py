"""One picture of several reconstructions: input, masked input, reconstruction, anomaly map, ground truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

TITLES = (
    "input",
    "masked input\n(grey = hidden;\none of several masks)",
    "reconstruction\n(predicted where hidden,\ninput elsewhere)",
    "anomaly map\n(bright = anomalous)",
    "ground truth",
)
CONTOUR = "#00e5ff"


@dataclass(frozen=True)
class ReconstructionRow:
    """What is drawn of one image.

    Attributes:
        image: (C, H, W), as the model is given it, normally in [0, 1].
        masked_input: (C, H, W), with the hidden patches grey.
        reconstruction: (C, H, W), predicted where hidden, the input elsewhere.
        anomaly_map: (H, W), or ``None``.
        mask: Ground truth, bool (H, W), ``True`` where anomalous; ``None`` where the image has no annotation.
        anomalous: The image's label, or ``None``.
        score: The image's score, or ``None``.
    """

    image: Tensor
    masked_input: Tensor
    reconstruction: Tensor
    anomaly_map: Tensor | None = None
    mask: Tensor | None = None
    anomalous: bool | None = None
    score: float | None = None


def paste_hidden(images: Tensor, predicted: Tensor, masks: Tensor) -> Tensor:
    """Put the predicted patches into the images where patches were hidden.

    Args:
        images: (B, C, H, W).
        predicted: (B, C', H, W), every patch as predicted; C' may be 1.
        masks: (B, N), bool, ``True`` where a patch is hidden; N square patches in rows from the upper left.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: If N square patches do not tile the images.
    """
    hidden = hidden_pixels(masks[:, None], *images.shape[-2:])[:, 0]
    return torch.where(hidden, predicted.to(images.dtype), images)


def mean_prediction(images: Tensor, predicted: Tensor, masks: Tensor) -> Tensor:
    """What a model makes of whole images: each pixel as predicted on average where it was hidden.

    Args:
        images: (B, C, H, W); a pixel that no mask hides is taken from here.
        predicted: (B, M, C', H, W), every patch as predicted under each of M masks; C' may be 1.
        masks: (B, M, N), bool, ``True`` where a patch is hidden; N square patches in rows from the upper left.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: If N square patches do not tile the images.
    """
    hidden = hidden_pixels(masks, *images.shape[-2:]).to(predicted.dtype)
    times = hidden.sum(dim=1)
    mean = (predicted * hidden).sum(dim=1) / times.clamp(min=1)
    return torch.where(times > 0, mean.to(images.dtype), images)


def reconstruction_of(model: Any, image: Tensor) -> Tensor:
    """What a masked autoencoder makes of an image under all its masks.

    Args:
        model: Its ``reconstruct(images)`` returns ``pixels`` (B, M, C, H, W) and ``masks`` (B, M, N).
        image: (C, H, W), as the model takes it.

    Returns:
        (C, H, W), as :func:`mean_prediction` gives it.
    """
    result = model.reconstruct(image[None])
    return mean_prediction(image[None], result.pixels, result.masks)[0]


def hidden_pixels(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks of patches as masks of pixels.

    Args:
        masks: (B, M, N), bool; N square patches in rows from the upper left.
        height: Height of the images in pixels.
        width: Their width.

    Returns:
        (B, M, 1, H, W), bool.

    Raises:
        ValueError: If N square patches do not tile the images.
    """
    count = masks.shape[-1]
    side = round((height * width / count) ** 0.5)
    if side < 1 or height % side or width % side or (height // side) * (width // side) != count:
        msg = f"{count} square patches do not tile an image of {height} x {width} pixels."
        raise ValueError(msg)
    grid = masks.view(*masks.shape[:2], 1, height // side, width // side)
    return grid.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)


def draw_reconstructions(rows: list[ReconstructionRow], title: str = "", threshold: float | None = None) -> Figure:
    """Draw one row an image, with one colour scale for all anomaly maps.

    Args:
        rows: What to draw, at least one.
        title: Line above the picture.
        threshold: Value of the maps from which a pixel counts as anomalous, marked on the colour bar.

    Returns:
        A figure with an Agg canvas, independent of pyplot.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        msg = "There is nothing to draw."
        raise ValueError(msg)
    height, width = rows[0].image.shape[-2:]
    cell_width, cell_height, label, bar, gap = 2.2, 2.2 * height / width, 1.1, 0.6, 0.08
    head = 1.0
    total_width = label + 5 * (cell_width + gap) + bar
    total_height = head + len(rows) * (cell_height + gap) + 0.1
    figure = Figure(figsize=(total_width, total_height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    low, high = _map_range(rows)

    def cell(row: int, column: int) -> Axes:
        left = label + column * (cell_width + gap) + (bar if column > 3 else 0)
        bottom = total_height - head - (row + 1) * (cell_height + gap) + gap
        axes = figure.add_axes(
            (left / total_width, bottom / total_height, cell_width / total_width, cell_height / total_height)
        )
        axes.set_xticks([])
        axes.set_yticks([])
        return axes

    shown, marked = None, False
    for index, row in enumerate(rows):
        axes = [cell(index, column) for column in range(5)]
        if index == 0:
            for title_axes, text in zip(axes, TITLES, strict=True):
                title_axes.set_title(text, fontsize=10, linespacing=1.05, pad=5)
        axes[0].set_ylabel(_row_label(row), fontsize=10, rotation=0, ha="right", va="center", labelpad=8)
        for image_axes, image in zip(axes, (row.image, row.masked_input, row.reconstruction), strict=False):
            image_axes.imshow(_pixels(image, row.image), interpolation="nearest")
        if row.anomaly_map is None:
            _black(axes[3], "no anomaly map", row.image)
        else:
            shown = axes[3].imshow(row.anomaly_map.numpy(), cmap="inferno", vmin=low, vmax=high)
            _outline(axes[3], row.mask)
        _ground_truth(axes[4], row)
    if shown is not None:
        top = (total_height - head) / total_height
        left = (label + 4 * (cell_width + gap)) / total_width
        bottom = 0.1 / total_height
        bar_axes = figure.add_axes(
            (left, bottom + gap / total_height, 0.14 / total_width, top - bottom - gap / total_height)
        )
        colour_bar = figure.colorbar(shown, cax=bar_axes)
        bar_axes.tick_params(labelsize=8)
        if threshold is not None and low < threshold < high:
            marked = True
            colour_bar.ax.axhline(threshold, color=CONTOUR, linewidth=1.5)
    figure.text(0.01, 1 - 0.1 / total_height, title, fontsize=11, weight="bold", va="top")
    figure.text(0.99, 1 - 0.1 / total_height, _legend(rows, marked), fontsize=9, color="0.35", ha="right", va="top")
    return figure


def _map_range(rows: list[ReconstructionRow]) -> tuple[float, float]:
    """Ends of the common colour scale: nearly the extremes of all maps."""
    maps = [row.anomaly_map.flatten().numpy() for row in rows if row.anomaly_map is not None]
    if not maps:
        return 0.0, 1.0
    low, high = np.nanquantile(np.concatenate(maps), (0.005, 0.998))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _pixels(image: Tensor, reference: Tensor) -> np.ndarray:
    """(C, H, W) to (H, W, 3) in [0, 1]; by the input's range where that is not [0, 1]."""
    low, high = float(reference.min()), float(reference.max())
    if low >= -1e-3 and high <= 1 + 1e-3:
        low, high = 0.0, 1.0
    image = ((image - low) / max(high - low, 1e-6)).clamp(0, 1)
    if image.shape[0] != 3:
        image = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    return image.permute(1, 2, 0).numpy()


def _legend(rows: list[ReconstructionRow], marked: bool) -> str:
    """What the cyan lines are, as far as there are any."""
    outlined = any(row.mask is not None and bool(row.mask.any()) for row in rows)
    parts = ["outline: ground truth"] if outlined else []
    parts += ["line on the colour bar: threshold"] if marked else []
    return f"cyan {'; '.join(parts)}" if parts else ""


def _row_label(row: ReconstructionRow) -> str:
    """Kind, and the score as the table of predictions has it: normalised, where thresholds were learnt."""
    kind = {True: "anomalous", False: "normal", None: "no label"}[row.anomalous]
    return kind if row.score is None else f"{kind}\npred_score\n{row.score:.3f}"


def _black(axes: Axes, text: str, image: Tensor) -> None:
    """A black field with a word in it."""
    axes.imshow(np.zeros((*image.shape[-2:], 3)))
    axes.text(0.5, 0.5, text, color="white", fontsize=9, ha="center", va="center", transform=axes.transAxes)


def _outline(axes: Axes, mask: Tensor | None) -> None:
    """Ground truth as a contour."""
    if mask is not None and bool(mask.any()):
        padded = np.pad(mask.numpy().astype(float), 1)
        rows, columns = padded.shape
        axes.contour(np.arange(columns) - 1, np.arange(rows) - 1, padded, levels=[0.5], colors=CONTOUR, linewidths=1.2)
        axes.set_xlim(-0.5, columns - 2.5)
        axes.set_ylim(rows - 2.5, -0.5)


def _ground_truth(axes: Axes, row: ReconstructionRow) -> None:
    """The annotated region in white on black, or what is known instead."""
    if row.mask is None:
        _black(axes, "no annotation", row.image)
    elif not bool(row.mask.any()):
        _black(axes, "nothing marked", row.image)
    else:
        axes.imshow(row.mask.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        _outline(axes, row.mask)
