"""Distances to the nearest normal place, against all distances in float64."""

import pytest
import torch
from helpers.scorers import survives_state_and_export

from anomalib_memmc.scoring import FeatureScorer, TokenScorer
from anomalib_memmc.scoring.nearest import NearestPlaces


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def all_nearest(known, new):
    """Root mean square of the differences from the nearest of all places, in float64."""
    distances = torch.cdist(new.flatten(0, 1).double(), known.flatten(0, 1).double())
    return (distances.amin(dim=1) / known.shape[2] ** 0.5).view(new.shape[:2])


@pytest.mark.parametrize("bank", [35, 100], ids=["as many as there are", "more than there are"])
def test_the_distance_is_that_to_the_nearest_of_all_places(bank, generator):
    known, new = (3 + torch.randn(images, 5, 8, generator=generator) for images in (7, 4))
    places = NearestPlaces(bank, 8)
    places.fit(known)
    torch.testing.assert_close(places(new).double(), all_nearest(known, new), rtol=1e-4, atol=1e-4)
    assert places(known).max() < 2e-3


def test_more_places_than_are_compared_at_once(generator):
    known, new = (torch.randn(images, 300, 4, generator=generator) for images in (1, 10))
    places = NearestPlaces(300, 4)
    places.fit(known)
    torch.testing.assert_close(places(new).double(), all_nearest(known, new), rtol=1e-4, atol=1e-4)


def test_of_more_places_some_are_drawn_always_the_same(generator):
    known = torch.randn(7, 5, 8, generator=generator)
    places, again = NearestPlaces(20, 8), NearestPlaces(20, 8)
    places.fit(known)
    again.fit(known)
    assert torch.equal(places.bank, again.bank)
    assert len(places.bank.unique(dim=0)) == 20
    assert all((row == known.flatten(0, 1)).all(dim=1).any() for row in places.bank)


def test_arguments():
    with pytest.raises(ValueError, match="bank must be"):
        TokenScorer(bank=0)
    with pytest.raises(ValueError, match="At least 1 normal training image"):
        NearestPlaces(3, 8).fit(torch.zeros(0, 5, 8))


@torch.no_grad()
def test_a_place_that_is_normal_elsewhere_is_normal_here(build, generator):
    """Unlike Gaussians of places, the bank does not know where a place was."""
    normals = torch.rand(12, 3, 32, 48, generator=generator) * 0.1
    normals[:, :, :, :24] += 0.9
    moved = normals.flip(3)
    ratios = {}
    for bank in (None, 200):
        scorer = FeatureScorer(layers=["blocks.1"], pre_trained=False, bank=bank)
        model = build(scorer=scorer)
        scorer.fit(model.network, normals.split(5))
        ratios[bank] = (model.score(moved).pred_score.mean() / model.score(normals).pred_score.mean()).item()
    assert ratios[None] > 10 * ratios[200]


def test_state_and_export(build, generator):
    normals = torch.rand(12, 3, 32, 48, generator=generator)
    images = torch.rand(5, 3, 32, 48, generator=generator)
    survives_state_and_export(build, TokenScorer(bank=30), normals, images)
