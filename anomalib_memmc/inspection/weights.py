"""The weights inside the two operators, computed again from what goes into them.

Attention goes through fused kernels that do not give its weights away. So hooks take the inputs of each operator, and
the weights are computed beside it; the model itself is left alone.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anomalib_memmc.model.layers.attention import MemoryAttention, MultiLevelCrossAttention
from anomalib_memmc.model.network import MaskedAutoencoder

Hook = Callable[[Any, Any], None]


def memory_attentions(network: MaskedAutoencoder) -> list[MemoryAttention]:
    """The attentions of the encoder's layers, if they have memory; none if not."""
    attentions = [module for module in network.encoder.modules() if isinstance(module, MemoryAttention)]
    return [attention for attention in attentions if attention.memory_key is not None]


def cross_attentions(network: MaskedAutoencoder) -> list[MultiLevelCrossAttention]:
    """The cross-attentions of the decoder's blocks; none if it attends to no levels."""
    return [module for module in network.decoder.modules() if isinstance(module, MultiLevelCrossAttention)]


def memory_weights(attention: MemoryAttention, x: Tensor) -> Tensor:
    """Attention weights of the memory slots (eq. 1).

    Args:
        attention: An attention with S memory slots.
        x: The tokens that it attends from and to (B, N, D).

    Returns:
        Weights (B, heads, N, S), the slots' part of a softmax over tokens and slots.

    Raises:
        ValueError: If the attention has no memory.
    """
    if attention.memory_key is None:
        msg = "This attention has no memory: build the model with memory_slots above 0."
        raise ValueError(msg)
    query, key, _ = attention.qkv(x).chunk(3, dim=-1)
    key = torch.cat([key, attention.memory_key.to(key.dtype).expand(len(x), -1, -1)], dim=1)
    query, key = (each.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for each in (query, key))
    weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)
    return weights[..., x.shape[1] :]


def gate_means(attention: MultiLevelCrossAttention, x: Tensor, levels: Tensor) -> Tensor:
    """Mean gate of every level (eq. 3), over the tokens and channels that it has a value for.

    Args:
        attention: The cross-attention of a decoder block.
        x: Decoder tokens S (B, N, D).
        levels: Normalised encoder levels X_l (L, B, V, E).

    Returns:
        Means (B, L), in (0, 1).
    """
    query, means = attention.query(x), []
    of_self, of_context = attention.gate_weight.chunk(2, dim=1)
    for level, *weights in zip(
        levels.split(1), of_self.split(1), of_context.split(1), attention.gate_bias.split(1), strict=True
    ):
        contexts = attention._contexts(query, attention.key_value(level))
        means.append(attention._gates(x, contexts, *weights)[0].mean(dim=(1, 2)))
    return torch.stack(means, dim=1)


def effective_number(weights: Tensor) -> Tensor:
    """How many of S slots are used: exp of the entropy of their weights.

    Args:
        weights: Attention to the slots (..., S), >= 0; its sum does not matter.

    Returns:
        Numbers (...) from 1, where one slot gets everything, to S, where all get the same.
    """
    shares = weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return torch.special.entr(shares).sum(dim=-1).exp()


class Watched(NamedTuple):
    """What was seen in the passes, one row a masked view.

    Attributes:
        slots: For each encoder layer with memory, the weights of its slots (B, S) in each pass, mean over heads and
            queries.
        breadths: For each of them, how many slots a single query uses (B, 1), mean over heads and queries.
        gates: For each decoder block with levels, the mean gates (B, L) in each pass.
    """

    slots: list[list[Tensor]]
    breadths: list[list[Tensor]]
    gates: list[list[Tensor]]


@contextmanager
def watch(network: MaskedAutoencoder) -> Iterator[Watched]:
    """Note the weights of both operators in every pass within the context.

    Args:
        network: The network; afterwards it is as it was.

    Yields:
        What is seen, growing with each pass.
    """
    seen = Watched([], [], [])
    with ExitStack() as hooks:
        for attention in memory_attentions(network):
            seen.slots.append([])
            seen.breadths.append([])
            hook = _memory_into(seen.slots[-1], seen.breadths[-1])
            hooks.enter_context(attention.register_forward_pre_hook(hook))
        for cross in cross_attentions(network):
            seen.gates.append([])
            hooks.enter_context(cross.register_forward_pre_hook(_gates_into(seen.gates[-1])))
        yield seen


def _memory_into(slots: list[Tensor], breadths: list[Tensor]) -> Hook:
    def note(module: Any, inputs: Any) -> None:
        weights = memory_weights(module, inputs[0])
        slots.append(weights.mean(dim=(1, 2)))
        breadths.append(effective_number(weights).mean(dim=(1, 2))[:, None])

    return note


def _gates_into(passes: list[Tensor]) -> Hook:
    return lambda module, inputs: passes.append(gate_means(module, *inputs))
