"""Putting together what several processes have."""

from typing import TypeVar

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

T = TypeVar("T")


def gather_objects(part: T) -> list[T]:
    """Give every process the parts of all.

    All processes have to call it.

    Args:
        part: What this process has; anything that can be pickled.

    Returns:
        The parts of all processes by rank; one part where there is one process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [part]
    parts: list[T] = [part] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, part)
    return parts


def gather(rows: Tensor) -> Tensor:
    """Put the rows of all processes together, process by process; they may differ in number.

    Args:
        rows: What this process measured (n, ...).

    Returns:
        The rows of all processes (N, ...), the same everywhere; ``rows`` itself where there is one process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    return torch.cat(gather_all_tensors(rows.contiguous()))
