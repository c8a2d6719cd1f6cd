"""Masks of a scorer are changed wherever it has some, also where its configuration does not name them."""

import pytest
import torch

from anomalib_memmc.configurable import build as build_component
from anomalib_memmc.model.features import FrozenFeatures
from anomalib_memmc.scoring import FeatureErrorScorer, FeatureScorer, FusedScorer, ReconstructionScorer, Scorer
from experiments.masks import features_once, takes, with_masks

LAYERS = ("blocks.1", "blocks.2")
SCORERS = [ReconstructionScorer(), FeatureErrorScorer(), FusedScorer([ReconstructionScorer(), FeatureErrorScorer()])]


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: type(scorer).__name__)
def test_every_scorer_with_masks_gets_others(scorer):
    kinds = [(number, sampler) for number in (2, 4) for sampler in ("complementary", "random")]
    made = [build_component(with_masks(scorer.config(), *kind), Scorer) for kind in kinds]
    masked = [each.scorers[0] if isinstance(each, FusedScorer) else each for each in made]
    assert [(each.num_masks, each.mask_sampler) for each in masked] == kinds


def test_a_scorer_without_masks_stays():
    config = FeatureScorer(layers=["blocks.1"], pre_trained=False).config()
    assert with_masks(config, 3, "random") == config


def test_masks_that_a_scorer_refuses_are_told(build):
    model = build()
    assert takes(model, ReconstructionScorer(num_masks=1))
    assert not takes(model, FeatureErrorScorer(num_masks=1))


def test_features_are_computed_once_for_each_network_and_batch(monkeypatch):
    networks = [FrozenFeatures("tf_efficientnet_lite0", [layer], (32, 32), pre_trained=False) for layer in LAYERS]
    batches = torch.rand(2, 3, 3, 32, 32)
    expected = [[network.eval()(batch) for batch in batches] for network in networks]
    calls = []
    forward = FrozenFeatures.forward
    monkeypatch.setattr(FrozenFeatures, "forward", lambda *given: calls.append(given) or forward(*given))
    with torch.no_grad(), features_once():
        for _ in range(2):
            for network, of_network in zip(networks, expected, strict=True):
                for batch, features in zip(batches, of_network, strict=True):
                    torch.testing.assert_close(network(batch), features)
    assert len(calls) == 4
