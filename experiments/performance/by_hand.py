"""What the backward pass written by hand gains the attention to the levels on a CPU, over automatic differentiation.

    python -m experiments.performance.by_hand --batch 8 --rounds 7

Prints its time against that of automatic differentiation, for all that may be computed again, and the largest
difference of a gradient.
"""

import argparse
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from anomalib_memmc.detection.options import number_from
from anomalib_memmc.model.layers.attention import MultiLevelCrossAttention
from experiments.performance.timing import take_turns
from experiments.performance.training import RECOMPUTE

DIM, ENCODER_DIM, HEADS, LEVELS, TOKENS, VISIBLE = 512, 768, 16, 12, 197, 49  # the paper's preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=number_from(1), default=8)
    parser.add_argument("--rounds", type=number_from(1), default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    module = MultiLevelCrossAttention(DIM, ENCODER_DIM, HEADS, LEVELS).train()
    x = torch.randn(options.batch, TOKENS, DIM, requires_grad=True)
    levels = torch.randn(LEVELS, options.batch, VISIBLE, ENCODER_DIM, requires_grad=True)
    upstream = torch.randn(options.batch, TOKENS, DIM)

    def gradients(what: str, by_hand: bool) -> tuple[Tensor, ...]:
        with (
            patch.object(module, "recompute", what),
            patch.object(module, "_trains_on_a_cpu", lambda _: by_hand),
        ):
            return torch.autograd.grad(module(x, levels), [x, levels, *module.parameters()], upstream)

    for what in RECOMPUTE[:-1]:  # with "decoder" as with "attention", here
        calls = {"by hand": partial(gradients, what, True), "automatic": partial(gradients, what, False)}
        pairs = zip(*(call() for call in calls.values()), strict=True)
        largest = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
        times = take_turns(calls, options.rounds)
        ratio = times["by hand"].over(times["automatic"])
        print(
            f"batch {options.batch}, recompute: {what}: by hand takes {ratio} of the time of automatic differentiation;"
        )
        print(f"  a gradient differs by at most {largest:.1e} of its largest value")


if __name__ == "__main__":
    main()
