"""Features as a target in anomalib's engine: learnt before the first step, kept in checkpoints, missed early."""

import pytest
import torch
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC

from anomalib_memmc import FeatureTarget, MemMCMAE, Phantom
from anomalib_memmc.model import lite0
from anomalib_memmc.scoring import FeatureErrorScorer, FeatureScorer, FusedScorer, ReconstructionScorer

TARGET = {"layers": ["blocks.1", "blocks.2"], "pre_trained": False}


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    return Phantom(root=tmp_path_factory.mktemp("phantom"), **TINY_PHANTOM)


def engine_in(folder):
    quiet = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    return Engine(default_root_dir=folder, max_epochs=1, **quiet)


def test_a_round_and_its_checkpoint(datamodule, tmp_path):
    model = MemMCMAE(**TINY_MEMMC, feature_target=FeatureTarget(**TARGET), scorer=FeatureErrorScorer(), seed=0)
    engine = engine_in(tmp_path / "run")
    engine.fit(model, datamodule=datamodule)
    (results,) = engine.test(model, datamodule=datamodule)
    target = model.model.network.feature_target
    assert target.is_fitted
    assert target.mean.abs().sum() > 0

    path = engine.trainer.checkpoint_callback.best_model_path
    saved = torch.load(path, map_location="cpu", weights_only=True)["hyper_parameters"]["feature_target"]
    assert saved == FeatureTarget(**TARGET).config()
    loaded = MemMCMAE.load_from_checkpoint(path, weights_only=True)
    assert loaded.model.network.feature_target.is_fitted
    (again,) = engine_in(tmp_path / "again").test(loaded, datamodule=datamodule)
    assert again == pytest.approx(results, abs=1e-6)


@pytest.mark.parametrize("asks", ["target", "scorer"])
def test_weights_that_cannot_be_had_are_missed_before_the_first_step(asks, datamodule, tmp_path, monkeypatch):
    if asks == "target":
        model = MemMCMAE(**TINY_MEMMC, feature_target=FeatureTarget(), scorer=FeatureErrorScorer())
    else:
        model = MemMCMAE(**TINY_MEMMC, scorer=FusedScorer([ReconstructionScorer(num_masks=4), FeatureScorer()]))
    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    engine = engine_in(tmp_path)
    with pytest.raises(RuntimeError, match=r"weights of tf_efficientnet_lite0 cannot be had: offline"):
        engine.fit(model, datamodule=datamodule)
    assert engine.trainer.global_step == 0
