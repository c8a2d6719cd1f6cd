"""The fast path is the paper's equations: it agrees with a plain transcription of them to 1e-5, in float32."""

import pytest
import torch
from reference import transcription

from anomalib_memmc.scoring import ReconstructionScorer

VARIANTS = [
    {},
    {"gate": "token", "cross_residual": True, "multi_level": [3, 1]},
    {"gate": "scalar", "scorer": {"chunk_size": 3}},
    {"memory_slots": 0, "multi_level": False, "long_skips": False},
    {"normalize": "imagenet", "scorer": {"mask_sampler": "complementary", "num_masks": 8}},
    {"in_channels": 1, "image_size": (64, 40), "encoder_depth": 4, "decoder_depth": 2},
]


@torch.no_grad()
@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_reconstructions_and_scores(build, arguments):
    scorer = ReconstructionScorer(**{"num_masks": 12, **arguments.get("scorer", {})})
    model = build(**{**arguments, "scorer": scorer})
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.network.named_parameters():
        parameter.add_((0.3 if "scale" in name else 0.05) * torch.randn(parameter.shape, generator=generator))
    assert model.scorer.masks.any(dim=0).all()
    images = torch.rand(3, model.network.in_channels, *model.network.image_size, generator=generator)

    expected = transcription.reconstruct(model, images)
    torch.testing.assert_close(model.reconstruct(images).pixels, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.05

    errors, scores = transcription.error_map(model, images), model.score(images)
    torch.testing.assert_close(scores.anomaly_map, errors, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.pred_score, errors.mean(dim=(1, 2, 3)), atol=1e-5, rtol=1e-5)
    assert errors.std() > 0.01
