"""Parts of the two operators switched off, for as long as a context lasts."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from anomalib_memmc.inspection.weights import cross_attentions, memory_attentions
from anomalib_memmc.model.network import MaskedAutoencoder

NOTHING = "nothing"
MEMORY = "memory"
DIFFERENCES = "differences of slots"


def parts_off(network: MaskedAutoencoder) -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """What can be switched off.

    Args:
        network: The network.

    Returns:
        Name -> a context in which it is off. First nothing, then the memory, the differences between its slots, each
        level, and from three levels on all but the last; what the network does not have is left out.
    """
    parts: dict[str, Callable[[], AbstractContextManager[None]]] = {NOTHING: nullcontext}
    if memory_attentions(network):
        parts[MEMORY] = partial(memory_off, network)
        parts[DIFFERENCES] = partial(slots_alike, network)
    for level in network.levels:
        parts[level_name(level)] = partial(levels_off, network, {level})
    if len(network.levels) > 2:
        *others, last = network.levels
        parts[f"all levels but {last}"] = partial(levels_off, network, others)
    return parts


def level_name(level: int) -> str:
    """What a level is called where it is switched off."""
    return f"level {level}"


@contextmanager
def memory_off(network: MaskedAutoencoder) -> Iterator[None]:
    """Leave the memory slots out of every attention: the softmax runs over the tokens alone.

    Args:
        network: The network; afterwards it is as it was.
    """
    attentions = memory_attentions(network)
    keys = [attention.memory_key for attention in attentions]
    try:
        for attention in attentions:
            attention.memory_key = None  # without keys the values are not looked at
        yield
    finally:
        for attention, key in zip(attentions, keys, strict=True):
            attention.memory_key = key


@contextmanager
def slots_alike(network: MaskedAutoencoder) -> Iterator[None]:
    """Replace every memory key and value by the mean of its layer's, so that the memory is one vector.

    Args:
        network: The network; afterwards it is as it was.
    """
    memories = [part for each in memory_attentions(network) for part in (each.memory_key, each.memory_value)]
    with _restored([part for part in memories if part is not None]) as parts:
        for part in parts:
            part.copy_(part.mean(dim=1, keepdim=True).expand_as(part))
        yield


@contextmanager
def levels_off(network: MaskedAutoencoder, levels: Collection[int]) -> Iterator[None]:
    """Close the gates of some levels in every decoder block, so that the levels add nothing to eq. 2.

    The sum is still divided by the root of the number of all levels.

    Args:
        network: The network; afterwards it is as it was.
        levels: Levels that the decoder attends to, counted from 1.

    Raises:
        ValueError: If the decoder does not attend to one of the levels.
    """
    if unknown := set(levels) - set(network.levels):
        msg = f"The decoder attends to the levels {list(network.levels)}, not to {sorted(unknown)}."
        raise ValueError(msg)
    closed = [network.levels.index(level) for level in levels]
    with _restored([cross.gate_bias for cross in cross_attentions(network)]) as biases:
        for bias in biases:
            bias[closed] = -torch.inf  # its sigmoid is exactly 0
        yield


@contextmanager
def _restored(parameters: list[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Give the values of parameters to change, and undo it."""
    values = [parameter.data for parameter in parameters]
    kept = [value.clone() for value in values]
    try:
        yield values
    finally:
        for value, before in zip(values, kept, strict=True):
            value.copy_(before)
