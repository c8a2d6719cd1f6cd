"""The variants of a study in one table: AUROC on two halves of the test images, and how sure a difference is.

    python -m experiments.study results/study/kermany

The argument is the output folder of ``anomalib-memmc benchmark``. A choice is made on half A; half B tells what it is
worth. The difference to the reference is over all test images; its standard error is a bootstrap's over them (what
another seed of the training would change comes on top). Models with several seeds count with the mean over them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from anomalib_memmc.benchmark.compare import of_stratum
from anomalib_memmc.benchmark.predictions import Predictions, stack_scores
from anomalib_memmc.benchmark.results import finished, job_name
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.metrics import paired_difference
from experiments.halves import first_half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", help="model to take differences to; the first one where it is not given")
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    arguments = parser.parse_args()
    try:
        print(study(arguments.folder, arguments.reference, arguments.stratum))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


def study(folder: Path, reference: str | None = None, stratum: str | None = None) -> str:
    """The table, one row a model."""
    rows, predictions = finished(folder), Predictions(folder)
    models = list(rows)
    reference = reference or models[0]
    if reference not in rows:
        msg = f"{folder}: no finished job of {reference!r}; there are {', '.join(models)}."
        raise ValueError(msg)
    jobs = [job_name(row) for own in rows.values() for row in own]
    images, stacked = stack_scores([of_stratum(predictions.of(job), stratum) for job in jobs])
    scores = dict(zip(models, np.split(stacked, np.cumsum([len(own) for own in rows.values()])[:-1]), strict=True))
    labels = images["label"].to_numpy()
    half = first_half(labels, images.rename(columns={"path": "image_path"}))
    lines = [["model", "seeds", "half A", "half B", "all", f"to {reference}", "fit (s)"], ["---", *["---:"] * 6]]
    for model in models:
        aurocs = [f"{auroc(labels, scores[model], part):.3f}" for part in (half, ~half, half | ~half)]
        difference = paired_difference(scores[model], scores[reference], labels)
        seconds = np.mean([float(row["fit_seconds"]) for row in rows[model]])
        printed = f"{difference.value:+.3f} ± {difference.standard_error:.3f}"
        lines.append([model, str(len(scores[model])), *aurocs, printed, f"{seconds:.0f}"])
    return markdown(lines)


def auroc(labels: NDArray[np.int_], scores: NDArray[np.float64], part: NDArray[np.bool_]) -> float:
    """Mean over the seeds (S, N) of the AUROC on some images."""
    return float(np.mean([roc_auc_score(labels[part], values[part]) for values in scores]))


if __name__ == "__main__":
    main()
