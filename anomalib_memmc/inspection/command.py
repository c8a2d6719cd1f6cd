"""The ``inspect`` command: what memory and levels do in a checkpoint."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from anomalib_memmc.accelerators import require_device
from anomalib_memmc.benchmark.checkpoint import checkpoint_parser, load
from anomalib_memmc.benchmark.figures import save
from anomalib_memmc.inspection.figure import draw
from anomalib_memmc.inspection.images import Images
from anomalib_memmc.inspection.operators import inspect_operators
from anomalib_memmc.inspection.report import report

NAME = "inspect"


def main(argv: Sequence[str]) -> int:
    """Run ``anomalib-memmc inspect``.

    Args:
        argv: The arguments after ``inspect``.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: If the checkpoint or the configuration does not exist.
        ValueError: If the checkpoint is none of MemMC-MAE, there is no such stratum or device, or the test part has one
            class only.
    """
    parser = checkpoint_parser(
        NAME,
        "Measure what the memory and the encoder levels do in a checkpoint, and what is lost without them.",
        f"{NAME}.csv, {NAME}.txt and {NAME}.png",
    )
    parser.add_argument("--stratum", help="take only the anomalous test images of this stratum")
    parser.add_argument("--device", default="cpu", help="where to compute, such as cuda")
    arguments, overrides = parser.parse_known_args(argv)
    require_device(arguments.device)
    model, datamodule = load(arguments.checkpoint, arguments.config, overrides)
    model.to(arguments.device)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("anomalib_memmc.inspection").setLevel(logging.INFO)  # it takes minutes: say where it is
    rows = test_rows(datamodule.test_data.samples, arguments.stratum)
    test = Images(datamodule.test_data, model, rows)
    is_anomalous = torch.tensor(datamodule.test_data.samples["label_index"].to_numpy()[rows] == 1)
    normals = Images(getattr(datamodule, "normal_data", datamodule.train_data), model)
    table = inspect_operators(model, test, is_anomalous, normals)
    text = report(table)
    arguments.output.mkdir(parents=True, exist_ok=True)
    paths = [arguments.output / f"{NAME}.{kind}" for kind in ("csv", "txt", "png")]
    table.to_csv(paths[0], index=False)
    paths[1].write_text(text, encoding="utf-8")
    save(draw(table), paths[2])
    print(text, *paths, sep="\n")
    return 0


def test_rows(samples: Any, stratum: str | None) -> list[int]:
    """Rows of a test part's normal images, and of its anomalous ones, or those of one stratum.

    Args:
        samples: Its table of samples.
        stratum: The stratum; None takes all.

    Raises:
        ValueError: If no anomalous image is of the stratum.
    """
    is_normal = samples["label_index"].to_numpy() == 0
    if stratum is None:
        return list(range(len(samples)))
    strata = samples["stratum"].astype(str) if "stratum" in samples else samples["label"].astype(str)
    chosen = (strata == stratum).to_numpy() & ~is_normal
    if not chosen.any():
        known = ", ".join(sorted(set(strata[~is_normal])))
        msg = f"No anomalous test image is of the stratum {stratum!r}; there are: {known}."
        raise ValueError(msg)
    return [int(row) for row in np.flatnonzero(is_normal | chosen)]
