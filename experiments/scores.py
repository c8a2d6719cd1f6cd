"""Which image score detects best? Many scores from one trained model, on two halves of the test images.

    python benchmarks/scores.py results/benchmark/nih-cxr/MAE-seed0 results/benchmark/nih-cxr/MemMC-MAE-seed0

Each argument is the folder of a finished job of ``anomalib-memmc benchmark``. Every score is computed from the same
reconstructions. A choice is made on half A; half B tells what it is worth. ``--stratum`` keeps the anomalous images of
one stratum, ``--masks`` and ``--sampler`` replace the job's masks.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from halves import first_half
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from anomalib_memmc.benchmark.gallery import load_job
from anomalib_memmc.model.masking import mask_bank
from anomalib_memmc.scoring.mahalanobis import NormalErrors
from anomalib_memmc.scoring.ms_ssim import ms_ssim_map, ms_ssim_terms

BATCH = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--stratum", help="only the anomalous images of this stratum")
    parser.add_argument("--masks", type=int, help="number of masks instead of the job's")
    parser.add_argument("--sampler", choices=["random", "complementary"], help="sampler instead of the job's")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        model, datamodule = load_job(folder)
        masks = bank(model, arguments.masks, arguments.sampler)
        train, _, _ = errors_of(model, datamodule.train_data, masks)
        test, labels, strata = errors_of(model, datamodule.test_data, masks)
        keep = np.array([label == 0 or arguments.stratum in (None, s) for label, s in zip(labels, strata, strict=True)])
        half = first_half(labels, datamodule.test_data.samples)
        print(f"\n{folder}, {len(masks)} masks, {keep.sum()} test images: AUROC of half A, half B, both")
        for name in train:
            for score, values in scores(train[name], test[name]).items():
                parts = (keep & half, keep & ~half, keep)
                numbers = "  ".join(f"{roc_auc_score(labels[part], values[part]):.3f}" for part in parts)
                print(f"{name:<24} {score:<28} {numbers}", flush=True)


def bank(model, number, sampler):
    """The job's masks, with another number or sampler where asked for."""
    settings, patches = model.hparams, model.model.bank.shape[1]
    return mask_bank(
        number or settings["num_masks"],
        patches,
        settings["mask_ratio"],
        sampler or settings["mask_sampler"],
        settings["mask_seed"],
    )


@torch.no_grad()
def errors_of(model, dataset, masks):
    """Error maps of a whole dataset by kind, pooled to 4 pixels, and its labels and strata."""
    errors = {}
    strata = dataset.samples.get("stratum", dataset.samples["label"]).astype(str).tolist()
    labels = []
    for start in range(0, len(dataset), BATCH):
        items = [dataset[index] for index in range(start, min(start + BATCH, len(dataset)))]
        labels += [int(item.gt_label) for item in items]
        images = torch.stack([model.pre_processor.transform(item.image) for item in items])
        for kind, maps in error_maps(model.model, images.as_subclass(torch.Tensor), masks).items():
            errors.setdefault(kind, []).append(functional.avg_pool2d(maps, 4))
    return {kind: torch.cat(maps) for kind, maps in errors.items()}, np.array(labels), strata


def error_maps(network, images, masks):
    """Kind -> error of each pixel (B, 1, H, W): over masked patches only, unless the kind says otherwise."""
    result = network.reconstruct(images, masks)
    if images.shape[1] != result.pixels.shape[2]:
        images = images.mean(dim=1, keepdim=True)
    target = images[:, None]
    rows, columns = network.grid
    hidden = result.masks.unflatten(2, (rows, columns)).repeat_interleave(network.patch_size, 2)
    hidden = hidden.repeat_interleave(network.patch_size, 3)[:, :, None]
    pasted = torch.where(hidden, result.pixels, target)
    counts = hidden.float().sum(dim=1)

    def average(errors):
        """Over the views that hide a patch; a patch that none hides gets the mean of the others, as in the model."""
        mean = (errors * hidden).sum(dim=1) / counts.clamp(min=1)
        others = mean.sum(dim=(1, 2, 3), keepdim=True) / (counts > 0).sum(dim=(1, 2, 3), keepdim=True)
        return torch.where(counts > 0, mean, others)

    whole = ms_ssim_map(pasted, target)
    kinds = {"ms_ssim": average(whole), "ms_ssim, pasted": whole.mean(dim=1)}
    terms = ms_ssim_terms(pasted.clamp(0, 1), target)
    for scale, term in enumerate(terms):
        factor = images.shape[-1] // term.shape[-1]
        enlarged = functional.interpolate(
            (1 - term.mean(dim=2)).flatten(0, 1)[:, None], scale_factor=factor, mode="bilinear"
        )
        kinds[f"scale {scale + 1} of {len(terms)}"] = average(enlarged.unflatten(0, hidden.shape[:2]).clamp(min=0))
    kinds["mse"] = average((result.pixels.clamp(0, 1) - target).square().mean(dim=2, keepdim=True))
    return kinds


def scores(train, test):
    """Score's name -> one value an image."""
    root_train, root_test = train.clamp(min=0).sqrt(), test.clamp(min=0).sqrt()
    z = (root_test - root_train.mean(dim=0)) / root_train.std(dim=0).clamp(min=1e-6)
    pixels, tenth = test.flatten(1), test[0].numel() // 10
    result = {
        "mean": pixels.mean(dim=1),
        "max": pixels.amax(dim=1),
        "top tenth": pixels.topk(tenth, dim=1).values.mean(dim=1),
        "calibrated, mean": z.flatten(1).mean(dim=1),
        "calibrated, top tenth": z.flatten(1).topk(tenth, dim=1).values.mean(dim=1),
        "calibrated, mean square": z.flatten(1).square().mean(dim=1),
    }
    for cell in (1, 2, 4):  # of the maps pooled to 4 pixels
        errors = NormalErrors(tuple(train.shape[-2:]), cell)
        errors.fit(errors.cells(train))
        result[f"mahalanobis, {4 * cell} px cells"] = errors(test)
        for shrinkage, distances in shrunk(errors.cells(train), errors.cells(test)).items():
            result[f"{4 * cell} px cells, shrunk {shrinkage}"] = distances
    return {name: values.numpy() for name, values in result.items()}


def shrunk(train, test):
    """Mahalanobis distances as those of NormalErrors, by how far correlations are shrunk to none (1.0)."""
    mean, spread = train.double().mean(dim=0), train.double().std(dim=0, correction=0)
    spread = spread.clamp(min=0.1 * spread.square().mean().sqrt())
    train, test = (train - mean) / spread, (test - mean) / spread
    variances, directions = torch.linalg.eigh(train.T @ train / len(train))
    along = (test @ directions).square()
    return {
        shrinkage: (along / ((1 - shrinkage) * variances + shrinkage * variances.mean())).mean(dim=1)
        for shrinkage in (0.2, 0.5, 0.9)
    }


if __name__ == "__main__":
    main()
