"""Errors in other ways than the job's scorer takes them, of models that are trained: iterative, and by log-variance.

    python -m experiments.other_errors results/study/training-kermany

The argument is the folder of the study of ``configs/study/training-NAME.yaml``. Each score keeps the masks, cells and
error map of the job's own, and learns anew from the normal training images. A choice is made on half A, and half B
tells what it is worth. The difference to the model's own score is over all test images, its error a bootstrap's.
"""

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.benchmark.results import finished, job_name
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.configurable import build
from anomalib_memmc.metrics import paired_difference
from anomalib_memmc.scoring import Scorer
from experiments.halves import halves
from experiments.iterative import IterativeScorer
from experiments.log_variance import LogVarianceMemMCMAE, LogVarianceScorer
from experiments.masks import learn_and_score
from experiments.retest import normal_images
from experiments.scores import batches_of
from experiments.study import auroc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    options = parser.parse_args()
    lines = [["score", "half A", "half B", "all", "to the model's own"], ["---", *["---:"] * 4]]
    for row in chain.from_iterable(finished(options.folder).values()):
        model, datamodule = load_job(options.folder / job_name(row))
        labels, half_a, half_b = halves(datamodule.test_data.samples, options.stratum)
        found = scored(model, datamodule)
        own = found["own"]
        for name, values in found.items():
            parts = [half_a, half_b, half_a | half_b]
            aurocs = [f"{auroc(labels, values[None], part):.3f}" for part in parts]
            of_all, own_of_all = (scores[None, parts[-1]] for scores in (values, own))
            difference = paired_difference(of_all, own_of_all, labels[parts[-1]])
            printed = f"{difference.value:+.3f} ± {difference.standard_error:.3f}"
            lines.append([f"{job_name(row)}, {name}", *aurocs, printed])
    print(markdown(lines))


def scored(model: Any, datamodule: Any) -> dict[str, NDArray[np.float32]]:
    """Scores of the test images (N,) in each way."""
    normals, tested = (batches_of(model, data) for data in (normal_images(datamodule), datamodule.test_data))
    config = model.model.scorer.config()
    return {
        name: learn_and_score(model.model, scorer, normals, tested)
        for name, scorer in ways(config, isinstance(model, LogVarianceMemMCMAE)).items()
    }


def ways(config: dict[str, Any], predicts_variance: bool) -> dict[str, Scorer]:
    """Scorers with the arguments of a ``MahalanobisScorer``'s configuration; the model's own comes first."""
    own = build(config, Scorer)
    scorers: dict[str, Scorer] = {"own": own}
    if predicts_variance:
        scorers["relative to the predicted variance"] = LogVarianceScorer(**own.init_args)
    scorers |= {f"{rounds} more round(s)": IterativeScorer(rounds, **own.init_args) for rounds in (1, 2)}
    return scorers


if __name__ == "__main__":
    main()
