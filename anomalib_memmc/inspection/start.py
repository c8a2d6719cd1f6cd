"""How far training has moved the memory from its initial, random values."""

import torch
from torch import Tensor

from anomalib_memmc.inspection.weights import memory_attentions
from anomalib_memmc.model import MemMCMAE
from anomalib_memmc.model.network import MaskedAutoencoder

_FAR = 0.5  # unrelated values of the same size are 1.4 apart


def memory_moves(model: MemMCMAE) -> list[float]:
    """Distance of each layer's memory keys and values from those that the model's seed makes, relative to their norm.

    Args:
        model: A trained model.

    Returns:
        One number >= 0 a layer; none without memory or seed, or where a layer is so far away that its values may have
        begun otherwise, such as in another version of torch.
    """
    if model.seed is None or not memory_attentions(model.model.network):
        return []
    network = MemMCMAE(seed=model.seed, **{**model.model.network.init_args, "compile": False}).model.network
    before, after = _memories(network), _memories(model.model.network)
    moves = [((new - old).norm() / old.norm()).item() for old, new in zip(before, after, strict=True)]
    return moves if max(moves) < _FAR else []


def _memories(network: MaskedAutoencoder) -> list[Tensor]:
    """Keys and values of each layer, joined (2, S, D)."""
    parts = [(attention.memory_key, attention.memory_value) for attention in memory_attentions(network)]
    return [torch.cat([part.detach().cpu() for part in pair if part is not None]) for pair in parts]
