"""How many masks does a score need? Cost against AUROC for 1 to 16 masks of both samplers, on one trained model.

    python -m experiments.masks results/benchmark/nih-cxr/MemMC-MAE-seed0 --stratum positive/nih

The argument is the folder of a finished job of ``anomalib-memmc benchmark`` whose scorer has masks. The scorer stays
the job's but for these, and learns anew from the normal training images. Nothing is trained again. Masks that leave
patches which no one hides are left out where the scorer refuses them. A choice is made on half A, and half B tells what
it is worth. Seconds are of scoring one batch, all kinds in turn within each round, as the ratio to those of the job's
own masks.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from sklearn.metrics import roc_auc_score

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.benchmark.tables import markdown
from anomalib_memmc.checksum import digest
from anomalib_memmc.configurable import build
from anomalib_memmc.model.features import FrozenFeatures
from anomalib_memmc.scoring import Scorer
from experiments.halves import halves
from experiments.performance.timing import take_turns, without_gradients
from experiments.retest import normal_images
from experiments.scores import batches_of

NUMBERS = (1, 2, 4, 8, 10, 16)
SAMPLERS = ("complementary", "random")
ROUNDS = 5
OWN = "the job's own"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    parser.add_argument("--scorer", type=Path, help="YAML (class_path, init_args) of another scorer than the job's")
    options = parser.parse_args()
    model, datamodule = load_job(options.folder)
    labels, half_a, half_b = halves(datamodule.test_data.samples, options.stratum)
    normals, tested = (batches_of(model, data) for data in (normal_images(datamodule), datamodule.test_data))
    own = model.model.scorer.config()
    if options.scorer:  # built first, so that the masks are there also where the file does not name them
        own = build(yaml.safe_load(options.scorer.read_text()), Scorer).config()
    if with_masks(own, 1, SAMPLERS[0]) == with_masks(own, 2, SAMPLERS[0]):
        parser.error("this scorer has no masks: name one that has, with --scorer FILE")
    scorers = {OWN: build(own, Scorer)}
    for sampler in SAMPLERS:
        for number in NUMBERS:
            scorers[f"{number} {sampler}"] = build(with_masks(own, number, sampler), Scorer)
    scorers = {name: scorer for name, scorer in scorers.items() if takes(model.model, scorer)}
    with features_once():
        scores = {name: learn_and_score(model.model, scorer, normals, tested) for name, scorer in scorers.items()}
    times = take_turns({name: call(model.model, scorer, tested[0]) for name, scorer in scorers.items()}, ROUNDS)
    lines = [["masks", "half A", "half B", "both", "time"], ["---", *["---:"] * 4]]
    for name, values in scores.items():
        parts = (half_a, half_b, half_a | half_b)
        aurocs = [f"{roc_auc_score(labels[part], values[part]):.3f}" for part in parts]
        lines.append([name, *aurocs, f"{times[name].over(times[OWN]).median:.2f}"])
    print(markdown(lines))


def with_masks(config: Any, number: int, sampler: str) -> Any:
    """A scorer's configuration with other masks wherever it has some."""
    if isinstance(config, list):
        return [with_masks(part, number, sampler) for part in config]
    if not isinstance(config, dict):
        return config
    changed = {key: with_masks(value, number, sampler) for key, value in config.items()}
    if "mask_sampler" in changed:
        changed |= {"num_masks": number, "mask_sampler": sampler}
    return changed


def takes(model: Any, scorer: Scorer) -> bool:
    """Whether a scorer can have such masks."""
    try:
        model.set_scorer(scorer)
    except ValueError:
        return False
    return True


@contextmanager
def features_once() -> Iterator[None]:
    """Compute the frozen features of a batch once, and not for each of the masks, with which they do not change."""
    forward, found = FrozenFeatures.forward, {}

    def remembered(network: FrozenFeatures, images: torch.Tensor) -> torch.Tensor:
        key = (network.backbone, *network.layers, network.size, network.grid, digest(images.numpy().tobytes()))
        if key not in found:
            found[key] = forward(network, images)
        return found[key].clone()

    with patch.object(FrozenFeatures, "forward", remembered):
        yield


@torch.no_grad()
def learn_and_score(model: Any, scorer: Scorer, normals: list[torch.Tensor], tested: list[torch.Tensor]) -> np.ndarray:
    """Let a scorer learn from normal images; its scores of the tested ones (N,)."""
    model.set_scorer(scorer)
    scorer.prepare()
    scorer.fit(model.network, normals)
    return torch.cat([model.score(images).pred_score for images in tested]).numpy()


def call(model: Any, scorer: Scorer, images: torch.Tensor) -> Any:
    """Score one batch."""
    return without_gradients(lambda: scorer.score(model.network, images))


if __name__ == "__main__":
    main()
