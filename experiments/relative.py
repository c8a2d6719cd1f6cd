"""Does a score see disease or the device? Scores relative to the image beside plain ones, under the shift test.

    python -m experiments.relative results/benchmark/kermany/MemMC-MAE-seed0 --scale 2
    python -m experiments.relative results/benchmark/nih-cxr/MemMC-MAE-seed0 --scale 1 --stratum positive/nih

The argument is the folder of a finished job of ``anomalib-memmc benchmark``, of a model on radiographs. Nothing is
trained again. ``--scale`` is the structure map's. A row is a score, or two fused: AUROC of a half of the test part as
it is, and the least under any change of ``anomalib-memmc shift-test``; false alarms of the half's normal images at the
threshold that held-out normal images give, as they are and at worst. A choice is made on half A, and half B tells what
it is worth.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.benchmark.shift_test import CHANGES, scores_under
from anomalib_memmc.metrics.conformal import conformal_threshold
from anomalib_memmc.scoring import FeatureScorer, FusedScorer, MahalanobisScorer, Scorer, StructureMap
from experiments.halves import halves
from experiments.retest import normal_images
from experiments.scores import batches_of

Scored = dict[str, NDArray[np.float32]]
"""Scores of the held-out normal images (``HELD_OUT``), and of the test images under each change."""
HELD_OUT = "held out"
RATE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    options = parser.parse_args()
    model, datamodule = load_job(options.folder)
    labels, *parts_of_test = halves(datamodule.test_data.samples, options.stratum)
    print("| score | " + " | ".join(f"half {h}, worst | false alarms, worst" for h in "AB") + " |")
    print("| --- |" + " ---: |" * 4, flush=True)
    parts = {}
    for name, scorer in parts_of(options.scale).items():
        parts[name] = scored(model, datamodule, scorer)
        report(name, parts[name], labels, parts_of_test)
    errors, features = ([name for name in parts if name.startswith(kind)] for kind in ("errors", "features"))
    for pair in product(errors, features):
        fused = {key: (parts[pair[0]][key] + parts[pair[1]][key]) / 2 for key in parts[pair[0]]}
        report(" + ".join(pair), fused, labels, parts_of_test)


def parts_of(scale: int) -> dict[str, Scorer]:
    """The scores that are compared and fused."""
    masks: dict[str, Any] = {"num_masks": 8, "mask_sampler": "complementary"}
    scorers: dict[str, Scorer] = {
        f"errors{', relative' * relative}": MahalanobisScorer(StructureMap(scale), 4, relative=relative, **masks)
        for relative in (False, True)
    }
    for layers, norm in product((["blocks.6"], ["blocks.2", "blocks.4"]), (False, True)):
        name = f"features of {' and '.join(layers)}{', instance norm' * norm}"
        scorers[name] = FeatureScorer(layers=layers, instance_norm=norm)
    return scorers


@torch.no_grad()
def scored(lightning_model: Any, datamodule: Any, scorer: Scorer) -> Scored:
    """Standardised scores by one scorer, which learns from the normal training images first."""
    model = lightning_model.model.eval()
    model.set_scorer(FusedScorer([scorer]))
    model.scorer.prepare()
    model.scorer.fit(model.network, batches_of(lightning_model, normal_images(datamodule)))

    held_out = batches_of(lightning_model, datamodule.val_data)
    result = {HELD_OUT: np.concatenate([model.score(images).pred_score.numpy() for images in held_out])}
    for name, change in CHANGES.items():
        torch.manual_seed(0)
        result[name] = torch.cat(list(scores_under(lightning_model, datamodule.test_data, change))).numpy()
    return result


def report(name: str, values: Scored, labels: NDArray[np.int_], members: Sequence[NDArray[np.bool_]]) -> None:
    """Print a row."""
    threshold = conformal_threshold(values[HELD_OUT], RATE).value
    cells = []
    for part in members:
        aurocs = [roc_auc_score(labels[part], values[change][part]) for change in CHANGES]
        alarms = [(values[change][part & (labels == 0)] > threshold).mean() for change in CHANGES]
        cells += [f"{aurocs[0]:.3f}, {min(aurocs):.3f}", f"{alarms[0]:.2f}, {max(alarms):.2f}"]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
