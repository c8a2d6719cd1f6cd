"""Ways to compare features of places, and which places lie in a polyp."""

import pytest
import torch

from anomalib_memmc.scoring.blur import MapBlur
from anomalib_memmc.scoring.places import enlarged
from experiments.deep_features import compared, masks_of_places
from experiments.outlines import judged

GRID = (6, 6)


@pytest.fixture
def features():
    """Features of 60 normal images and of 8 with one place like no other, which both halves share."""
    generator = torch.Generator().manual_seed(0)
    known, new = (torch.randn(images, 36, 3, generator=generator) for images in (60, 8))
    inside = torch.zeros(8, 36, dtype=torch.bool)
    inside[:, 14] = True
    new[:, 14] += 30
    return known, new, inside


def test_every_way_finds_the_place_that_differs(features):
    known, new, inside = features
    found = dict(compared(known, new, inside, torch.arange(8) < 4))
    assert list(found) == ["Gaussians", "Gaussians, shared covariance", "nearest", "length", "best direction"]
    for how, distances in found.items():
        assert distances.shape == (8, 36), how
        assert (distances.argmax(dim=1) == 14).all(), how


def test_the_best_direction_is_learnt_from_polyps_of_one_half_alone(features):
    known, new, inside = features
    ways = []
    for other in (inside, ~inside):
        given = torch.cat([inside[:4], other[4:]])
        ways.append(dict(compared(known, new, given, torch.arange(8) < 4))["best direction"])
    assert torch.equal(*ways)


def test_a_place_is_in_a_mask_that_covers_more_than_half_of_it():
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[:, :3, :4] = True  # 3 of the 4 rows of the first place of two by two, and none of the others
    masks[:, :2, 4:] = True  # just half
    assert masks_of_places(masks, (2, 2)).tolist() == [[True, False, False, False]]


def test_numbers_of_a_map_that_is_the_mask():
    masks = torch.zeros(4, 48, 48, dtype=torch.bool)
    masks[:, 16:32, 16:32] = True
    places = masks_of_places(masks, GRID).float()
    maps = enlarged(places, GRID, (48, 48), MapBlur(0, (48, 48)))[:, 0]
    halves = (torch.arange(4) < 2, torch.arange(4) >= 2)
    pixel_auroc, _, of_a, of_b = map(float, judged(maps, masks, halves))
    assert pixel_auroc > 0.99
    assert of_a == of_b > 0.85
