"""The inspection itself: what memory and levels do while a test part is scored, and what is lost without them."""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from anomalib_memmc.inspection.images import Images
from anomalib_memmc.inspection.losses import loss_rows
from anomalib_memmc.inspection.passes import Seen, look, scoring_masks
from anomalib_memmc.inspection.start import memory_moves
from anomalib_memmc.inspection.table import ALL, ANOMALOUS, NORMAL, Row, by_class, to_table
from anomalib_memmc.inspection.weights import effective_number
from anomalib_memmc.model import MemMCMAE
from anomalib_memmc.model.network import MaskedAutoencoder


@torch.no_grad()
@torch.compiler.set_stance("force_eager")  # compiled blocks would not see the hooks
def inspect_operators(model: MemMCMAE, test: Images, is_anomalous: Tensor, normals: Images) -> pd.DataFrame:
    """Measure what memory and levels do on test images, and what is lost when they are switched off.

    Args:
        model: The model in evaluation mode; afterwards it is as it was.
        test: Test images.
        is_anomalous: Which of them are anomalous, boolean (I,).
        normals: Normal training images, which a scorer that learns is refitted to each time.

    Returns:
        A table with the columns of :class:`~anomalib_memmc.inspection.table.Row`, and these measures:

        - ``image_count``, ``refit_count``: test images, and normal images that the scorer was refitted to;
        - ``memory_slots``, ``even_share``: slots of a layer, and their share of the attention if it were even;
        - ``memory_share``: share of the attention of a layer that its slots get (eq. 1);
        - ``slots_used``: exp of the entropy of a layer's mean attention to its slots, from 1 to ``memory_slots``;
          ``slots_of_a_query`` is the same for the attention of a single query and head, then averaged;
        - ``memory_move``: distance of a layer's memory from its initial values, relative to their norm, where these are
          known (:func:`~anomalib_memmc.inspection.start.memory_moves`);
        - ``gate``: mean gate of a level in a decoder block (eq. 3);
        - ``squared_error``, ``squared_error_change``: mean squared error of hidden patches, and its relative change,
          image by image, by what is switched off;
        - ``image_AUROC``, ``image_AUROC_change``: with what is switched off, the scorer refitted without it;
          ``image_AUROC_not_refitted``: the scorer as it is in the checkpoint.

    Raises:
        ValueError: If the test images are of one class only.
    """
    if bool(is_anomalous.all()) or not bool(is_anomalous.any()):
        msg = "An inspection needs normal and anomalous test images."
        raise ValueError(msg)
    torch_model = model.model
    masks = scoring_masks(torch_model, test)
    seen = look(torch_model.network, test, masks)
    return to_table(
        [
            *_counts(is_anomalous, len(normals) if torch_model.scorer.learns else 0),
            *_memory_rows(seen, is_anomalous),
            *(Row("memory_move", ALL, move, block=layer) for layer, move in enumerate(memory_moves(model), start=1)),
            *_gate_rows(torch_model.network, seen.gates, is_anomalous),
            *loss_rows(torch_model, test, is_anomalous, normals, masks, seen.errors),
        ]
    )


def _counts(is_anomalous: Tensor, refitted: int) -> Iterator[Row]:
    anomalous = int(is_anomalous.sum())
    yield Row("image_count", NORMAL, len(is_anomalous) - anomalous)
    yield Row("image_count", ANOMALOUS, anomalous)
    yield Row("refit_count", NORMAL, refitted)


def _memory_rows(seen: Seen, is_anomalous: Tensor) -> Iterator[Row]:
    """Share and use of the slots."""
    if seen.slots is None or seen.breadths is None:
        return
    num_slots = seen.slots.shape[2]
    yield Row("memory_slots", ALL, num_slots)
    yield Row("even_share", ALL, num_slots / (num_slots + seen.tokens))
    for layer, of_layer in enumerate(seen.slots.unbind(dim=1), start=1):
        yield from by_class("memory_share", of_layer.sum(dim=1), is_anomalous, block=layer)
        yield Row("slots_used", ALL, effective_number(of_layer.mean(dim=0)).item(), block=layer)
        yield from by_class("slots_of_a_query", seen.breadths[:, layer - 1], is_anomalous, block=layer)


def _gate_rows(network: MaskedAutoencoder, gates: Tensor | None, is_anomalous: Tensor) -> Iterator[Row]:
    """Mean gates (I, blocks, L)."""
    if gates is None:
        return
    for block, of_block in enumerate(gates.unbind(dim=1), start=1):
        for level, values in zip(network.levels, of_block.unbind(dim=1), strict=True):
            yield from by_class("gate", values, is_anomalous, block=block, level=level)
