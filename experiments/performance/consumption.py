"""Images a second that a training on a GPU consumes, by arithmetic."""

from dataclasses import dataclass

from experiments.performance.presets import presets
from experiments.performance.training import multiply_adds_of_a_loss

SHARE = 0.4  # of the card's rate: an assumption, what well-written trainings of transformers reach
PASSES = 3  # forward, and twice as much backward: products for the gradients of inputs and of weights
FLOP = 2  # of a multiply-add


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: Its name.
        rate: Dense products of bfloat16 with float32 sums, in FLOP a second, by its maker.
    """

    name: str
    rate: float


CARDS = (
    Card("RTX 3090", 71e12),  # NVIDIA Ampere GA102 GPU Architecture, table of the GeForce RTX 3090
    Card("H100 SXM", 989e12),  # NVIDIA H100 Tensor Core GPU data sheet, 1,979 with sparsity
)


def consumption() -> dict[str, float]:
    """Images a second of a training of the paper's preset, by card."""
    paper, *_ = presets(quick=False)
    flop = FLOP * PASSES * multiply_adds_of_a_loss(paper)
    return {card.name: SHARE * card.rate / flop for card in CARDS}
