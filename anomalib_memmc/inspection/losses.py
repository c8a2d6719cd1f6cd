"""What is lost when parts of the operators are switched off: detection, and reconstruction."""

import logging
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from anomalib_memmc.inspection.ablation import NOTHING, parts_off
from anomalib_memmc.inspection.images import Images
from anomalib_memmc.inspection.passes import squared_errors
from anomalib_memmc.inspection.table import ALL, Row, by_class
from anomalib_memmc.metrics import Estimate, matched_auroc, paired_difference
from anomalib_memmc.model.network import MaskedAutoencoder
from anomalib_memmc.model.torch_model import MemMCMAEModel
from anomalib_memmc.scoring import Scorer

logger = logging.getLogger(__name__)


class Judged(NamedTuple):
    """Scores of I test images.

    Attributes:
        scores: By the scorer, refitted to normal images if it learns (I,).
        not_refitted: By the scorer as it is (I,); None if it does not learn, which makes it the same.
    """

    scores: np.ndarray
    not_refitted: np.ndarray | None


def loss_rows(
    model: MemMCMAEModel, test: Images, is_anomalous: Tensor, normals: Images, masks: Tensor, errors: Tensor
) -> Iterator[Row]:
    """Measure detection and reconstruction with each part switched off, first with none.

    A scorer that learns is refitted each time, since it knows the errors of normal images with everything on; else any
    change would make all images look unusual.

    Args:
        model: The model in evaluation mode; afterwards it is as it was.
        test: Test images.
        is_anomalous: Which of them are anomalous, boolean (I,).
        normals: Normal images to refit to.
        masks: The masks of the squared errors (M, N).
        errors: Squared error of each test image with everything on (I,).
    """
    labels = is_anomalous.int().numpy()
    everything: Judged | None = None
    for off, switched in parts_off(model.network).items():
        logger.info("Scoring with %s switched off", off)
        with switched():
            judged = judge(model, test, normals)
            errors_now = errors if off == NOTHING else squared_errors(model.network, test, masks)
        everything = everything or judged
        yield from by_class("squared_error", errors_now, is_anomalous, off=off)
        yield _row("image_AUROC", matched_auroc(judged.scores, labels, None), off)
        if judged.not_refitted is not None:
            yield _row("image_AUROC_not_refitted", matched_auroc(judged.not_refitted, labels, None), off)
        if off != NOTHING:
            yield from by_class("squared_error_change", errors_now / errors - 1, is_anomalous, off=off)
            yield _row("image_AUROC_change", paired_difference(judged.scores, everything.scores, labels), off)


@torch.no_grad()
def judge(model: MemMCMAEModel, test: Images, normals: Images) -> Judged:
    """Score test images with the network as it is now; the model's own scorer learns nothing.

    Args:
        model: The model in evaluation mode.
        test: Test images.
        normals: Normal images to refit a copy of the scorer to.
    """
    before = _scores(model.scorer, model.network, test)
    if not model.scorer.learns:
        return Judged(before, None)
    refitted = deepcopy(model.scorer)
    refitted.fit(model.network, normals)
    return Judged(_scores(refitted, model.network, test), before)


def _scores(scorer: Scorer, network: MaskedAutoencoder, images: Images) -> np.ndarray:
    return torch.cat([scorer.score(network, batch).pred_score for batch in images]).double().cpu().numpy()


def _row(measure: str, estimate: Estimate, off: str) -> Row:
    return Row(measure, ALL, estimate.value, estimate.standard_error, off=off)
