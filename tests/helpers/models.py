"""The tiny models of the tests: as a torch module with fixed weights, and as arguments of the Lightning model."""

import torch

from anomalib_memmc.model.torch_model import MemMCMAEModel
from anomalib_memmc.scoring import ReconstructionScorer, Scorer

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
}
TINY_MEMMC = {
    "image_size": 32,
    "patch_size": 8,
    "encoder_dim": 32,
    "encoder_depth": 2,
    "encoder_heads": 2,
    "decoder_dim": 32,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "memory_slots": 4,
}
FOUR_MASKS = {"num_masks": 4, "mask_sampler": "complementary"}
PLAIN = {"memory_slots": 0, "multi_level": False, "long_skips": False}


def noisy(model, seed=0, size=0.05):
    """Move every parameter, so that nothing stays at an initial zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def build_model(seed: int = 0, scorer: Scorer | None = None, **overrides) -> MemMCMAEModel:
    """A tiny model in evaluation mode, by default with the paper's score of four masks; arguments override ``TINY``."""
    torch.manual_seed(seed)
    scorer = ReconstructionScorer(num_masks=4) if scorer is None else scorer
    return MemMCMAEModel(scorer=scorer, **{**TINY, **overrides}).eval()
