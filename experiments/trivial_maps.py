"""How well does no model at all localise polyps? Pixel AUROC and IoU of trivial maps on Hyper-Kvasir's test part.

    python -m experiments.trivial_maps DIR [--num_train_normal 350 --num_test_normal 150]

Maps, at 128 x 128 pixels: the image's brightness; its brightness blurred by 8 pixels; and for each polyp the mean mask
of half of the others, which knows where polyps tend to be. IoU is at the best threshold for all images, as
``pixel_OracleIoU``.
"""

import argparse

import torch
from anomalib.data import ImageBatch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc
from torchvision.transforms.v2.functional import resize
from torchvision.tv_tensors import Mask

from anomalib_memmc import HyperKvasir
from anomalib_memmc.metrics import OracleIoU

SIZE = [128, 128]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--num_train_normal", type=int, default=350)
    parser.add_argument("--num_test_normal", type=int, default=150)
    arguments = parser.parse_args()
    datamodule = HyperKvasir(**vars(arguments), num_workers=0)
    datamodule.setup()
    items = [datamodule.test_data[index] for index in range(len(datamodule.test_data))]
    masks = torch.stack([resize(Mask(item.gt_mask[None]), SIZE)[0].bool() for item in items])
    images = torch.stack([resize(item.image, SIZE, antialias=True) for item in items])
    brightness = images.mean(dim=1).clamp(0, 1)
    polyps = masks.flatten(1).any(dim=1)
    maps = {
        "brightness": brightness,
        "brightness, blurred": torch.from_numpy(gaussian_filter(brightness.numpy(), (0, 8, 8))),
        "mean mask of other polyps": mean_masks(masks, polyps),
    }
    print(
        f"{int(polyps.sum())} polyps, {int((~polyps).sum())} normal frames, mean area of a polyp "
        f"{masks[polyps].float().mean():.3f}\n{'map':<28} pixel AUROC  oracle IoU"
    )
    for name, values in maps.items():
        iou = OracleIoU()
        iou.update(ImageBatch(image=images, anomaly_map=values.clamp(0, 1), gt_mask=masks))
        print(f"{name:<28} {binary_auroc(values.flatten(), masks.flatten().long()):.3f}        {iou.compute():.3f}")


def mean_masks(masks: Tensor, polyps: Tensor) -> Tensor:
    """For every image the mean mask of a half of the polyps to which it does not belong."""
    order = torch.randperm(int(polyps.sum()), generator=torch.Generator().manual_seed(0))
    first = torch.zeros(len(masks), dtype=torch.bool)
    first[polyps.nonzero()[order[: len(order) // 2], 0]] = True
    halves = [masks[polyps & ~first].float().mean(dim=0), masks[first].float().mean(dim=0)]
    return torch.stack([halves[0] if in_first else halves[1] for in_first in first])


if __name__ == "__main__":
    main()
