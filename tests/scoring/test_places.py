"""Features compared place by place, whatever they are features of."""

import pytest
import torch

from anomalib_memmc.scoring import FeatureScorer
from anomalib_memmc.scoring.places import PlaceScorer


class Blocks(PlaceScorer):
    """Mean and spread of blocks of 8 px of each channel; the scale of a channel, and an offset, may be changed."""

    scale, offset = 1.0, 0.0

    def setup(self, network, mask_ratio):
        self.make_room(network, (4, 6), 6)

    def features(self, network, images):
        blocks = images.unfold(2, 8, 8).unfold(3, 8, 8)
        both = torch.cat([blocks.mean(dim=(-1, -2)), blocks.std(dim=(-1, -2))], dim=1)
        return self.scale * both.flatten(2).mT + self.offset


@pytest.fixture
def normals():
    return torch.rand(30, 3, 32, 48, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_instance_norm_does_not_see_what_differs_everywhere_alike(build, images, normals):
    scales = torch.tensor([2.0, 0.5, 3.0, 1.0, 0.2, 7.0])
    for instance_norm in (True, False):
        model = build(scorer=Blocks(instance_norm=instance_norm))
        model.scorer.fit(model.network, normals.split(7))
        before = model.score(images).pred_score
        model.scorer.scale, model.scorer.offset = scales, scales.flip(0)
        assert torch.allclose(model.score(images).pred_score, before, rtol=1e-2) == instance_norm


@torch.no_grad()
def test_instance_norm_is_that_of_the_places_of_an_image(build, images, normals):
    """Against the same scorer, given features that were standardised by hand."""

    class Standardised(Blocks):
        def features(self, network, images):
            values = super().features(network, images).double()
            deviations = values - values.mean(dim=1, keepdim=True)
            return (deviations / deviations.square().mean(dim=1, keepdim=True).sqrt()).float()

    maps = []
    for scorer in (Blocks(instance_norm=True), Standardised()):
        model = build(scorer=scorer)
        scorer.fit(model.network, normals.split(7))
        maps.append(model.score(images).anomaly_map)
    torch.testing.assert_close(*maps, rtol=1e-2, atol=1e-2)


def test_instance_norm_needs_more_than_one_place(build):
    with pytest.raises(ValueError, match="more than one place"):
        build(image_size=32, scorer=FeatureScorer(layers=["blocks.6"], pre_trained=False, instance_norm=True))
