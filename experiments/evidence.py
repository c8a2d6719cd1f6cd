"""The table that docs/results.md shows of a benchmark: chosen on half A, reported on half B, best model first.

    python -m experiments.evidence docs/runs/nih-cxr --alike file_bytes --stratum positive/nih

Baselines that were run at two image sizes (``PaDiM-128``, ``PaDiM-256``) are shown at the size that is better on half
A. The AUROC among images alike in a property of the picture is given for half B and, as half B may have few pairs, for
all test images. Errors are a bootstrap's over the images, of the mean over the seeds. IoU and false alarms are of the
whole test part, at the thresholds learnt from normal images.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomalib_memmc.benchmark.compare import of_stratum
from anomalib_memmc.benchmark.predictions import Predictions, stack_scores
from anomalib_memmc.benchmark.results import Row, finished, job_name
from anomalib_memmc.benchmark.tables import markdown, mean_spread
from anomalib_memmc.metrics import matched_auroc
from anomalib_memmc.reporting.baselines import NAMES
from anomalib_memmc.reporting.summary import estimate
from experiments.halves import first_half
from experiments.study import auroc

Scores = dict[str, NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--alike", required=True, choices=sorted(NAMES), help="property of the picture to match by")
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    arguments = parser.parse_args()
    try:
        print(evidence(arguments.folder, arguments.alike, arguments.stratum))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


def evidence(folder: Path, alike: str, stratum: str | None = None) -> str:
    """The table, and below it which sizes were not chosen."""
    rows, predictions = finished(folder), Predictions(folder)
    tables = {model: [of_stratum(predictions.of(job_name(row)), stratum) for row in own] for model, own in rows.items()}
    images, stacked = stack_scores([table for own in tables.values() for table in own])
    ends = np.cumsum([len(own) for own in tables.values()])[:-1]
    scores: Scores = dict(zip(tables, np.split(stacked, ends), strict=True))
    labels = images["label"].to_numpy()
    half = first_half(labels, images.rename(columns={"path": "image_path"}))
    on_a, on_b = ({m: auroc(labels, s, part) for m, s in scores.items()} for part in (half, ~half))
    chosen = better_sizes(on_a)
    matched = f"alike in {NAMES[alike]}"
    lines = [["model", "seeds", "half A", "half B", f"half B, {matched}", f"all, {matched}", "IoU", "false alarms"]]
    lines.append(["---", *["---:"] * 7])
    for model in sorted(chosen, key=lambda name: -on_b[name]):
        cells = [_matched(scores[model], images, alike, part) for part in (~half, half | ~half)]
        lines.append([model, str(len(rows[model])), f"{on_a[model]:.3f}", f"{on_b[model]:.3f}", *cells])
        lines[-1] += [_mean(rows[model], name) for name in ("pixel_IoU", "false_alarm_rate")]
    left = [f"{model} {on_a[model]:.3f} on half A" for model in scores if model not in chosen]
    note = f"\n\nNot chosen: {', '.join(left)}." if left else ""
    counts = [
        f"{int(labels[part].sum())} anomalous and {int((labels[part] == 0).sum())} normal" for part in (half, ~half)
    ]
    return f"Half A: {counts[0]} images; half B: {counts[1]}.\n\n{markdown(lines)}{note}"


def better_sizes(aurocs: dict[str, float]) -> list[str]:
    """Of models whose names differ only in an image size at their end, the best; all others as they are."""
    best: dict[str, str] = {}
    for model, value in aurocs.items():
        family = re.sub(r"-(128|256)$", "", model)
        if family not in best or value > aurocs[best[family]]:
            best[family] = model
    return list(best.values())


def _matched(scores: NDArray[np.float64], images: pd.DataFrame, alike: str, part: NDArray[np.bool_]) -> str:
    found = matched_auroc(scores[:, part], images["label"][part], images[alike][part])
    return f"{estimate(found)} ({found.pairs})"


def _mean(rows: list[Row], name: str) -> str:
    return mean_spread([float(row[name]) for row in rows if row.get(name)], 3)


if __name__ == "__main__":
    main()
