"""A frozen network that is given images at another size."""

import pytest
import torch
from torch.nn import functional

from anomalib_memmc import FeatureTarget
from anomalib_memmc.configurable import build as build_component
from anomalib_memmc.model.features import FrozenFeatures

LAYERS = ["blocks.1", "blocks.2"]


def frozen(image_size, **arguments):
    torch.manual_seed(0)
    return FrozenFeatures("tf_efficientnet_lite0", LAYERS, image_size, pre_trained=False, **arguments).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 1.5, 0.5], ids=lambda scale: f"{scale} times as large")
def test_the_network_is_given_the_images_at_that_size(images, scale):
    size = (round(32 * scale), round(48 * scale))
    if scale < 1:
        resized = images.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))
    else:
        resized = functional.interpolate(images, size, mode="bilinear", align_corners=False)
    features, plain = frozen((32, 48), scale=scale), frozen(size)
    plain.load_state_dict(features.state_dict())
    assert features.grid == plain.grid
    torch.testing.assert_close(features(images), plain(resized))


@torch.no_grad()
def test_a_batch_of_large_images_goes_through_the_network_in_parts(monkeypatch, images):
    features, batches = frozen((32, 48), scale=2), []
    features.extractor.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    batch = torch.cat([images, images.flip(-1), images[:1]])
    one_by_one = torch.cat([features(image[None]) for image in batch])
    monkeypatch.setattr("anomalib_memmc.model.features._PIXELS_AT_ONCE", 2 * 64 * 96)
    batches.clear()
    torch.testing.assert_close(features(batch), one_by_one)
    assert batches == [2, 2, 1]
    monkeypatch.setattr("anomalib_memmc.model.features._PIXELS_AT_ONCE", 1)
    batches.clear()
    torch.testing.assert_close(features(batch), one_by_one)
    assert batches == [1] * 5


def test_a_scale_of_nothing_is_refused():
    for scale in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="scale must be"):
            frozen((32, 48), scale=scale)


@pytest.mark.parametrize("layers", [[], ["nope"], ["nope", "blocks.2"], ["blocks.2", "blocks.2"], ["blocks.3"]])
def test_layers_that_the_network_has_not_are_refused_with_those_that_it_has(layers):
    with pytest.raises(ValueError, match=r"(no layer|layers must be).* blocks\.0, blocks\.1, blocks\.2, blocks\.4"):
        FrozenFeatures("tf_efficientnet_lite0", layers, (32, 48), pre_trained=False)


def test_a_network_that_timm_has_not_is_refused_and_any_block_of_a_vit_is_taken():
    with pytest.raises(ValueError, match=r"backbone must be a model of timm .*'nonet'"):
        FrozenFeatures("nonet", LAYERS, (32, 48), pre_trained=False)
    with pytest.raises(ValueError, match="levit_128s has no blocks"):
        FrozenFeatures("levit_128s", LAYERS, (32, 48), pre_trained=False)
    tiny = FrozenFeatures("vit_tiny_patch16_224", ["blocks.2"], (32, 48), pre_trained=False)
    assert (tiny.grid, tiny.width) == ((2, 3), 192)


def test_a_target_of_another_scale_has_the_same_places(images):
    """The places of a patch are its cells, at whatever size the network is given the image."""
    for scale in (1.0, 2.0):
        target = build_component(FeatureTarget(layers=LAYERS, pre_trained=False, scale=scale).config(), FeatureTarget)
        target.setup((32, 48), (4, 6), 3)
        assert target.features.size == (32 * scale, 48 * scale)
        assert target.grid == (8, 12)
        assert target(images).shape == (2, 24, target.values)
