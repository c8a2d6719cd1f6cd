"""Masks over patches: fresh random ones for training, fixed ones for scoring.

A mask is a boolean vector over the patches, True where the patch is hidden. All masks hide the same number of patches.
"""

from typing import Literal

import torch
from torch import Tensor

from anomalib_memmc.arguments import require_count, require_number

MaskSampler = Literal["random", "complementary"]


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Number of patches a mask leaves visible, rounded down as in MAE.

    Args:
        num_patches: Number of patches of an image.
        mask_ratio: Fraction of the patches to hide, in (0, 1).

    Returns:
        Number of visible patches, at least 1 and less than ``num_patches``.

    Raises:
        ValueError: If the ratio leaves no patch visible or none hidden.
    """
    require_number("mask_ratio", mask_ratio)
    visible = int(num_patches * (1 - mask_ratio))
    if not (0 < mask_ratio < 1 and 0 < visible < num_patches):
        msg = (
            f"mask_ratio={mask_ratio} hides {num_patches - visible} of {num_patches} patches; "
            "at least one must be hidden and one visible."
        )
        raise ValueError(msg)
    return visible


def random_masks(
    num_masks: int, num_patches: int, mask_ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """Independent uniformly random masks (paper).

    Args:
        num_masks: Number of masks M.
        num_patches: Number of patches N.
        mask_ratio: Fraction of patches to hide, in (0, 1).
        generator: Source of randomness on the CPU; torch's own where it is None.

    Returns:
        Boolean tensor (M, N) on the CPU, True = hidden.
    """
    visible, _ = random_indices(num_masks, num_patches, mask_ratio, generator)
    return _hide_all_but(visible, num_patches)


def random_indices(
    num_masks: int, num_patches: int, mask_ratio: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The masks of ``random_masks`` as indices: no shape depends on the numbers drawn, as ``torch.compile`` wants it.

    Args:
        num_masks: Number of masks M.
        num_patches: Number of patches N.
        mask_ratio: Fraction of patches to hide, in (0, 1).
        generator: Source of randomness on the CPU; torch's own where it is None.

    Returns:
        Indices of the visible (M, V) and of the hidden patches (M, N - V), ascending, int64, on the CPU.
    """
    order = torch.rand(num_masks, num_patches, generator=generator).argsort(dim=1)
    visible = num_visible(num_patches, mask_ratio)
    return order[:, :visible].sort(dim=1).values, order[:, visible:].sort(dim=1).values


def complementary_masks(
    num_masks: int, num_patches: int, mask_ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """Masks whose visible sets are disjoint in turn (not in the paper).

    At ratio 0.75 each run of four masks shows every patch once and hides it three times (where the number of patches
    is a multiple of four).

    Args:
        num_masks: Number of masks M.
        num_patches: Number of patches N.
        mask_ratio: Fraction of patches to hide, in (0, 1).
        generator: Source of randomness on the CPU; torch's own where it is None.

    Returns:
        Boolean tensor (M, N) on the CPU, True = hidden.
    """
    visible = num_visible(num_patches, mask_ratio)
    sets_per_round = num_patches // visible
    rounds = -(-num_masks // sets_per_round)
    order = torch.rand(rounds, num_patches, generator=generator).argsort(dim=1)
    keep = order[:, : sets_per_round * visible].reshape(rounds * sets_per_round, visible)
    return _hide_all_but(keep[:num_masks], num_patches)


def seeded_masks(num_masks: int, num_patches: int, mask_ratio: float, sampler: MaskSampler, seed: int) -> Tensor:
    """The fixed masks used to score every image.

    Args:
        num_masks: Number of masks M, at least 1.
        num_patches: Number of patches N.
        mask_ratio: Fraction of patches to hide, in (0, 1).
        sampler: ``"random"`` (paper) or ``"complementary"`` (not in the paper).
        seed: Seed of the draw; the same seed gives the same masks on every machine.

    Returns:
        Boolean tensor (M, N), True = hidden.

    Raises:
        ValueError: If an argument is out of its range.
    """
    require_count("num_masks", num_masks)
    require_count("mask_seed", seed, least=0)
    samplers = {"random": random_masks, "complementary": complementary_masks}
    if sampler not in samplers:
        msg = f"mask_sampler must be one of {sorted(samplers)}, got {sampler!r}."
        raise ValueError(msg)
    return samplers[sampler](num_masks, num_patches, mask_ratio, torch.Generator().manual_seed(seed))


def visible_indices(masks: Tensor) -> Tensor:
    """Indices of the visible patches of each mask, ascending.

    Args:
        masks: Boolean tensor (..., N), True = hidden; all rows hide the same number of patches.

    Returns:
        Int64 tensor (..., V).

    Raises:
        ValueError: If rows hide different numbers of patches, or all, or none.
    """
    counts = (~masks).sum(dim=-1).unique()
    if len(counts) != 1 or counts[0] == 0 or counts[0] == masks.shape[-1]:
        msg = (
            f"Every mask must hide the same number of patches, at least one and not all; these leave {counts.tolist()} "
            f"of {masks.shape[-1]} patches visible."
        )
        raise ValueError(msg)
    return (~masks).nonzero()[:, -1].view(*masks.shape[:-1], -1)


def _hide_all_but(keep: Tensor, num_patches: int) -> Tensor:
    """Indices of visible patches (M, V) -> masks (M, N)."""
    return torch.ones(len(keep), num_patches, dtype=torch.bool).scatter(1, keep, False)
