"""The multi-level cross-attention decoder: from visible tokens to the pixels of every patch."""

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from anomalib_memmc.model.layers.attention import (
    Gate,
    MemoryAttention,
    MultiLevelCrossAttention,
    Recompute,
    recomputed,
)
from anomalib_memmc.model.layers.long_skips import LongSkips
from anomalib_memmc.model.layers.positions import sincos_positions


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, N, D) at indices (B, K) -> (B, K, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


class DecoderBlock(nn.Module):
    """Pre-norm transformer block: self-attention, cross-attention to the encoder's levels, MLP.

    With ``S = Y + SA(LN(Y))`` the block's output is ``Z + MLP(LN(Z))`` where ``Z`` is the gated sum over the levels of
    eq. 2, taken of ``LN(S)`` (pre-norm is not in the paper), or ``S`` itself where there are no levels: the block of a
    plain MAE.

    Args:
        dim: Width of the decoder tokens.
        num_heads: Number of heads.
        encoder_dim: Width of the encoder tokens.
        num_levels: Number of encoder levels to attend to, 0 for none.
        gate: Granularity of the gates of eq. 3.
        cross_residual: Whether ``S`` is added to the gated sum. Eq. 2 has no such term.
        recompute: What training computes again in the backward pass.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        encoder_dim: int,
        num_levels: int,
        gate: Gate,
        cross_residual: bool,
        recompute: Recompute,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MemoryAttention(dim, num_heads)
        self.cross_residual = cross_residual
        if num_levels:
            self.norm_cross = nn.LayerNorm(dim, eps=1e-6)
            self.cross_attn = MultiLevelCrossAttention(dim, encoder_dim, num_heads, num_levels, gate, recompute)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor, levels: Tensor | None, queries: Tensor | None = None) -> Tensor:
        """Run the block.

        Args:
            x: Tokens (B, N, D).
            levels: Normalised encoder levels (L, B, V, E), or None.
            queries: Indices of the tokens to compute the output of (B, K); None for all.

        Returns:
            Tokens (B, N, D), or (B, K, D).
        """
        normed = self.norm1(x)
        if queries is None:
            x = x + self.attn(normed)
        else:
            x = take_tokens(x, queries) + self.attn(normed, take_tokens(normed, queries))
        if levels is not None:
            fused = self.cross_attn(self.norm_cross(x), levels)
            x = x + fused if self.cross_residual else fused
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """Predicts the pixels of all patches from the encoder's visible tokens.

    Args:
        dim: Width of the decoder tokens.
        depth: Number of blocks.
        num_heads: Number of heads of each block.
        encoder_dim: Width of the encoder tokens.
        grid: Number of patches (rows, columns).
        patch_values: Values of one patch: patch size squared times channels.
        num_levels: Number of encoder levels every block attends to, 0 for a plain MAE decoder.
        gate: Granularity of the gates of eq. 3.
        cross_residual: Whether the decoder tokens are added to the gated sum of eq. 2.
        long_skips: Whether the output of block i is added to the input of block ``depth - 1 - i``.
        recompute: What training computes again in the backward pass: ``"nothing"``, the attention to the levels
            (``"attention"``), their gates as well (``"gates"``), or all but the inputs of the blocks (``"decoder"``).
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        encoder_dim: int,
        grid: tuple[int, int],
        patch_values: int,
        num_levels: int,
        gate: Gate,
        cross_residual: bool,
        long_skips: bool,
        recompute: Recompute = "attention",
    ) -> None:
        super().__init__()
        self.recompute: Recompute = recompute
        self.needs_all_tokens = gate == "scalar" and num_levels > 0  # such a gate is a mean over all of them
        self.embed = nn.Linear(encoder_dim, dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", sincos_positions(dim, grid))
        self.level_norms = nn.ModuleList(nn.LayerNorm(encoder_dim, eps=1e-6) for _ in range(num_levels))
        self.blocks = nn.ModuleList(
            DecoderBlock(
                dim,
                num_heads,
                encoder_dim=encoder_dim,
                num_levels=num_levels,
                gate=gate,
                cross_residual=cross_residual,
                recompute=recompute,
            )
            for _ in range(depth)
        )
        self.skips = LongSkips(depth, enabled=long_skips)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pred = nn.Linear(dim, patch_values)

    def forward(self, encoded: Tensor, levels: Tensor | None, visible: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Predict every patch, or only the hidden ones, which spares the last block and the head the others.

        Args:
            encoded: The encoder's output: class token and visible patches (B, 1 + V, E).
            levels: Patch tokens of the encoder levels (L, B, V, E), or None for a plain MAE decoder.
            visible: Index of each visible patch in the image (B, V), int64.
            hidden: Index of each patch to predict (B, K), int64; None for all.

        Returns:
            Patch values (B, N, P), or (B, K, P), every patch as predicted.
        """
        embedded = self.embed(encoded)
        x = self._with_mask_tokens(embedded, visible) + self.pos_embed
        if levels is not None:
            levels = torch.stack([norm(level) for norm, level in zip(self.level_norms, levels, strict=True)])
            levels = levels.to(embedded.dtype)  # once, not in every block: under autocast layer norms may give float32
        outputs: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            is_last = index == len(self.blocks) - 1
            queries = None
            if is_last and hidden is not None and not self.needs_all_tokens:
                queries = hidden + 1  # after the class token
            inputs = (self.skips(index, x, outputs), levels, queries)
            keeps_inputs = self.training and self.recompute == "decoder"
            outputs.append(recomputed(block, *inputs) if keeps_inputs else block(*inputs))
            x = outputs[-1]
        if hidden is None:
            x = x[:, 1:]
        elif self.needs_all_tokens:
            x = take_tokens(x, hidden + 1)
        return self.pred(self.norm(x))

    def _with_mask_tokens(self, x: Tensor, visible: Tensor) -> Tensor:
        """Put the visible tokens in their places among mask tokens: (B, 1 + V, D) -> (B, 1 + N, D)."""
        num_patches = self.pos_embed.shape[1] - 1
        canvas = self.mask_token.to(x.dtype).expand(x.shape[0], num_patches, -1)
        patches = canvas.scatter(1, visible[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:])
        return torch.cat([x[:, :1], patches], dim=1)
