"""The memory-augmented encoder: a ViT over the visible patches that returns every level."""

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from anomalib_memmc.model.layers.attention import MemoryAttention
from anomalib_memmc.model.layers.long_skips import LongSkips


class EncoderBlock(nn.Module):
    """Pre-norm transformer block with memory-augmented self-attention (eq. 1) and an MLP.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads.
        memory_slots: Number of memory keys and values, 0 for a plain ViT block.
    """

    def __init__(self, dim: int, num_heads: int, memory_slots: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MemoryAttention(dim, num_heads, memory_slots)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, D) -> tokens (B, N, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Stack of memory-augmented blocks.

    Args:
        dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Number of heads of each block.
        memory_slots: Memory keys and values of each block, 0 for none.
        long_skips: Whether the output of block i is added to the input of block ``depth - 1 - i``.
    """

    def __init__(self, dim: int, depth: int, num_heads: int, memory_slots: int, long_skips: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(dim, num_heads, memory_slots) for _ in range(depth))
        self.skips = LongSkips(depth, enabled=long_skips)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor, levels: tuple[int, ...] = ()) -> tuple[Tensor, Tensor | None]:
        """Encode visible tokens.

        Args:
            x: Class token and visible patch tokens (B, 1 + V, D).
            levels: Levels l to return, as the paper counts them: 1 is the output of the first block.

        Returns:
            The normalised output (B, 1 + V, D), and the patch tokens of the requested levels, without the class token,
            (L, B, V, D), or None where no level was asked for.
        """
        outputs: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            outputs.append(block(self.skips(index, x, outputs)))
            x = outputs[-1]
        stacked = torch.stack([outputs[level - 1][:, 1:] for level in levels]) if levels else None
        return self.norm(x), stacked
