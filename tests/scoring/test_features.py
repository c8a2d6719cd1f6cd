"""Distances in the features of a frozen network: frozen, offline, in checkpoints and exports."""

import pytest
import torch
from helpers.scorers import survives_state_and_export

from anomalib_memmc.model import lite0
from anomalib_memmc.scoring import FeatureScorer


def random_features(**arguments):
    """A scorer of random weights, which need no network."""
    return FeatureScorer(layers=["blocks.1", "blocks.2"], pre_trained=False, **arguments)


@pytest.fixture
def normals():
    return torch.rand(12, 3, 32, 48, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_an_unusual_place_shows_where_it_is(build, normals):
    model = build(scorer=random_features())
    model.scorer.fit(model.network, normals.split(5))
    images = normals[:2].clone()
    images[:, :, 16:, 32:] = 1.0
    maps = model.score(images).anomaly_map
    assert maps.shape == (2, 1, 32, 48)
    assert (maps[:, :, 20:, 36:].mean(dim=(1, 2, 3)) > maps[:, :, :12, :24].mean(dim=(1, 2, 3))).all()
    assert (model.score(images).pred_score > model.score(normals[:2]).pred_score).all()


def test_nothing_of_the_masked_autoencoder_changes(build):
    """Neither its initial weights nor its list of trained parameters."""
    plain, scored = build(), build(scorer=random_features())
    for name, value in plain.network.state_dict().items():
        assert torch.equal(scored.network.state_dict()[name], value), name
    trained = [name for name, value in scored.named_parameters() if value.requires_grad]
    assert all(name.startswith("network.") for name in trained)
    assert not any(module.training for module in scored.train().scorer.frozen.extractor.modules())


@torch.no_grad()
def test_grey_models(build):
    model = build(scorer=random_features(), in_channels=1)
    images = torch.rand(4, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    model.scorer.fit(model.network, [images])
    assert torch.isfinite(model.score(images).pred_score).all()


def test_state_and_export(build, normals):
    survives_state_and_export(build, random_features(), normals, normals)


def test_nothing_is_loaded_before_the_first_fit_and_offline_says_so(build, normals, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = build(scorer=FeatureScorer())
    assert not model.scorer.frozen.has_weights
    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(RuntimeError, match=r"weights of tf_efficientnet_lite0 cannot be had: offline"):
        model.scorer.fit(model.network, [normals])
    assert not model.scorer.is_fitted


def test_weights_come_from_the_pip_package_without_a_network(build, monkeypatch):
    pytest.importorskip(lite0.PACKAGE)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = build(scorer=FeatureScorer(layers=["blocks.1"]))
    model.scorer.prepare()
    expected = lite0.load_weights()
    for name, value in model.scorer.frozen.extractor.feature_extractor.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert model.scorer.frozen.has_weights
