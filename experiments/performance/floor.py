"""How fast the machine multiplies matrices of a network's own sizes: what no network can be faster than."""

import math
from collections import Counter

import torch
from torch import Tensor
from torch.nn import functional

from anomalib_memmc import MaskedAutoencoder
from anomalib_memmc.scoring import MaskedScorer
from experiments.performance.timing import Call, Times, take_turns, without_gradients

PREFIX = "product "

_AT_LEAST = 2e9  # multiply-adds of a timed call: smaller products are repeated, so that their start does not count
_MOST_REPEATS = 100


class Floor:
    """The matrix products of a network alone, a call for each size, to be timed among what they are compared with.

    A call repeats its product until it does enough: some 20 ms on two cores in the presets.

    The floor of a call is the time of its multiply-adds at the products' best rate: of each size, the shortest time of
    all rounds. So noise of the machine makes it lower, never higher.

    Args:
        network: The network whose sizes to take.
        visible: Visible patches of a view.
        views: Masked views a product holds.
        like: A tensor of the type and device to multiply in.
    """

    def __init__(self, network: MaskedAutoencoder, visible: int, views: int, like: Tensor) -> None:
        wide, narrow = network.patch_embed.out_channels, network.decoder.embed.out_features
        seen, every, levels = views * (visible + 1), views * (network.num_patches + 1), len(network.levels)
        encoder, decoder = len(network.encoder.blocks), len(network.decoder.blocks)
        sizes = [(seen, wide, columns * wide, encoder) for columns in (3, 1, 4)]
        sizes += [(seen, 4 * wide, wide, encoder), (every, 4 * narrow, narrow, decoder)]
        sizes += [(every, narrow, columns * narrow, decoder) for columns in (3, 1, 4)]
        if levels:
            sizes += [
                (views * visible * levels, wide, 2 * narrow, decoder),
                (every, narrow, narrow, 3 * levels * decoder),
            ]
        self.sizes: Counter[tuple[int, int, int]] = Counter()
        for rows, inner, columns, count in sizes:
            self.sizes[rows, inner, columns] += count
        self.multiply_adds = sum(math.prod(size) * count for size, count in self.sizes.items())
        self.repeats = {size: min(_MOST_REPEATS, math.ceil(_AT_LEAST / math.prod(size))) for size in self.sizes}
        self.calls = {_name(size): _product(size, like, repeats) for size, repeats in self.repeats.items()}

    def rate(self, times: dict[str, Times]) -> float:
        """Multiply-adds a second, of the times of all that was timed."""
        seconds = {size: times[_name(size)].best / repeats for size, repeats in self.repeats.items()}
        return self.multiply_adds / sum(seconds[size] * count for size, count in self.sizes.items())

    def measure(self, rounds: int) -> float:
        """Multiply-adds a second, where there is nothing to compare with."""
        return self.rate(take_turns(self.calls, rounds))


def scoring_floor(network: MaskedAutoencoder, scorer: MaskedScorer, images: Tensor) -> Floor:
    """The floor of scoring images (B, C, H, W), with as many masked views in a product as the scorer takes at once."""
    views = min(scorer.num_masks * len(images), scorer.views_at_once(network))
    return Floor(network, scorer.visible.shape[1], views, images)


def _name(size: tuple[int, int, int]) -> str:
    return PREFIX + " x ".join(map(str, size))


def _product(size: tuple[int, int, int], like: Tensor, repeats: int) -> Call:
    rows, inner, columns = size
    x, weight = (torch.rand(count, inner, dtype=like.dtype, device=like.device) for count in (rows, columns))

    def run() -> None:
        for _ in range(repeats):
            functional.linear(x, weight)

    return without_gradients(run)


def bfloat16_is_slow(like: Tensor) -> str:
    """Why bfloat16 is not measured, or nothing: processors without such instructions take many times as long."""
    x = torch.rand(512, 512, device=like.device)
    half = x.bfloat16()
    times = take_turns({"float32": lambda: x @ x, "bfloat16": lambda: half @ half}, rounds=3)
    ratio = times["bfloat16"].over(times["float32"]).median
    reason = f"not measured: a bfloat16 product takes {ratio:.0f} times a float32 one on this processor"
    return reason if ratio > 1 else ""
