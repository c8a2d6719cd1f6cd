"""Best and worst cases of a finished benchmark job, as one picture."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torchvision.tv_tensors import Mask

from anomalib_memmc.benchmark.job import CONFIG_FILE, build
from anomalib_memmc.evaluation.picture import draw_reconstructions
from anomalib_memmc.evaluation.reconstructions import reconstruction_rows
from anomalib_memmc.register import register

CASES_PER_KIND = 2


def draw_gallery(folder: Path, predictions: pd.DataFrame, title: str) -> Figure:
    """Draw the anomalies found best and those missed worst, the quietest normal images and the loudest false alarms.

    Args:
        folder: A job's folder with its configuration and checkpoint; the data set must be where it was.
        predictions: The job's predictions with ``image_path``, ``gt_label`` and ``score``.
        title: Line above the picture.

    Returns:
        The figure; its rows run from the best to the worst case, anomalous images first.

    Raises:
        FileNotFoundError: If the job left no checkpoint.
    """
    checkpoint = next(iter(sorted(folder.rglob("weights/lightning/model.ckpt"))), None)
    if checkpoint is None:
        msg = f"{folder} holds no checkpoint: a gallery needs the folder in which the benchmark ran."
        raise FileNotFoundError(msg)
    register()
    model, datamodule, _ = build(json.loads((folder / CONFIG_FILE).read_text())["config"])
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    datamodule.prepare_data()
    datamodule.setup("test")
    dataset = datamodule.test_data
    index_of = {str(path): index for index, path in enumerate(dataset.samples["image_path"])}
    items = [_item(dataset[index_of[case]], model) for case in choose_cases(predictions)]
    model.eval()
    with torch.no_grad():
        rows = reconstruction_rows(model, items)
    return draw_reconstructions(rows, title=f"{title}: best cases first, then worst; anomalous, then normal")


def _item(item: Any, model: Any) -> dict[str, Any]:
    """A test image as the model is given it, with what is known of it."""
    image, mask = item.image[None], None if item.gt_mask is None else Mask(item.gt_mask[None])
    transform = getattr(model.pre_processor, "transform", None)
    if transform is not None:
        image, mask = transform(image, mask)
    return {
        "image": image[0].as_subclass(torch.Tensor),
        "anomalous": bool(item.gt_label),
        "mask": None if mask is None else mask[0].as_subclass(torch.Tensor).bool(),
    }


def choose_cases(predictions: pd.DataFrame, per_kind: int = CASES_PER_KIND) -> list[str]:
    """Paths of the anomalous images with the highest and the lowest scores, then of the normal ones, best first.

    Args:
        predictions: Table with ``image_path``, ``gt_label`` (0 or 1) and ``score``.
        per_kind: Images of each of the four kinds.

    Returns:
        At most four times ``per_kind`` paths.
    """
    paths = []
    for label in (1, 0):
        ordered = predictions[predictions["gt_label"] == label].sort_values("score", ascending=label == 0)
        chosen = pd.concat([ordered.head(per_kind), ordered.tail(per_kind)])
        paths += chosen["image_path"].drop_duplicates().astype(str).tolist()
    return paths
