"""NaN and infinity stop a run, wherever they come from, before they become a number or a checkpoint."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC
from lightning.pytorch import Callback

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.callbacks import RequireFinite
from anomalib_memmc.model.finite import CHECK_LOSS_EVERY, NotFiniteError, require_finite_loss
from anomalib_memmc.scoring import MahalanobisScorer, ReconstructionScorer


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    return Phantom(root=tmp_path_factory.mktemp("phantom"), **TINY_PHANTOM)


def make_model(scorer=None):
    return MemMCMAE(**TINY_MEMMC, scorer=scorer or ReconstructionScorer(num_masks=2), seed=0)


def engine_in(folder, *callbacks, **trainer):
    quiet = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    return Engine(default_root_dir=folder, callbacks=list(callbacks), **{**quiet, "max_epochs": 1, **trainer})


def spoil(model, value=float("nan")):
    with torch.no_grad():
        model.model.network.patch_embed.weight[0, 0] = value


class Spoil(Callback):
    """Spoils a weight after the last step, so that no loss tells."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.is_last_batch:
            spoil(pl_module)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("run", ["validate", "test", "predict", "fit"])
def test_one_spoilt_weight_stops_every_run_and_is_named(run, value, datamodule, tmp_path):
    model = make_model()
    spoil(model, value)
    with pytest.raises(NotFiniteError, match=r"1 of \d+ tensors.*network\.patch_embed\.weight.*earlier checkpoint.*lr"):
        getattr(engine_in(tmp_path), run)(model, datamodule=datamodule)
    assert not list(tmp_path.rglob("*.c*")) or run == "fit"


@pytest.mark.parametrize("validation", [{}, {"limit_val_batches": 0}])
@pytest.mark.parametrize("scorer", [None, MahalanobisScorer(num_masks=2)], ids=["reconstruction", "mahalanobis"])
def test_a_last_step_that_spoils_the_weights_leaves_the_checkpoint_before_it(scorer, validation, datamodule, tmp_path):
    with pytest.raises(NotFiniteError, match=r"patch_embed\.weight"):
        engine_in(tmp_path, Spoil(), **validation).fit(make_model(scorer), datamodule=datamodule)
    (kept,) = (path for path in tmp_path.rglob("*.ckpt") if "latest" not in path.parts)
    assert kept.name == "last.ckpt"
    MemMCMAE.load_from_checkpoint(kept)  # refuses what is not finite


def test_no_checkpoint_is_written_of_spoilt_weights(datamodule, tmp_path):
    engine, model = engine_in(tmp_path), make_model()
    engine.fit(model, datamodule=datamodule)
    spoil(model)
    with pytest.raises(NotFiniteError, match=r"patch_embed\.weight"):
        engine.trainer.save_checkpoint(tmp_path / "spoilt.ckpt")
    assert not list(tmp_path.glob("spoilt*"))


def test_a_run_that_is_stopped_within_an_epoch_is_looked_at(datamodule, tmp_path):
    class Stop(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            spoil(pl_module)
            trainer.should_stop = True

    with pytest.raises(NotFiniteError, match=r"patch_embed\.weight"):
        engine_in(tmp_path, Stop()).fit(make_model(), datamodule=datamodule)


@pytest.mark.parametrize("key", ["model.network.patch_embed.weight", "model.scorer.mean"])
def test_a_checkpoint_with_a_spoilt_weight_is_refused(key, datamodule, tmp_path):
    engine = engine_in(tmp_path)
    engine.fit(make_model(MahalanobisScorer(num_masks=2)), datamodule=datamodule)
    path = Path(engine.trainer.checkpoint_callback.best_model_path)
    MemMCMAE.load_from_checkpoint(path)
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["state_dict"][key].view(-1)[0] = float("nan")
    torch.save(checkpoint, path)
    with pytest.raises(NotFiniteError, match=rf"The checkpoint.*{re.escape(key)}"):
        MemMCMAE.load_from_checkpoint(path)
    tester = engine_in(tmp_path / "test")
    with pytest.raises(NotFiniteError, match="The checkpoint"):
        tester.test(make_model(MahalanobisScorer(num_masks=2)), datamodule=datamodule, ckpt_path=path)


class BrokenScorer(ReconstructionScorer):
    """Scores bright images as NaN: their score, or one pixel of their map."""

    def __init__(self, what="pred_score"):
        super().__init__(num_masks=2)
        self.what = what

    def score(self, network, images):
        scores = super().score(network, images)
        broken = getattr(scores, self.what).clone()
        broken.view(len(images), -1)[images.mean(dim=(1, 2, 3)) > BRIGHT, 0] = float("nan")
        return scores._replace(**{self.what: broken})


BRIGHT = 2.0


@pytest.mark.parametrize(("what", "name"), [("pred_score", "score"), ("anomaly_map", "anomaly map")])
@pytest.mark.parametrize("run", ["validate", "test", "predict"])
def test_scores_and_maps_that_are_not_finite_name_the_image(run, what, name, datamodule, tmp_path, monkeypatch):
    datamodule.prepare_data()
    datamodule.setup()
    data = {"validate": datamodule.val_data}.get(run, datamodule.test_data)
    brightness = [float(item.image.mean()) for item in data]
    monkeypatch.setitem(globals(), "BRIGHT", float(np.sort(brightness)[-2:].mean()))
    (path,) = [item.image_path for item, mean in zip(data, brightness, strict=True) if mean > BRIGHT]
    message = rf"The {name} of 1 of \d images.*the first of {re.escape(path)}.*pixels of that image are finite"
    with pytest.raises(NotFiniteError, match=message):
        getattr(engine_in(tmp_path), run)(make_model(BrokenScorer(what)), datamodule=datamodule)
    assert not list(tmp_path.rglob("*.csv"))


def test_pixels_that_are_not_finite_are_the_images_fault(tmp_path):
    class Spoils(Callback):
        def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            batch.image[1] = float("nan")

    datamodule = Phantom(root=tmp_path / "phantom", **TINY_PHANTOM)
    engine = engine_in(tmp_path, Spoils())
    with pytest.raises(NotFiniteError, match="pixels of that image are not finite either: repair the file"):
        engine.test(make_model(), datamodule=datamodule)


def test_finite_runs_pass_and_the_callback_is_for_any_model():
    RequireFinite().on_test_batch_end(None, None, object(), None, 0)  # no scores, no maps


def test_pretrained_weights_that_are_not_finite_change_nothing(tmp_path):
    model = make_model()
    before = model.model.network.patch_embed.weight.clone()
    blocks = model.model.network.encoder.state_dict()
    weights = {key: value.clone() for key, value in blocks.items() if "memory" not in key}
    weights |= {f"patch_embed.proj.{key}": value for key, value in model.model.network.patch_embed.state_dict().items()}
    weights["patch_embed.proj.weight"] = torch.full_like(before, float("inf"))
    torch.save({"model": weights}, tmp_path / "mae.pth")
    with pytest.raises(NotFiniteError, match=r"mae\.pth is of no use: patch_embed\.proj\.weight holds NaN"):
        model.load_mae_weights(tmp_path / "mae.pth")
    assert torch.equal(model.model.network.patch_embed.weight, before)


def test_the_loss_on_a_gpu_is_looked_at_now_and_then():
    loss = torch.empty((), device="meta")  # a tensor that cannot be read, only computed with
    require_finite_loss(loss, step=1, epoch=0, lr=1e-3)
    with pytest.raises(RuntimeError, match="meta"):
        require_finite_loss(loss, step=CHECK_LOSS_EVERY, epoch=0, lr=1e-3)
