"""The tiny model of the tests, with fixed weights."""

import torch

from anomalib_memmc.model.torch_model import MemMCMAEModel

TINY = {
    "image_size": (32, 48),
    "patch_size": 8,
    "encoder_dim": 32,
    "encoder_depth": 3,
    "encoder_heads": 4,
    "decoder_dim": 16,
    "decoder_depth": 3,
    "decoder_heads": 2,
    "memory_slots": 5,
    "num_masks": 4,
}
PLAIN = {"memory_slots": 0, "multi_level": False, "long_skips": False}


def noisy(model, seed=0, size=0.05):
    """Move every parameter, so that nothing stays at an initial zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def build_model(seed: int = 0, **overrides) -> MemMCMAEModel:
    """A tiny model in evaluation mode; arguments override ``TINY``."""
    torch.manual_seed(seed)
    return MemMCMAEModel(**{**TINY, **overrides}).eval()
