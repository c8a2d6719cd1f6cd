"""Best and worst cases of a finished benchmark job, as one picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torchvision.tv_tensors import Mask

from anomalib_memmc.benchmark.config import override
from anomalib_memmc.benchmark.job import CONFIG_FILE, build
from anomalib_memmc.benchmark.predictions import relative_paths
from anomalib_memmc.callbacks.reconstructions import reconstruction_rows
from anomalib_memmc.register import register
from anomalib_memmc.reporting.pictures import draw_reconstructions

CASES_PER_KIND = 2


def draw_gallery(folder: Path, predictions: pd.DataFrame, title: str) -> Figure:
    """Draw the anomalies found best and those missed worst, the quietest normal images and the loudest false alarms.

    Args:
        folder: A job's folder with its configuration and checkpoint; the data set must be where it was.
        predictions: The job's predictions with ``path``, ``label`` and ``score``.
        title: Line above the picture.

    Returns:
        The figure; its rows run from the best to the worst case, anomalous images first.

    Raises:
        FileNotFoundError: If the job left no checkpoint.
        ValueError: If the job's model is no masked autoencoder.
    """
    model, datamodule = load_job(folder)
    if not hasattr(model.model, "reconstruct"):
        msg = f"{type(model).__name__} reconstructs nothing: a gallery needs a masked autoencoder."
        raise ValueError(msg)
    dataset = datamodule.test_data
    paths = relative_paths(dataset.samples["image_path"], getattr(datamodule, "root", None))
    index_of = {path: index for index, path in enumerate(paths)}
    items = [_item(dataset[index_of[case]], model) for case in choose_cases(predictions)]
    with torch.no_grad():
        rows = reconstruction_rows(model, items)
    return draw_reconstructions(rows, title=f"{title}: best cases first, then worst; anomalous, then normal")


def load_job(folder: Path, changes: Sequence[str] = (), checkpoint: Path | None = None) -> tuple[Any, Any]:
    """Build a finished job's model with its newest weights, and its data.

    Args:
        folder: The job's folder with its configuration and checkpoint; the data set must be where it was.
        changes: Values that replace those of the job's configuration, as ``"data.init_args.root=DIR"``.
        checkpoint: Another one of the job's checkpoints.

    Returns:
        The model in evaluation mode, and the data module, set up without training augmentations.

    Raises:
        FileNotFoundError: If the job left no checkpoint.
    """
    found = sorted(folder.rglob("weights/lightning/model.ckpt"), key=lambda path: path.stat().st_mtime)
    checkpoints = [checkpoint] if checkpoint else found
    if not checkpoints:
        msg = f"{folder} holds no checkpoint: give the folder in which the benchmark ran."
        raise FileNotFoundError(msg)
    register()
    model, datamodule, _ = build(override(json.loads((folder / CONFIG_FILE).read_text())["config"], changes))
    state = torch.load(checkpoints[-1], map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict(state)
    datamodule.train_augmentations = None
    datamodule.prepare_data()
    datamodule.setup()
    return model.eval(), datamodule


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
        predictions: Table with ``path``, ``label`` (0 or 1) and ``score``.
        per_kind: Images of each of the four kinds.

    Returns:
        At most four times ``per_kind`` paths.
    """
    paths = []
    for label in (1, 0):
        ordered = predictions[predictions["label"] == label].sort_values("score", ascending=label == 0)
        chosen = pd.concat([ordered.head(per_kind), ordered.tail(per_kind)])
        paths += chosen["path"].drop_duplicates().astype(str).tolist()
    return paths
