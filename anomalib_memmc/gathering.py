"""Putting together what several processes have."""

from typing import TypeVar

import torch

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
