"""What a report takes from the batches of a test: its cases, and how well maps localise beside trivial ones."""

import math
from typing import Any, NamedTuple

import numpy as np
from anomalib.data import ImageBatch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_memmc.data.io.text import printable
from anomalib_memmc.gathering import gather_objects
from anomalib_memmc.metrics import IoU, OracleIoU
from anomalib_memmc.model.tissue import find_tissue, without_normalize
from anomalib_memmc.reporting.baselines import brightness_map, centre_map
from anomalib_memmc.reporting.report.cases import Case, choose

TRIVIAL_MAPS = {"brightness": brightness_map, "centre": centre_map}


class Localisation(NamedTuple):
    """IoU of every anomalous image with a mask (n,), in [0, 1]; all in the same order of images.

    Attributes:
        learnt: Of the predicted masks, whose threshold saw no test label; None where none was predicted.
        best: Of the maps at the one threshold that is best for all these images.
        brightness: The same of the image's brightness in place of a map.
        centre: The same of nearness to the image's centre.
    """

    learnt: list[float] | None
    best: list[float]
    brightness: list[float]
    centre: list[float]


class Collector:
    """Takes what a report needs from the batches of a test, in constant memory.

    Args:
        pl_module: The tested model; its pre-processor and post-processor tell range, threshold and field of view.
    """

    def __init__(self, pl_module: Any) -> None:
        self.transform = getattr(getattr(pl_module, "pre_processor", None), "transform", None)
        post_processor = getattr(pl_module, "post_processor", None)
        self.field_of_view = getattr(post_processor, "field_of_view", None)
        self.threshold = _known(getattr(post_processor, "normalized_image_threshold", None))
        self.cases: list[Case] = []
        self.learnt = IoU(sync_on_compute=False)
        self.maps = {name: OracleIoU(sync_on_compute=False) for name in ("best", *TRIVIAL_MAPS)}

    def add(self, batch: Any, loader: int = 0) -> None:
        """Take a batch after post-processing.

        Args:
            batch: anomalib's batch with ``image`` (B, C, H, W) and ``pred_score`` (B,), and where known
                ``anomaly_map``, ``pred_mask``, ``gt_mask``, ``gt_label`` and ``image_path``.
            loader: Number of the loader that it came from.
        """
        images = without_normalize(_plain(batch.image).float(), self.transform)
        self.cases = choose([*self.cases, *_cases(batch, images, loader)], self.threshold)
        if batch.gt_mask is not None and batch.anomaly_map is not None:
            self._localise(batch, images)

    def _localise(self, batch: Any, images: Tensor) -> None:
        """Compare predicted masks and maps, and the trivial maps, with the ground truth."""
        masks, maps = _plain(batch.gt_mask).bool(), _plain(batch.anomaly_map)
        tissue = None
        if self.field_of_view is not None:
            tissue = find_tissue(self.field_of_view, images, maps).view(len(images), 1, *maps.shape[-2:])
        if batch.pred_mask is not None:
            self.learnt.update(ImageBatch(image=images, pred_mask=_plain(batch.pred_mask).bool(), gt_mask=masks))
        for name, metric in self.maps.items():
            trivial = TRIVIAL_MAPS.get(name)
            own = maps if trivial is None else trivial(images, tissue)[:, 0]
            metric.update(ImageBatch(image=images, anomaly_map=own, gt_mask=masks))

    def gathered(self) -> tuple[list[Case], Localisation | None]:
        """The cases and IoU of all processes, each of which has to call this; no IoU without a mask."""
        curves = {name: [each.cpu() for each in metric.curves] for name, metric in self.maps.items()}
        parts = gather_objects((self.cases, curves, [each.cpu() for each in self.learnt.ious]))
        for name, metric in self.maps.items():
            metric.cpu().curves = [curve for _, own, _ in parts for curve in own[name]]
        self.learnt.cpu().ious = [each for *_, own in parts for each in own]
        found = {name: metric.image_ious().tolist() for name, metric in self.maps.items() if metric.curves}
        cases = choose([case for own, *_ in parts for case in own], self.threshold)
        return cases, Localisation(self.learnt.image_ious().tolist() or None, **found) if found.get("best") else None


def _cases(batch: Any, images: Tensor, loader: int) -> list[Case]:
    """The images of a batch as cases."""
    scores = _plain(batch.pred_score).float().flatten().tolist()
    paths = batch.image_path or [""] * len(scores)
    truths = [None] * len(scores) if batch.gt_label is None else batch.gt_label.flatten().int().tolist()
    pixels = (images.clamp(0, 1) * 255).round().byte().cpu()
    if pixels.shape[1] != 3:
        pixels = pixels[:, :1].expand(-1, 3, -1, -1)
    cases = []
    for index, score in enumerate(scores):
        masks = [_of(batch, name, index) for name in ("anomaly_map", "gt_mask", "pred_mask")]
        cases.append(
            Case(
                path=printable(paths[index]),
                loader=loader,
                score=score,
                truth=truths[index],
                image=pixels[index].permute(1, 2, 0).numpy(),
                anomaly_map=None if masks[0] is None else masks[0].astype(np.float16),
                mask=None if masks[1] is None else masks[1].astype(bool),
                iou=_iou(masks[2], masks[1]),
            )
        )
    return cases


def _of(batch: Any, name: str, index: int) -> NDArray[Any] | None:
    """A map or mask of one image (h, w)."""
    values = getattr(batch, name, None)
    if values is None:
        return None
    own = _plain(values)[index].float().cpu()
    return own.view(own.shape[-2:]).numpy()


def _iou(predicted: NDArray[Any] | None, mask: NDArray[Any] | None) -> float | None:
    """IoU of a predicted mask with a ground truth; None where one is missing or the truth is empty."""
    if predicted is None or mask is None or not mask.any():
        return None
    first, second = predicted > 0, mask > 0
    return float((first & second).sum() / (first | second).sum())


def _plain(tensor: Tensor) -> Tensor:
    """A tensor without the class that torchvision gave it."""
    return tensor.detach().as_subclass(Tensor)


def _known(threshold: Any) -> float | None:
    """A threshold as a number, if there is one."""
    value = math.nan if threshold is None else float(threshold)
    return value if math.isfinite(value) else None
