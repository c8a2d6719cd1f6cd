"""Long residual connections from early to late blocks, for the encoder and the decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LongSkips(nn.Module):
    """Adds the output of block i to the input of block ``depth - 1 - i`` (paper: "residual connections ... from
    earlier to later blocks"; the pairing and the scale are not in the paper).

    With an even depth the innermost pair are neighbours, and the connection scales what is there already.

    Each connection has a learnable scale that starts at zero, so that a pretrained network behaves as before at step 0.

    Args:
        depth: Number of blocks.
        enabled: False makes it the identity, without parameters.
    """  # noqa: D205

    def __init__(self, depth: int, enabled: bool = True) -> None:
        super().__init__()
        self.depth = depth
        self.scale = nn.Parameter(torch.zeros(depth // 2)) if enabled and depth > 1 else None

    def forward(self, index: int, x: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """The input of block ``index``.

        Args:
            index: Index of the block about to run, from 0.
            x: Its input without the connection (B, N, D).
            outputs: Outputs of the blocks before it, each (B, N, D).

        Returns:
            (B, N, D).
        """
        source = self.depth - 1 - index
        if self.scale is None or source >= index:
            return x
        return x + self.scale[source] * outputs[source]
