"""Distances of tokens against their definition, and what they must not depend on."""

import numpy as np
import pytest
import torch

from anomalib_memmc.configurable import build as build_component
from anomalib_memmc.scoring import FusedScorer, MahalanobisScorer, ReconstructionScorer, Scorer, TokenScorer


@pytest.fixture
def normals():
    return torch.rand(30, 3, 32, 48, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_tokens_are_those_of_the_pass_in_which_a_patch_is_visible(build, images):
    model = build(scorer=TokenScorer(levels=[1, 3]))
    scorer, network = model.scorer, model.network
    tokens = scorer.features(network, images)
    assert tokens.shape == (3, 24, 2 * 32)
    for view in range(4):
        visible = scorer.visible[view]
        _, levels = network.encode(images, visible.expand(3, 1, -1), (1, 3))
        for position, patch in enumerate(visible.tolist()):
            expected = torch.cat([levels[0, :, position], levels[1, :, position]], dim=-1)
            torch.testing.assert_close(tokens[:, patch], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_distances_are_mahalanobis(build, images, normals):
    """With correlations shrunk by a tenth, in float64 and by an explicit inverse."""
    model = build(scorer=TokenScorer(levels=[2], top=0.25))
    scorer, network = model.scorer, model.network
    scorer.fit(network, normals.split(7))
    learnt = torch.cat([scorer.features(network, part) for part in normals.split(7)]).double().numpy()
    tested = scorer.features(network, images).double().numpy()
    expected = np.zeros((3, 24))
    for place in range(24):
        mean, spread = learnt[:, place].mean(axis=0), learnt[:, place].std(axis=0)
        spread = np.maximum(spread, 0.1 * np.sqrt((spread**2).mean()))
        correlations = np.cov((learnt[:, place] - mean) / spread, rowvar=False, bias=True)
        shrunk = 0.9 * correlations + 0.1 * np.trace(correlations) / 32 * np.eye(32)
        deviations = (tested[:, place] - mean) / spread
        expected[:, place] = np.sqrt(np.einsum("bi,ij,bj->b", deviations, np.linalg.inv(shrunk), deviations) / 32)
    distances = scorer.normal_places(scorer.features(network, images))
    torch.testing.assert_close(distances.double(), torch.tensor(expected), rtol=1e-3, atol=1e-3)
    scores = model.score(images)
    np.testing.assert_allclose(scores.pred_score, np.sort(expected)[:, -6:].mean(axis=1), rtol=1e-3)
    assert scores.anomaly_map.shape == (3, 1, 32, 48)


@torch.no_grad()
def test_an_unusual_patch_shows_where_it_is(build, normals):
    model = build(scorer=TokenScorer(levels=[1]))
    model.scorer.fit(model.network, normals.split(10))
    images = normals[:2].clone()
    images[:, :, 8:16, 16:24] = 3.0  # patch 6 + 2
    distances = model.scorer.normal_places(model.scorer.features(model.network, images))
    assert distances.argmax(dim=1).tolist() == [8, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": [4]}, "levels"),
        ({"levels": [2, 2]}, "each once"),
        ({"bank": 5, "shrinkage": 0}, "shrinkage must be a finite number above 0 and at most 1"),
        ({"bank": 5, "covariance": "none"}, "covariance must be one of"),
        ({"top": 0.0}, "top"),
        ({"shrinkage": 0.0}, "shrinkage"),
        ({"num_masks": 3}, "never visible"),
    ],
)
def test_bad_arguments(build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(scorer=TokenScorer(**arguments))


@torch.no_grad()
def test_fused_scores_are_standardised_on_images_not_learnt_from(build, normals):
    parts = [MahalanobisScorer(num_masks=4), ReconstructionScorer(num_masks=4)]
    model = build(scorer=FusedScorer(parts, weights=[3, 1]))
    fused, network = model.scorer, model.network
    fused.fit(network, normals.split(6))
    held_out = torch.zeros(30)
    for learnt, tested in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        alone = build(scorer=MahalanobisScorer(num_masks=4))
        alone.scorer.fit(network, normals[learnt].split(3))
        held_out[tested] = alone.scorer.score(network, normals[tested]).pred_score
    torch.testing.assert_close(fused.centre[0], held_out.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.spread[0], held_out.std(), rtol=1e-3, atol=1e-5)
    scores = [scorer.score(network, normals[:4]) for scorer in parts]
    expected = sum(
        weight * (one.pred_score - fused.centre[i]) / fused.spread[i]
        for i, (one, weight) in enumerate(zip(scores, (0.75, 0.25), strict=True))
    )
    torch.testing.assert_close(model.score(normals[:4]).pred_score, expected)
    assert all(scorer.is_fitted for scorer in fused.scorers)


@torch.no_grad()
def test_one_scorer_judges_and_another_shows_where(build, normals):
    model = build(scorer=FusedScorer([TokenScorer(levels=[1]), ReconstructionScorer(num_masks=4)], [1, 0], [0, 1]))
    model.scorer.fit(model.network, normals.split(10))
    tokens, errors = (scorer.score(model.network, normals[:4]) for scorer in model.scorer.scorers)
    fused = model.score(normals[:4])
    centre, spread = model.scorer.centre[0], model.scorer.spread[0]
    torch.testing.assert_close(fused.pred_score, (tokens.pred_score - centre) / spread)
    centre, spread = model.scorer.map_centre[1], model.scorer.map_spread[1]
    torch.testing.assert_close(fused.anomaly_map, (errors.anomaly_map - centre) / spread)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 5])
def test_halves_do_not_depend_on_the_batches_and_fusions_nest(build, normals, batch):
    inner = FusedScorer([MahalanobisScorer(num_masks=4), TokenScorer(levels=[1])])
    model = build(scorer=FusedScorer([inner, ReconstructionScorer(num_masks=4)]))
    other = build(scorer=FusedScorer([MahalanobisScorer(num_masks=4), ReconstructionScorer(num_masks=4)]))
    model.scorer.fit(model.network, normals.split(batch))
    other.scorer.fit(other.network, normals.split(6))
    expected = other.scorer.centre.clone()
    other.scorer.fit(other.network, normals.split(batch))
    torch.testing.assert_close(other.scorer.centre, expected, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(model.score(normals[:2]).pred_score).all()


@torch.no_grad()
def test_fused_scorers_travel_in_checkpoints_and_exports(build, images, normals):
    model = build(scorer=FusedScorer([TokenScorer(levels=[1]), ReconstructionScorer(num_masks=4)]))
    model.scorer.fit(model.network, normals.split(10))
    config = model.scorer.config()
    assert [part["class_path"].rpartition(".")[2] for part in config["init_args"]["scorers"]] == [
        "TokenScorer",
        "ReconstructionScorer",
    ]
    other = build(seed=4, scorer=build_component(config, Scorer))
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.score(images).pred_score, model.score(images).pred_score)
    program = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(program(images).pred_score, model(images).pred_score, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "count"),
    [([1.0], 2), ([0.0, 0.0], 2), ([-1.0, 2.0], 2), ([float("nan"), 1.0], 2), ([float("inf"), 1.0], 2), ([], 0)],
)
def test_bad_fusions(weights, count):
    with pytest.raises(ValueError, match=r"scorer|weights"):
        FusedScorer([ReconstructionScorer() for _ in range(count)], weights)
    with pytest.raises(ValueError, match=r"scorer|map_weights"):
        FusedScorer([ReconstructionScorer() for _ in range(count)], map_weights=weights)
