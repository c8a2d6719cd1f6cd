"""What longer training does: the checkpoints of trainings by the number of their steps, as a table and a figure.

    python -m experiments.retest results/study/long-nih-cxr --steps --output docs/runs/curve-nih-cxr
    python -m experiments.curve docs/runs/curve-nih-cxr --alike file_bytes --stratum positive/nih

The argument is a folder of rows and predictions of models named ``MODEL@STEP``. Halves, matching and errors are those
of ``experiments.evidence``. ``--figure FILE.png`` draws AUROC on half B, among images alike, and IoU against steps,
with bands of one standard error.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from anomalib_memmc.benchmark.compare import of_stratum
from anomalib_memmc.benchmark.predictions import Predictions, stack_scores
from anomalib_memmc.benchmark.results import finished, job_name
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.metrics import matched_auroc
from anomalib_memmc.reporting.baselines import NAMES
from experiments.halves import first_half

COLUMNS = ["model", "steps", "half A", "half B", "alike", "IoU", "half A error", "half B error", "alike error", "pairs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--alike", required=True, choices=sorted(NAMES), help="property of the picture to match by")
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    try:
        table = curve(arguments.folder, arguments.alike, arguments.stratum)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(as_text(table, arguments.alike))
    if arguments.figure:
        draw(table, arguments.alike).savefig(arguments.figure, dpi=110)


def curve(folder: Path, alike: str, stratum: str | None = None) -> pd.DataFrame:
    """A row for each model and step, mean over its seeds: AUROC of both halves, among images alike in both, and IoU."""
    predictions, rows = Predictions(folder), []
    for name, own in finished(folder).items():
        model, _, step = name.partition("@")
        images, scores = stack_scores([of_stratum(predictions.of(job_name(row)), stratum) for row in own])
        labels = images["label"].to_numpy()
        half = first_half(labels, images.rename(columns={"path": "image_path"}))
        parts = (half, ~half)
        found = [matched_auroc(scores[..., part], labels[part], None) for part in parts]
        found.append(matched_auroc(scores, labels, images[alike]))
        iou = [float(row["pixel_IoU"]) for row in own if row.get("pixel_IoU")]
        values = [*(each.value for each in found), np.mean(iou) if iou else np.nan]
        rows.append([model, int(step), *values, *(each.standard_error for each in found), found[-1].pairs])
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["model", "steps"])


def as_text(table: pd.DataFrame, alike: str) -> str:
    """The table in Markdown."""
    (pairs,) = set(table["pairs"])
    lines = [["model", "steps", "half A", "half B", f"all, alike in {NAMES[alike]} ({pairs} pairs)", "IoU"]]
    lines.append(["---", *["---:"] * 5])
    for row in table.to_dict("records"):
        numbers = [f"{row[name]:.3f} ± {row[f'{name} error']:.3f}" for name in ("half A", "half B", "alike")]
        lines.append(
            [row["model"], f"{row['steps']:,}", *numbers, "-" if np.isnan(row["IoU"]) else f"{row['IoU']:.3f}"]
        )
    return markdown(lines)


def draw(table: pd.DataFrame, alike: str) -> Figure:
    """A panel a measure, a line a model."""
    panels = {"half B": "AUROC, half B", "alike": f"AUROC, alike in {NAMES[alike]}", "IoU": "IoU"}
    shown = {name: title for name, title in panels.items() if table[name].notna().any()}
    figure = Figure(figsize=(4.2 * len(shown), 3.4), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        for (model, own), style in zip(table.groupby("model"), ("-o", "--s", ":^", "-.d"), strict=False):
            (line,) = axes.plot(own["steps"], own[name], style, label=model, markersize=4)
            if f"{name} error" in own:
                low, high = (own[name] + sign * own[f"{name} error"] for sign in (-1, 1))
                axes.fill_between(own["steps"], low, high, color=line.get_color(), alpha=0.12, linewidth=0)
        axes.set(xlabel="steps of the optimizer", ylabel=title)
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
