"""Distances from the errors of normal images, against scikit-learn's."""

import pytest
import torch
from helpers.models import build_model
from sklearn.covariance import LedoitWolf

from anomalib_memmc.scoring import MahalanobisScorer


def distances(cell_size, **arguments):
    """A scorer of maps of 32 x 16 pixels."""
    scorer = MahalanobisScorer(cell_size=cell_size, **arguments)
    build_model(image_size=(32, 16), scorer=scorer)
    return scorer


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(40, 1, 4, 2, generator=generator)
    return (
        1e-3 * smooth.repeat_interleave(8, 2).repeat_interleave(8, 3) * torch.rand(40, 1, 32, 16, generator=generator)
    )


@pytest.mark.parametrize("relative", [False, True])
def test_distance_is_that_of_scikit_learn(maps, relative):
    errors = distances(4, relative=relative)
    errors.fit_cells(errors.cells(maps[:30]))
    roots = maps.double().unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(-1, -2)).sqrt().flatten(1).numpy() * 1e3
    if relative:
        roots /= roots.mean(axis=1, keepdims=True)
    roots = (roots - roots[:30].mean(axis=0)) / roots[:30].std(axis=0)
    expected = LedoitWolf().fit(roots[:30]).mahalanobis(roots)
    torch.testing.assert_close(
        errors.reduce(maps), torch.tensor((expected / roots.shape[1]) ** 0.5, dtype=torch.float32), rtol=1e-4, atol=1e-5
    )


def test_normal_images_are_near_one_and_what_differs_is_farther(maps):
    errors = distances(8)
    errors.fit_cells(errors.cells(maps))
    assert errors.reduce(maps).mean() == pytest.approx(1, abs=0.1)
    changed = maps.clone()
    changed[:, :, 8:16, 8:] += 2e-3
    assert errors.reduce(changed).min() > errors.reduce(maps).max()
    weaker = maps.clone()
    weaker[:, :, 8:16, 8:] = 0  # a place that is usually hard and suddenly easy is unusual as well
    assert (errors.reduce(weaker) > errors.reduce(maps)).float().mean() > 0.9


def test_relative_errors_do_not_see_how_hard_an_image_is_as_a_whole(maps):
    errors = distances(8, relative=True)
    errors.fit_cells(errors.cells(maps))
    torch.testing.assert_close(errors.reduce(4 * maps), errors.reduce(maps))
    changed = maps.clone()
    changed[:, :, 8:16, 8:] += 2e-3
    assert errors.reduce(changed).min() > errors.reduce(maps).max()
    assert torch.isfinite(errors.reduce(torch.zeros_like(maps))).all()


def test_a_cell_that_hardly_varies_counts_as_a_tenth_of_the_typical(maps):
    errors = distances(8)
    quiet = maps.clone()
    quiet[:, :, :8, :8] = 1e-6 * maps[:, :, :8, :8]
    errors.fit_cells(errors.cells(quiet))
    cells = errors.cells(quiet).double()
    spread = cells.std(dim=0, correction=0)
    spread[0] = 0.1 * spread.square().mean().sqrt()
    standard = ((cells - cells.mean(dim=0)) / spread).numpy()
    expected = (LedoitWolf().fit(standard).mahalanobis(standard) / standard.shape[1]) ** 0.5
    torch.testing.assert_close(errors.reduce(quiet), torch.tensor(expected, dtype=torch.float32), rtol=1e-3, atol=1e-3)


def test_before_the_fit_images_rank_as_by_the_mean(maps):
    torch.testing.assert_close(distances(8).reduce(maps), maps.mean(dim=(1, 2, 3)).sqrt())


def test_one_image_is_too_few(maps):
    errors = distances(8)
    with pytest.raises(ValueError, match="at least 2 normal training images, got 1"):
        errors.fit_cells(errors.cells(maps[:1]))
    assert not errors.is_fitted


def test_maps_without_any_spread_give_finite_distances():
    errors = distances(8)
    maps = torch.zeros(5, 1, 32, 16)
    errors.fit_cells(errors.cells(maps))
    assert torch.isfinite(errors.reduce(maps)).all()
