"""The variants of a study in one table: AUROC on two halves of the test images, and how sure a difference is.

    python benchmarks/study.py results/study/kermany

The argument is the output folder of ``anomalib-memmc benchmark``. A choice is made on half A; half B tells what it is
worth. The difference to the reference is over all test images; its standard error is a bootstrap's over them (what
another seed of the training would change comes on top). Models with several seeds count with the mean over them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from halves import first_half
from sklearn.metrics import roc_auc_score

from anomalib_memmc.benchmark.figures import finished, read_predictions

RESAMPLES = 500
ALL = slice(None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", help="model to take differences to; the first one where it is not given")
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    arguments = parser.parse_args()
    folder = arguments.folder
    rows = or_exit(finished, folder)
    models = list(rows)
    reference = arguments.reference or models[0]
    if reference not in rows:
        sys.exit(f"error: {folder}: no finished job of {reference!r}; there are {', '.join(models)}.")
    predictions = {
        model: [of_stratum(or_exit(read_predictions, folder, row), arguments.stratum) for row in own]
        for model, own in rows.items()
    }
    scores = {model: np.stack([table["raw_score"] for table in tables]) for model, tables in predictions.items()}
    labels = predictions[reference][0]["gt_label"].to_numpy()
    half = first_half(labels, predictions[reference][0])
    print(f"| model | seeds | half A | half B | all | to {reference} | fit (s) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for model in models:
        numbers = " | ".join(f"{auroc(labels, scores[model], part):.3f}" for part in (half, ~half, ALL))
        seconds = np.mean([float(row["fit_seconds"]) for row in rows[model]])
        difference = lead(labels, scores[model], scores[reference])
        print(f"| {model} | {len(scores[model])} | {numbers} | {difference} | {seconds:.0f} |")


def or_exit(read, *arguments):
    """What a reader returns; its message and nothing else where it finds no finished jobs."""
    try:
        return read(*arguments)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


def of_stratum(predictions, stratum):
    """Predictions of the normal images and of one stratum; all where none is asked for."""
    return predictions[(predictions["gt_label"] == 0) | (predictions["stratum"] == stratum)] if stratum else predictions


def auroc(labels, scores, part):
    """Mean over the seeds (S, N) of the AUROC on some images."""
    return np.mean([roc_auc_score(labels[part], values[part]) for values in scores])


def lead(labels, scores, reference):
    """Difference of two models' AUROC with its standard error over the test images."""
    generator, members = np.random.default_rng(0), [np.flatnonzero(labels == label) for label in (0, 1)]
    draws = [np.concatenate([generator.choice(m, len(m)) for m in members]) for _ in range(RESAMPLES)]
    spread = np.std([auroc(labels, scores, draw) - auroc(labels, reference, draw) for draw in draws])
    return f"{auroc(labels, scores, ALL) - auroc(labels, reference, ALL):+.3f} ± {spread:.3f}"


if __name__ == "__main__":
    main()
