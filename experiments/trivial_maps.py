"""How well does no model at all localise polyps? Pixel AUROC and IoU of trivial maps on Hyper-Kvasir's test part.

    python -m experiments.trivial_maps DIR [--region crop] [--field_of_view]

Maps, at 128 x 128 pixels: the image's brightness; its brightness blurred by 8 pixels; nearness to the centre; and for
each polyp the mean mask of half of the others, which knows where polyps tend to be. With ``--field_of_view`` all leave
out what is no tissue, as a model's maps do with that option of the post-processor. IoU is at the best threshold for all
images, as ``pixel_OracleIoU``.
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from anomalib.data import ImageBatch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc
from torchvision.transforms.v2.functional import resize
from torchvision.tv_tensors import Mask

from anomalib_memmc import FieldOfView, HyperKvasir
from anomalib_memmc.field_of_view import level_outside
from anomalib_memmc.metrics import OracleIoU
from anomalib_memmc.reporting.baselines import brightness_map, centre_map

SIZE = [128, 128]
CHUNK = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--num_train_normal", type=int, default=350)
    parser.add_argument("--num_test_normal", type=int, default=150)
    parser.add_argument("--region", default="crop", choices=["frame", "crop", "tissue"])
    parser.add_argument("--field_of_view", action="store_true")
    arguments = vars(parser.parse_args())
    leaves_out = arguments.pop("field_of_view")
    datamodule = HyperKvasir(**arguments, num_workers=0)
    datamodule.setup()
    items = [datamodule.test_data[index] for index in range(len(datamodule.test_data))]
    masks = masks_of(items, SIZE)
    images = torch.stack([resize(item.image, SIZE, antialias=True) for item in items])
    tissue = torch.cat([FieldOfView()(chunk) for chunk in images.split(CHUNK)]) if leaves_out else None
    polyps = masks.flatten(1).any(dim=1)
    print(
        f"{int(polyps.sum())} polyps, {int((~polyps).sum())} normal frames, mean area of a polyp "
        f"{masks[polyps].float().mean():.3f}\n{'map':<28} pixel AUROC  oracle IoU"
    )
    for name, values in trivial_maps(images, masks, polyps, tissue).items():
        iou = OracleIoU()
        iou.update(ImageBatch(image=images, anomaly_map=values.clamp(0, 1), gt_mask=masks))
        print(f"{name:<28} {binary_auroc(values.flatten(), masks.flatten().long()):.3f}        {iou.compute():.3f}")


def trivial_maps(images: Tensor, masks: Tensor, polyps: Tensor, tissue: Tensor | None) -> dict[str, Tensor]:
    """The maps by name, (N, H, W) each; outside the tissue (N, 1, H, W) they are left out."""
    blurred = torch.from_numpy(gaussian_filter(brightness_map(images, tissue).numpy(), (0, 0, 8, 8)))
    where = mean_masks(masks, polyps)[:, None]
    maps = {
        "brightness": brightness_map(images, tissue),
        "brightness, blurred": blurred if tissue is None else level_outside(blurred, tissue),
        "nearness to the centre": centre_map(images, tissue),
        "mean mask of other polyps": where if tissue is None else level_outside(where, tissue),
    }
    return {name: values[:, 0] for name, values in maps.items()}


def masks_of(items: Iterable[Any], size: Sequence[int]) -> Tensor:
    """Ground truth of a data set's items, resized: (images, H, W), bool."""
    return torch.stack([resize(Mask(item.gt_mask[None]), list(size))[0].bool() for item in items])


def mean_masks(masks: Tensor, polyps: Tensor) -> Tensor:
    """For every image the mean mask of a half of the polyps to which it does not belong."""
    order = torch.randperm(int(polyps.sum()), generator=torch.Generator().manual_seed(0))
    first = torch.zeros(len(masks), dtype=torch.bool)
    first[polyps.nonzero()[order[: len(order) // 2], 0]] = True
    halves = [masks[polyps & ~first].float().mean(dim=0), masks[first].float().mean(dim=0)]
    return torch.stack([halves[0] if in_first else halves[1] for in_first in first])


if __name__ == "__main__":
    main()
