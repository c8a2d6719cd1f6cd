"""A batch that a loader can pin."""

import dataclasses

import torch
from anomalib.data.dataclasses import ImageBatch


class PinnableBatch(ImageBatch):
    """anomalib's batch of images, which a loader with ``pin_memory`` can pin: it passes over anomalib's own."""

    def pin_memory(self) -> "PinnableBatch":
        """Move all tensors to memory that a GPU copies from while it computes.

        Returns:
            The batch itself.

        Raises:
            RuntimeError: If there is no accelerator.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                setattr(self, field.name, value.pin_memory())
        return self
