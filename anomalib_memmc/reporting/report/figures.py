"""The drawings of a report, as SVG: ROC, precision-recall, histogram of the scores, false alarms at several rates."""

import base64
from collections.abc import Sequence
from io import StringIO
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from anomalib_memmc.metrics.conformal import Kept
from anomalib_memmc.metrics.intervals import Discrimination
from anomalib_memmc.metrics.operating_points import OperatingPoint

NORMAL, ANOMALOUS, CHANCE = "#0072b2", "#d55e00", "#767676"
LINES = (
    ("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"), ("#000000", (0, (6, 1, 1, 1, 1, 1))),
)  # fmt: skip
"""Colours (Okabe and Ito's, told apart by the colour-blind) and strokes of compared runs."""
SIZE = (4.6, 3.9)
BINS = 30
_STYLE: Any = {"svg.fonttype": "path", "svg.hashsalt": "anomalib-memmc", "font.size": 9.5}


def roc(curves: Discrimination, points: dict[str, OperatingPoint]) -> str:
    """The ROC curve with its band, and operating points by name."""
    figure, axes = _axes("false-alarm rate (1 - specificity)", "sensitivity")
    band = curves.roc
    axes.plot([0, 1], [0, 1], color=CHANCE, linewidth=1, linestyle=":", label="chance")
    axes.fill_between(band.x, band.low, band.high, step="post", color=NORMAL, alpha=0.2, linewidth=0, label="95 % band")
    label = f"scores, AUROC {curves.auroc.value:.3f}"
    axes.step(band.x, band.y, where="post", color=NORMAL, linewidth=1.8, label=label)
    for (name, point), marker in zip(points.items(), "D^sov", strict=False):
        place = (point.alarms / max(point.normal, 1), point.found / max(point.anomalous, 1))
        axes.plot(*place, marker, color=ANOMALOUS, markeredgecolor="white", markersize=8, label=name)
    _unit_square(axes, "lower right")
    return svg(figure)


def precision_recall(curves: Discrimination, share: float) -> str:
    """The precision-recall curve with its band.

    Args:
        curves: The curves.
        share: Share of anomalous images, which is the precision of chance.
    """
    figure, axes = _axes("sensitivity (recall)", "share of alarms that are right (precision)")
    band = curves.precision_recall
    axes.axhline(share, color=CHANCE, linewidth=1, linestyle=":", label=f"chance, {share:.2f}")
    axes.fill_between(band.x, band.low, band.high, color=NORMAL, alpha=0.2, linewidth=0, label="95 % band")
    label = f"scores, average precision {curves.average_precision.value:.3f}"
    axes.plot(band.x, band.y, color=NORMAL, linewidth=1.8, label=label)
    _unit_square(axes, "lower left")
    return svg(figure)


def histogram(normal: NDArray[np.float64], anomalous: NDArray[np.float64], threshold: float | None) -> str:
    """Scores of normal and of anomalous images (n,), with the threshold; the highest 1 % are at the right edge."""
    figure, axes = _axes("score (higher = more unusual)", "images", size=(5.6, 3.2))
    every = np.concatenate([normal, anomalous])
    low, high = float(every.min()), float(np.quantile(every, 0.99))
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or 0.5
    bins = np.linspace(low - margin, high + margin, BINS + 1).tolist()
    kind: Any = {"bins": bins, "histtype": "stepfilled", "linewidth": 1.4}
    if len(normal):
        face = (*to_rgb(NORMAL), 0.35)
        axes.hist(normal.clip(max=high), label=f"normal ({len(normal)})", facecolor=face, edgecolor=NORMAL, **kind)
    if len(anomalous):
        kind |= {"hatch": "////", "facecolor": "none", "edgecolor": ANOMALOUS}  # seen over the other one, and in grey
        axes.hist(anomalous.clip(max=high), label=f"anomalous ({len(anomalous)})", **kind)
    if threshold is not None:
        axes.axvline(threshold, color="black", linewidth=1.6, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)  # above the bars
    return svg(figure)


def false_alarms(rates: Sequence[Kept], normals: int) -> str:
    """False alarms measured at several rates, beside what was to be expected of so many normal images."""
    figure, axes = _axes("promised false-alarm rate", "measured on the normal test images")
    shown = [rate for rate in rates if rate.promised]
    promised = [rate.promised for rate in shown]
    top = max([*promised, *(rate.high / normals for rate in shown), *(rate.alarms / normals for rate in shown)])
    axes.plot([0, top], [0, top], color=CHANCE, linewidth=1, linestyle=":", label="promise kept exactly")
    low, high = ([getattr(rate, end) / normals for rate in shown] for end in ("low", "high"))
    axes.vlines(promised, low, high, color=NORMAL, alpha=0.35, linewidth=7, label="95 % of tests, if alike")
    measured = [rate.alarms / normals for rate in shown]
    axes.plot(promised, measured, "D", color=ANOMALOUS, markeredgecolor="white", markersize=7, label="measured")
    axes.set(xlim=(0, 1.05 * max(promised)), ylim=(-0.02 * top, 1.05 * top))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    return svg(figure)


def roc_overlay(curves: dict[str, Discrimination]) -> str:
    """The ROC curves of several runs, by name."""
    figure, axes = _axes("false-alarm rate (1 - specificity)", "sensitivity", size=(4.8, 4.2))
    axes.plot([0, 1], [0, 1], color=CHANCE, linewidth=1, linestyle=":")
    for index, (name, found) in enumerate(curves.items()):
        colour, stroke = LINES[index % len(LINES)]
        label = f"{name}: {found.auroc.value:.3f} ({found.auroc.low:.3f} to {found.auroc.high:.3f})"
        axes.step(found.roc.x, found.roc.y, where="post", color=colour, linestyle=stroke, linewidth=1.7, label=label)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "title": "AUROC (95 % interval)"}
    axes.legend(frameon=False, fontsize=9, title_fontsize=9, **below)
    return svg(figure)


def svg(figure: Figure) -> str:
    """A figure as the address of an SVG picture that is part of the page."""
    FigureCanvasSVG(figure)
    text = StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    return f"data:image/svg+xml;base64,{base64.b64encode(text.getvalue().encode()).decode()}"


def _axes(x_label: str, y_label: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, facecolor="white")
        axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _unit_square(axes: Axes, place: Literal["lower left", "lower right"]) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(fontsize=8.5, frameon=False, loc=place)
