"""Seconds and multiply-adds of calls, and how fast the machine multiplies."""

import statistics
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anomalib_memmc import MaskedAutoencoder

Call = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)


def take_turns(calls: dict[Key, Call], rounds: int) -> dict[Key, float]:
    """Median seconds of each call; all calls run in every round.

    Args:
        calls: What to time, by name.
        rounds: Rounds that count, after one that does not.

    Returns:
        Seconds by name.
    """
    times: dict[Key, list[float]] = {name: [] for name in calls}
    for counted in [False, *[True] * rounds]:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if counted:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def without_gradients(call: Call) -> Call:
    """The same call in inference mode."""

    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


def multiply_adds(call: Call) -> int:
    """Multiply-adds of all products.

    Attention is counted as two explicit products, as the counter knows no fused one on a CPU; nor in-place products.
    """

    def in_place(_: torch.Size, left: torch.Size, right: torch.Size, **__: object) -> int:
        return 2 * left.numel() * right[-1]

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: in_place})
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        call()
    return counter.get_total_flops() // 2


class Products:
    """The matrix products of a network alone, at their own sizes: how fast the machine multiplies.

    Args:
        network: The network whose sizes to take.
        visible: Visible patches of a view.
        views: Masked views a product holds.
    """

    def __init__(self, network: MaskedAutoencoder, visible: int, views: int) -> None:
        wide, narrow = network.patch_embed.out_channels, network.decoder.embed.out_features
        seen, every, levels = views * (visible + 1), views * (network.num_patches + 1), len(network.levels)
        encoder, decoder = len(network.encoder.blocks), len(network.decoder.blocks)
        sizes = [(seen, wide, columns * wide, encoder) for columns in (3, 1, 4)]
        sizes += [(seen, 4 * wide, wide, encoder), (every, 4 * narrow, narrow, decoder)]
        sizes += [(every, narrow, columns * narrow, decoder) for columns in (3, 1, 4)]
        sizes += [(views * visible * levels, wide, 2 * narrow, decoder), (every, narrow, narrow, 3 * levels * decoder)]
        self.operands = [
            (torch.rand(rows, inner), torch.rand(columns, inner), -(-count // encoder))
            for rows, inner, columns, count in sizes
        ]
        self.multiply_adds = sum(len(x) * w.numel() * count for x, w, count in self.operands)

    def __call__(self) -> None:
        """Run the products of about one layer."""
        for x, weight, count in self.operands:
            for _ in range(count):
                functional.linear(x, weight)


def bfloat16_is_slow() -> str:
    """Why bfloat16 is not measured, or nothing: processors without such instructions take many times as long."""
    x = torch.rand(512, 512)
    half = x.bfloat16()
    seconds = take_turns({"float32": lambda: x @ x, "bfloat16": lambda: half @ half}, rounds=3)
    ratio = seconds["bfloat16"] / seconds["float32"]
    reason = f"not measured: a bfloat16 product takes {ratio:.0f} times a float32 one on this processor"
    return reason if ratio > 1 else ""
