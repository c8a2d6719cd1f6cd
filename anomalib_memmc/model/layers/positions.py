"""Fixed two-dimensional sine-cosine positions, as in MAE."""

import torch
from torch import Tensor
from torch.nn import functional


def sincos_positions(dim: int, grid: tuple[int, int]) -> Tensor:
    """Sine-cosine position embeddings with a zero row for the class token.

    The first half of the channels encodes the column, the second the row, each as sines followed by cosines of
    ``position / 10000^(2 i / (dim / 2))``: the layout of MAE's published weights.

    Args:
        dim: Width of the tokens; must be a multiple of 4.
        grid: Number of patches (rows, columns).

    Returns:
        Float32 tensor (1, 1 + rows * columns, dim).

    Raises:
        ValueError: If ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        msg = f"Sine-cosine positions need a width that is a multiple of 4, got {dim}."
        raise ValueError(msg)
    frequencies = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [positions.reshape(-1, 1) * frequencies for positions in (columns, rows)]
    patches = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), patches])[None].float()


def resize_positions(positions: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Interpolate position embeddings (bicubic) to another grid; the class token's row is kept.

    Args:
        positions: (1, 1 + old rows * old columns, D).
        old_grid: Patches (rows, columns) the embeddings were made for.
        new_grid: Patches (rows, columns) wanted.

    Returns:
        (1, 1 + new rows * new columns, D).
    """
    patches = positions[:, 1:].transpose(1, 2).unflatten(2, old_grid)
    resized = functional.interpolate(patches, size=new_grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
