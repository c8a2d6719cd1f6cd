"""Figures of finished benchmarks: a model's colour and place, thresholds, ticks."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from anomalib_memmc.benchmark.colours import KNOWN, palette
from anomalib_memmc.benchmark.config import Job
from anomalib_memmc.benchmark.figures import histogram_figure, metrics_figure, roc_figure, thresholds
from anomalib_memmc.benchmark.results import Results

MODELS = ["PaDiM-128", "mine", "MemMC-MAE", "other"]


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = [0] * 20 + [1] * 20
    return {model: [pd.DataFrame({"label": labels, "score": 40 + 3 * rng.random(40)})] for model in MODELS}


def bars(figure):
    axes = figure.axes[0]
    return {text: to_hex(bar[0].get_facecolor()) for bar, text in zip(*axes.get_legend_handles_labels(), strict=True)}


def test_a_model_has_its_colour_whichever_others_there_are():
    colours = palette(MODELS)
    assert list(colours) == sorted(MODELS, key=lambda name: name not in KNOWN)
    assert palette(["MemMC-MAE"])["MemMC-MAE"] == colours["MemMC-MAE"] == KNOWN["MemMC-MAE"]
    assert len(set(palette([*KNOWN, *"abcdef"]).values())) == 12


def test_figures_agree_in_colours_and_order(predictions):
    colours = palette(MODELS)
    rows = {model: [{"image_AUROC": "0.5"}] for model in MODELS}
    lines = roc_figure(predictions, "x", colours).axes[0].get_lines()[1:]
    drawn = bars(metrics_figure(rows, "x", colours))
    assert list(drawn) == MODELS
    assert [to_hex(line.get_color()) for line in lines] == list(drawn.values()) == [colours[name] for name in MODELS]


def test_histograms_show_the_threshold_where_it_is_known(predictions):
    rows = {model: [{}] for model in MODELS} | {"mine": [{"threshold": "47.5"}, {"threshold": "1"}]}
    figure = histogram_figure(predictions, "x", thresholds(rows))
    dashed = [[line.get_xdata()[0] for line in axes.get_lines()] for axes in figure.axes]
    assert dashed == [[], [47.5], [], []]
    assert figure.axes[1].get_xlim()[1] > 47.5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["normal", "anomalous", "threshold"]


def test_ticks_of_histograms_do_not_collide(predictions):
    figure = histogram_figure({str(index): predictions["mine"] for index in range(7)}, "x", {})
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert len({round(axes.get_position().y0, 2) for axes in figure.axes}) == 2  # two lines


def test_rows_keep_the_order_of_the_jobs(tmp_path):
    results = Results(tmp_path / "results.csv")
    for model, seed in (("B", 0), ("A", 1), ("old", 0), ("A", 0)):
        results.put({"model": model, "seed": str(seed), "status": "ok"})
    results.put({"model": "A", "seed": "1", "status": "failed"})
    assert [(row["model"], row["status"]) for row in results.rows][1] == ("A", "failed")
    results.arrange([Job(model, seed, {}, tmp_path) for model in "AB" for seed in (0, 1)])
    rows = Results(tmp_path / "results.csv").rows
    assert [row["model"] + row["seed"] for row in rows] == ["A0", "A1", "B0", "old0"]
