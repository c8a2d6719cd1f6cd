"""Errors of predicted features: against their definition, in training, checkpoints and exports."""

import pytest
import torch

from anomalib_memmc.configurable import build as build_component
from anomalib_memmc.model.feature_target import FeatureTarget
from anomalib_memmc.scoring import FeatureErrorScorer, ReconstructionScorer, Scorer


def random_target(**arguments):
    """Features of random weights, which need no network."""
    return FeatureTarget(layers=["blocks.1", "blocks.2"], pre_trained=False, **arguments)


@pytest.fixture
def normals():
    return torch.rand(12, 3, 32, 48, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def model(build, normals):
    made = build(feature_target=random_target(), scorer=FeatureErrorScorer())
    made.network.feature_target.fit(normals.split(5))
    return made.eval()


@torch.no_grad()
def test_features_are_standardised_at_every_place(model, normals):
    """The mean of every place is 0, and the spread of every feature around it, over all places, is 1."""
    target = model.network.feature_target
    places = target.places(target(normals))
    assert places.shape == (12, 8 * 12, 24 + 40)
    torch.testing.assert_close(places.mean(dim=0), torch.zeros(96, 64), atol=1e-4, rtol=0)
    torch.testing.assert_close(places.square().mean(dim=(0, 1)), torch.ones(64), atol=1e-3, rtol=0)
    expected = (target.features(normals) - target.mean) / target.spread
    torch.testing.assert_close(places, expected.flatten(2).transpose(1, 2))


@torch.no_grad()
def test_the_features_of_a_patch_are_those_of_its_places(model, normals):
    """Patch 8 of 6 columns lies in row 1, column 2: places 2 to 3 of rows 2 to 3."""
    target = model.network.feature_target
    patches = target(normals[:2])
    changed = patches.clone()
    changed[:, 8] = 7.0
    differs = (target.places(changed) != target.places(patches)).any(dim=2)[0].unflatten(0, (8, 12))
    assert differs.nonzero().tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_the_loss_is_that_of_pixels_and_weighted_that_of_features(model, normals):
    network, masks = model.network, torch.rand(12, 24).argsort(dim=1) < 18
    predicted = network.predict(
        normals,
        torch.stack([(~mask).nonzero()[:, 0] for mask in masks])[:, None],
        torch.stack([mask.nonzero()[:, 0] for mask in masks])[:, None],
    )[:, 0]
    pixels, features = network.patchify(normals)[masks], network.feature_target(normals)[masks]
    values = predicted.flatten(0, 1)
    expected = (values[:, : pixels.shape[1]] - pixels).square().mean()
    expected = expected + 0.05 * (values[:, pixels.shape[1] :] - features).square().mean()
    torch.testing.assert_close(model.loss(normals, masks), expected)


@torch.no_grad()
@pytest.mark.parametrize("masks", [{}, {"num_masks": 10, "mask_sampler": "random", "mask_seed": 1}], ids=str)
def test_errors_are_of_hidden_patches_only(build, normals, masks):
    """The mean over the masks that hide a patch, mask by mask."""
    model = build(feature_target=random_target(), scorer=FeatureErrorScorer(**masks)).eval()
    model.network.feature_target.fit(normals.split(5))
    scorer, network = model.scorer, model.network
    of_patch = scorer.masks.sum(dim=0)
    assert (of_patch.min() == of_patch.max()) == (not masks)
    target = network.feature_target
    total, count = torch.zeros(12, 24, target.values), torch.zeros(24)
    for visible, hidden in zip(scorer.visible, scorer.hidden, strict=True):
        total[:, hidden] += network.feature_values(network.predict(normals, visible[None], hidden[None]))[:, 0]
        count[hidden] += 1
    expected = target.places(target(normals) - total / count[:, None])
    torch.testing.assert_close(scorer.features(network, normals), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("covariance", ["place", "shared"])
def test_an_unusual_place_shows_where_it_is(build, normals, covariance):
    model = build(feature_target=random_target(), scorer=FeatureErrorScorer(covariance=covariance))
    model.network.feature_target.fit([normals])
    model.scorer.fit(model.network, normals.split(5))
    images = normals[:2].clone()
    images[:, :, 16:, 32:] = 1.0
    maps = model.score(images).anomaly_map
    assert (maps[:, :, 20:, 36:].mean(dim=(1, 2, 3)) > maps[:, :, :12, :24].mean(dim=(1, 2, 3))).all()


@torch.no_grad()
def test_pixels_are_reconstructed_as_ever(build, normals):
    """A score of pixels and its pictures do not see the features."""
    model = build(feature_target=random_target(), scorer=ReconstructionScorer(num_masks=4))
    assert model.score(normals[:2]).anomaly_map.shape == (2, 1, 32, 48)
    assert model.reconstruct(normals[:2]).pixels.shape == (2, 4, 3, 32, 48)


def test_nothing_frozen_is_trained(build):
    plain, model = build(), build(feature_target=random_target())
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {name for name, _ in plain.named_parameters()}
    assert not any(module.training for module in model.train().network.feature_target.features.extractor.modules())


@torch.no_grad()
def test_state_and_export(build, model, normals):
    model.scorer.fit(model.network, [normals])
    config = model.network.feature_target.config()
    other = build(seed=5, feature_target=config, scorer=build_component(model.scorer.config(), Scorer))
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.score(normals).pred_score, model.score(normals).pred_score)
    any_batch = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(model, (normals,), dynamic_shapes=any_batch).module()
    for batch in (normals, normals[:5]):
        torch.testing.assert_close(program(batch).pred_score, model(batch).pred_score, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"cells": 0}, "cells"), ({"weight": 0.0}, "weight"), ({"layers": ["blocks.1", "x"]}, "no layer x")],
)
def test_bad_targets(build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(feature_target=FeatureTarget(**arguments))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"num_masks": 1}, "never hidden"),
        ({"mask_sampler": "regular"}, r"mask_sampler must be one of \['complementary', 'random'\]"),
    ],
)
def test_bad_masks(build, masks, message):
    with pytest.raises(ValueError, match=message):
        build(feature_target=random_target(), scorer=FeatureErrorScorer(**masks))


def test_a_network_without_features_is_refused(build):
    with pytest.raises(ValueError, match="feature_target"):
        build(scorer=FeatureErrorScorer())
