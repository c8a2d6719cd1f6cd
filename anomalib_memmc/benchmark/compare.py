"""The ``compare`` command: how much better one model of a finished benchmark is than another, and how sure that is."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomalib_memmc.benchmark.predictions import Predictions, stack_scores
from anomalib_memmc.benchmark.results import RESULTS_FILE, finished, job_name
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.metrics.matched import matched_auroc, paired_difference
from anomalib_memmc.reporting.baselines import NAMES
from anomalib_memmc.reporting.summary import estimate


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc compare``.

    Args:
        argv: The arguments after ``compare``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If the folder holds no ``results.csv`` or no predictions of the models.
        ValueError: If a model or the stratum is unknown, or the models were tested on different images.
    """
    parser = argparse.ArgumentParser(
        prog="anomalib-memmc compare",
        description="Print the difference of two models' AUROC, and of their AUROC among images alike in a property "
        "of the picture, with its standard error over the test images.",
    )
    parser.add_argument("results", type=Path, help="output folder of a benchmark")
    parser.add_argument("model", help="name of a model in it")
    parser.add_argument("reference", help="name of the model to compare it to")
    parser.add_argument("--stratum", help="only the anomalous images of this stratum, against all normal ones")
    arguments = parser.parse_args(argv)
    print(comparison(arguments.results, arguments.model, arguments.reference, arguments.stratum))
    return 0


def comparison(folder: Path, model: str, reference: str, stratum: str | None = None) -> str:
    """Compare two models of a benchmark on the same test images.

    Args:
        folder: The benchmark's output folder.
        model: Name of a model; the mean over its finished seeds counts.
        reference: Name of the model it is compared to.
        stratum: Keep only the anomalous images of this stratum.

    Returns:
        A Markdown table with one row for the AUROC and one for the matched AUROC of each trivial baseline: both models,
        model less reference ± standard error, and the number of pairs. Values below 200 pairs are in brackets. Which
        images are alike is measured on what the reference is given. A line above tells the images and the seeds.

    Raises:
        FileNotFoundError: If the folder holds no ``results.csv`` or no predictions of the models.
        ValueError: If a model or the stratum is unknown, or the models were tested on different images.
    """
    reference_tables, model_tables = (_tables(folder, name, stratum) for name in (reference, model))
    images, scores = stack_scores([*reference_tables, *model_tables])  # the nuisances are those of the first table
    second, first = np.split(scores, [len(reference_tables)])
    num_anomalous = int(images["label"].sum())
    head = (
        f"{model} ({_seeds(first)}) to {reference} ({_seeds(second)}): {num_anomalous} anomalous images"
        f"{f' of {stratum}' if stratum else ''} against {len(images) - num_anomalous} normal ones"
    )
    known = [name for name in NAMES if name in images.columns and np.isfinite(images[name]).all()]
    lines = [["", model, reference, "difference", "pairs"], ["---", *["---:"] * 4]]
    lines += [_row(first, second, images, column) for column in (None, *known)]
    return f"{head}\n\n{markdown(lines)}"


def of_stratum(predictions: pd.DataFrame, stratum: str | None) -> pd.DataFrame:
    """Keep the normal images and the anomalous ones of one stratum.

    Args:
        predictions: A job's predictions.
        stratum: The stratum; ``None`` keeps all.

    Returns:
        The rows kept.

    Raises:
        ValueError: If no anomalous image is of that stratum.
    """
    if stratum is None:
        return predictions
    known = predictions.get("stratum", pd.Series("", index=predictions.index)).fillna("")
    anomalous = predictions["label"] == 1
    if not (anomalous & (known == stratum)).any():
        strata = ", ".join(name for name in known[anomalous].unique() if name) or "none"
        msg = f"No anomalous image is of stratum {stratum!r}; the strata are: {strata}."
        raise ValueError(msg)
    return predictions[~anomalous | (known == stratum)]


def _tables(folder: Path, model: str, stratum: str | None) -> list[pd.DataFrame]:
    """Predictions of a model's finished jobs, one table a seed."""
    rows, predictions = finished(folder), Predictions(folder)
    if model not in rows:
        msg = f"{folder / RESULTS_FILE}: no finished job of {model!r}; there are {', '.join(rows)}."
        raise ValueError(msg)
    return [of_stratum(predictions.of(job_name(row)), stratum) for row in rows[model]]


def _row(
    first: NDArray[np.float64], second: NDArray[np.float64], images: pd.DataFrame, column: str | None
) -> list[str]:
    """Both models' scores (S, N), all pairs or those alike in a column."""
    labels, nuisance = images["label"], images[column] if column else None
    difference = paired_difference(first, second, labels, nuisance)
    values = [estimate(matched_auroc(scores, labels, nuisance)) for scores in (first, second)]
    title = f"matched AUROC, {NAMES[column]}" if column else "AUROC"
    return [title, *values, estimate(difference, sign="+"), str(difference.pairs)]


def _seeds(scores: NDArray[np.float64]) -> str:
    return f"{len(scores)} seed{'s' if len(scores) > 1 else ''}"
