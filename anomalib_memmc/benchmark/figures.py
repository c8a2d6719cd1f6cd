"""The ``figures`` command: pictures of finished benchmarks, from their results, predictions and checkpoints."""

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import mean

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from anomalib_memmc.benchmark.colours import palette
from anomalib_memmc.benchmark.gallery import draw_gallery
from anomalib_memmc.benchmark.predictions import Predictions
from anomalib_memmc.benchmark.results import RESULTS_FILE, Row, finished, job_name
from anomalib_memmc.benchmark.tables import mean_spread

METRICS_A_LINE, HISTOGRAMS_A_LINE = 8, 5
_TICKS = 4


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc figures``.

    Args:
        argv: The arguments after ``figures``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If a folder holds no ``results.csv``, or a finished job no predictions.
        ValueError: If no job of a benchmark has finished.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc figures",
        description="Draw ROC curves, score histograms and metrics with their spread for finished benchmarks.",
    )
    parser.add_argument("results", nargs="+", type=Path, help="output folders of benchmarks")
    parser.add_argument("--output", type=Path, default=Path("docs/figures"), help="folder for the PNG files")
    parser.add_argument("--gallery", metavar="MODEL", help="also draw this model's best and worst cases (needs data)")
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    colours = palette(model for folder in arguments.results for model in finished(folder))
    for folder in arguments.results:
        for path in draw(folder, arguments.output, arguments.gallery, colours):
            print(path)
    return 0


def draw(
    folder: Path, output: Path, gallery: str | None = None, colours: Mapping[str, str] | None = None
) -> list[Path]:
    """Draw the pictures of one benchmark.

    Args:
        folder: The benchmark's output folder.
        output: Folder for ``<benchmark>-roc.png``, ``-scores.png``, ``-metrics.png`` and ``-gallery.png``.
        gallery: Model whose first finished seed gives the gallery, or ``None`` for no gallery.
        colours: Model -> colour; ``None`` takes those of :func:`~anomalib_memmc.benchmark.colours.palette`.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: If the folder holds no ``results.csv``, or a finished job no predictions.
        ValueError: If no job has finished, or none of the gallery's model.
    """
    rows = finished(folder)
    tables = Predictions(folder)
    predictions = {model: [tables.of(job_name(row)) for row in own] for model, own in rows.items()}
    name = folder.resolve().name
    colours = palette(rows) if colours is None else colours
    figures = {
        "roc": roc_figure(predictions, name, colours),
        "scores": histogram_figure(predictions, name, thresholds(rows)),
        "metrics": metrics_figure(rows, name, colours),
    }
    if gallery:
        if gallery not in rows:
            msg = f"{folder / RESULTS_FILE}: no finished job of {gallery!r}; there are {', '.join(rows)}."
            raise ValueError(msg)
        job = job_name(rows[gallery][0])
        figures["gallery"] = draw_gallery(folder / job, tables.of(job), f"{name}, {gallery}")
    paths = []
    for kind, figure in figures.items():
        paths.append(output / f"{name}-{kind}.png")
        save(figure, paths[-1])
    return paths


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file of at most 256 colours, a third of the size of one of all colours."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    with Image.open(buffer) as image:
        palette = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)


def roc_figure(predictions: dict[str, list[pd.DataFrame]], title: str, colours: Mapping[str, str]) -> Figure:
    """Draw the ROC curves of all models in one picture: a thin line for each seed, the mean AUROC in the legend."""
    figure = _figure(5.2, 5.0)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
    for model, tables in predictions.items():
        aurocs = [roc_auc_score(table["label"], table["score"]) for table in tables]
        for index, table in enumerate(tables):
            false_positive, true_positive, _ = roc_curve(table["label"], table["score"])
            label = f"{model}  {mean_spread(aurocs, 3)}" if index == 0 else None
            axes.plot(false_positive, true_positive, color=colours[model], linewidth=1.3, alpha=0.9, label=label)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title=f"{title}: ROC, all test images")
    axes.set_aspect("equal")
    axes.legend(title="image AUROC, mean ± spread of seeds", fontsize=8, title_fontsize=8, loc="lower right")
    return figure


def thresholds(rows: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """The learnt threshold of each model's first seed, where its row has one."""
    return {model: float(own[0]["threshold"]) for model, own in rows.items() if own[0].get("threshold")}


def histogram_figure(predictions: dict[str, list[pd.DataFrame]], title: str, thresholds: Mapping[str, float]) -> Figure:
    """Draw each model's image scores, normal against anomalous, first seed, and the threshold as far as it is known."""
    columns = min(len(predictions), HISTOGRAMS_A_LINE)
    lines = math.ceil(len(predictions) / columns)
    figure = _figure(2.6 * max(columns, 2), 2.4 * lines + 0.5)
    for index, (model, tables) in enumerate(predictions.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        table, threshold = tables[0], thresholds.get(model)
        low, high = table["score"].quantile([0, 0.99])
        if threshold is not None:
            low, high = min(low, threshold), max(high, threshold)
            axes.axvline(threshold, color="k", linestyle="--", linewidth=1.2, label="threshold", zorder=3)
        bins = [low + (high - low) * step / 30 for step in range(31)]
        for label, colour, name in ((0, "#4292c6", "normal"), (1, "#d94801", "anomalous")):
            scores = table.loc[table["label"] == label, "score"].clip(upper=high)
            axes.hist(scores, bins=bins, color=colour, alpha=0.6, weights=[1 / len(scores)] * len(scores), label=name)
        axes.set(title=model, xlabel="score", yticks=[])
        axes.xaxis.set_major_locator(MaxNLocator(_TICKS))
        axes.tick_params(labelsize=7)
        if index % columns == 0:
            axes.set_ylabel("share of images")
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle(f"{title}: image scores, first seed (highest 1 % at the right edge)", fontsize=10)
    figure.tight_layout(rect=(0, 0.1 / lines, 1, 1))
    return figure


def metrics_figure(rows: dict[str, list[Row]], title: str, colours: Mapping[str, str]) -> Figure:
    """Draw every image and pixel metric and every matched AUROC as bars, one a model, with the seeds as dots."""
    names = [name for name in next(iter(rows.values()))[0] if re.match("image_|pixel_|.*_matched_AUROC$", name)]
    names = [name for name in names if all(row.get(name) for own in rows.values() for row in own)]
    if not names:
        msg = f"{title}: the finished jobs have no metric in common."
        raise ValueError(msg)
    lines = math.ceil(len(names) / METRICS_A_LINE)
    columns = math.ceil(len(names) / lines)
    figure = _figure(1.9 * columns + 1.2, 2.6 * lines + 0.4)
    for index, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, index + 1)
        for position, (model, own) in enumerate(rows.items()):
            values = [float(row[name]) for row in own]
            axes.bar(position, mean(values), color=colours[model], label=model)
            axes.plot([position] * len(values), values, "k_", markersize=7)
        axes.set_title(name.replace("_matched", "\nmatched").replace("_", " "), fontsize=11)
        axes.set(xticks=[], ylim=(0, 1))
        axes.tick_params(labelsize=7)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.suptitle(f"{title}: mean over the seeds, each seed a line", fontsize=10)
    figure.tight_layout(rect=(0, 0.08 / lines, 1, 1))
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    return figure
