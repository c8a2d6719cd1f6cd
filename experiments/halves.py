"""Two halves of the test images: a choice is made on half A, and half B tells what it is worth."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomalib_memmc.data.base.grouping import draw_groups

PATIENT = r"(?:^|/)((?:person|IM-|NORMAL2-IM-)\d+|\d{8}(?=_))"
"""Where the names of kermany's and NIH's files tell the patient."""


def halves(
    samples: pd.DataFrame, stratum: str | None = None
) -> tuple[NDArray[np.int_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Labels of the test images, and which are in half A and in half B.

    Args:
        samples: The test part's table of N rows, as a data module has it.
        stratum: Of the anomalous images only those of this stratum are in a half; None keeps all.

    Returns:
        Labels (N,), 0 or 1; members of half A (N,); members of half B (N,).
    """
    labels = samples["label_index"].to_numpy()
    strata = samples.get("stratum", samples["label"]).astype(str)
    keep = (labels == 0) | (strata == stratum).to_numpy() if stratum else np.full(len(labels), True)
    half = first_half(labels, samples)
    return labels, keep & half, keep & ~half


def first_half(labels: NDArray[np.int_], samples: pd.DataFrame, seed: int = 0) -> NDArray[np.bool_]:
    """Whether an image is in half A, about half of each class, drawn once, whole patients at a time.

    Args:
        labels: 0 or 1 of each image, shape (N,).
        samples: Table of N rows with ``image_path``; a column ``group``, where there is one, tells what stays together.
        seed: Seed of the draw.

    Returns:
        Boolean array (N,).
    """
    files = samples["image_path"].astype(str)
    groups = samples["group"] if "group" in samples else files.str.extract(PATIENT, expand=False).fillna(files)
    half = np.zeros(len(labels), dtype=bool)
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        drawn, _ = draw_groups(list(groups.to_numpy()[members]), len(members) // 2, seed)
        half[members[drawn]] = True
    return half
