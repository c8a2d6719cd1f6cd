"""Which image score detects best? Many scorers on one trained model, on two halves of the test images.

    python -m experiments.scores results/benchmark/nih-cxr/MAE-seed0 results/benchmark/nih-cxr/MemMC-MAE-seed0

Each argument is the folder of a finished job of ``anomalib-memmc benchmark``. All scorers are the package's, and see
the same reconstructions. A choice is made on half A; half B tells what it is worth. ``--stratum`` keeps the anomalous
images of one stratum, ``--masks`` and ``--sampler`` replace the job's masks. The scorers that use pretrained features
need their weights: a network, or a Hugging Face cache that has them.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.scoring import (
    ErrorMap,
    FeatureScorer,
    FusedScorer,
    MahalanobisScorer,
    MaskedScorer,
    MSSSIMMap,
    ReconstructionScorer,
    Scorer,
    SquaredErrorMap,
    StructureMap,
    TokenScorer,
)
from experiments.halves import halves

BATCH = 8
PRESET_MASKS = ReconstructionScorer(num_masks=8, mask_sampler="complementary")
ERROR_MAPS: dict[str, ErrorMap] = {
    "MS-SSIM": MSSSIMMap(),
    "structure, scale 1": StructureMap(1),
    "structure, scale 2": StructureMap(2),
    "structure, scale 3": StructureMap(3),
    "squared error": SquaredErrorMap(),
}


class CalibratedScorer(MaskedScorer):
    """Mean of the root errors, each pixel standardised by those of normal images: what no covariance knows of."""

    def fit_maps(self, maps: Tensor) -> None:
        """Learn mean and spread of every pixel from maps (N, 1, H, W)."""
        self.mean, self.spread = maps.sqrt().mean(dim=0), maps.sqrt().std(dim=0).clamp(min=1e-6)

    def reduce(self, anomaly_map: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B,)."""
        return ((anomaly_map.sqrt() - self.mean) / self.spread).mean(dim=(1, 2, 3))


SCORERS: dict[str, Any] = {
    "mean": partial(ReconstructionScorer, reduction="mean"),
    "max": partial(ReconstructionScorer, reduction="max"),
    "top tenth": partial(ReconstructionScorer, reduction="top_k"),
    "calibrated, mean": CalibratedScorer,
    "Mahalanobis, cells of 4 px": partial(MahalanobisScorer, cell_size=4),
    "Mahalanobis, cells of 8 px": partial(MahalanobisScorer, cell_size=8),
    "Mahalanobis, cells of 16 px": partial(MahalanobisScorer, cell_size=16),
}


def other_scorers(masks: dict[str, Any]) -> dict[str, Scorer]:
    """Scorers that look at more than error maps: tokens, features, and both fused with errors."""

    def errors() -> Scorer:
        return MahalanobisScorer(StructureMap(1), cell_size=4, **masks)

    return {
        "tokens, level 2": TokenScorer(levels=[2], top=1.0),
        "tokens, level 4": TokenScorer(levels=[4], top=1.0),
        "features, blocks.4": FeatureScorer(layers=["blocks.4"]),
        "features, blocks.6": FeatureScorer(layers=["blocks.6"]),
        "errors + features 6": FusedScorer([errors(), FeatureScorer(layers=["blocks.6"])]),
        "errors + tokens 2": FusedScorer([errors(), TokenScorer(levels=[2], top=1.0)]),
    }


def main() -> None:
    """Print a table a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    parser.add_argument("--masks", type=int, help="number of masks instead of the job's")
    parser.add_argument("--sampler", choices=["random", "complementary"], help="sampler instead of the job's")
    options = parser.parse_args()
    for folder in options.folders:
        lightning_model, datamodule = load_job(folder)
        masks = masks_of(lightning_model.model.scorer, options.masks, options.sampler)
        labels, half_a, half_b = halves(datamodule.test_data.samples, options.stratum)
        parts = (half_a, half_b, half_a | half_b)
        images = f"{masks['num_masks']} masks, {parts[-1].sum()} test images"
        print(f"\n{folder}, {images}: AUROC of half A, half B, both")
        for name, score, values in scores(lightning_model, datamodule, masks):
            numbers = "  ".join(f"{roc_auc_score(labels[part], values[part]):.3f}" for part in parts)
            print(f"{name:<20} {score:<28} {numbers}", flush=True)


def masks_of(scorer: Scorer, number: int | None, sampler: str | None) -> dict[str, Any]:
    """The masks of a job's scorer as arguments of another, with another number or sampler where asked for.

    Of a fusion they are those of the first scorer of reconstructions, or the presets' where there is none.
    """
    scorer = next((part for part in scorer.modules() if isinstance(part, MaskedScorer)), PRESET_MASKS)
    return {
        "num_masks": number or scorer.num_masks,
        "mask_sampler": sampler or scorer.mask_sampler,
        "mask_seed": scorer.mask_seed,
        "mask_ratio": scorer.mask_ratio,
    }


@torch.no_grad()
def scores(lightning_model: Any, datamodule: Any, masks: dict[str, Any]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Error map, scorer and score of every test image, for all combinations."""
    model = lightning_model.model
    train, test = (batches_of(lightning_model, data) for data in (datamodule.train_data, datamodule.test_data))
    for name, scorer in other_scorers(masks).items():
        model.set_scorer(scorer)
        scorer.fit(model.network, train)
        values = torch.cat([scorer.score(model.network, images).pred_score for images in test])
        yield name, "", values.numpy()
    for name, error_map in ERROR_MAPS.items():
        model.set_scorer(ReconstructionScorer(error_map, **masks))
        normals, tested = (torch.cat([model.scorer.maps(model.network, x) for x in part]) for part in (train, test))
        for score, make in SCORERS.items():
            scorer = make(error_map=error_map, **masks)
            model.set_scorer(scorer)
            if isinstance(scorer, CalibratedScorer):
                scorer.fit_maps(normals)
            elif isinstance(scorer, MahalanobisScorer):
                scorer.fit_cells(scorer.cells(normals))
            yield name, score, scorer.reduce(tested).numpy()


def batches_of(lightning_model: Any, dataset: Any) -> list[Tensor]:
    """A whole data set as batches of images (B, C, H, W), pre-processed."""
    network, transform, batches = lightning_model.model.network, lightning_model.pre_processor.transform, []
    for start in range(0, len(dataset), BATCH):
        items = [dataset[index] for index in range(start, min(start + BATCH, len(dataset)))]
        images = torch.stack([transform(item.image) for item in items]).as_subclass(Tensor)
        batches.append(network.check(images))
    return batches


if __name__ == "__main__":
    main()
