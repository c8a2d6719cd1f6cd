"""A run survives: resumed it is the uninterrupted one bit for bit, it ends whole, it is never extended by mistake."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import FOUR_MASKS, TINY_MEMMC
from helpers.runs import TRAINER, Kept, assert_equal, fit, weights
from lightning.pytorch import Callback
from torchvision.transforms.v2 import Compose, Lambda, RandomResizedCrop

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer


def disturb(image):
    """An augmentation that draws from all three generators."""
    return image * (0.9 + 0.1 * random.random()) * (0.9 + 0.1 * np.random.rand())  # noqa: NPY002


AUGMENTATIONS = Compose([RandomResizedCrop((32, 32)), Lambda(disturb)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("phantom")


def phantom(folder, **arguments):
    """Four batches an epoch, the last of them smaller."""
    arguments = {**TINY_PHANTOM, "num_train": 19, "train_augmentations": AUGMENTATIONS, **arguments}
    return Phantom(root=folder, **arguments)


@pytest.mark.parametrize(
    ("workers", "trainer", "checkpoints"),
    [
        (0, {}, {"last-0-1", "last-0-4", "model-0-4", "last-1-7"}),
        (2, {}, {"last-0-2", "model-0-4", "last-1-6", "last-2-9"}),
        (0, {"accumulate_grad_batches": 2}, {"last-0-1", "model-0-2"}),
        (0, {"val_check_interval": 0.5}, {"model-0-2", "model-0-4", "last-1-5"}),
        (0, {"check_val_every_n_epoch": 2}, {"last-0-4", "model-1-8", "last-2-10"}),
        (0, {"max_epochs": -1, "max_steps": 10}, {"model-0-4", "last-1-7", "last-1-8"}),
        (0, {"max_epochs": -1, "max_steps": 10, "check_val_every_n_epoch": 2}, {"last-0-4", "model-1-8"}),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(folder, tmp_path, workers, trainer, checkpoints):
    kept = Kept(tmp_path / "kept")
    whole, _ = fit(phantom(folder, num_workers=workers), tmp_path / "whole", callbacks=[kept], **trainer)
    for name in sorted(checkpoints):
        path = kept.folder / f"{name}.ckpt"
        resumed, _ = fit(phantom(folder, num_workers=workers), tmp_path / name, ckpt_path=path, **trainer)
        assert_equal(resumed, whole)


def test_it_holds_for_data_modules_of_anomalib(picture_parts, tmp_path):
    def data():
        parts = {"normal_dir": "train", "normal_test_dir": "val", "val_split_mode": "same_as_test"}
        loader = {"train_batch_size": 4, "num_workers": 0, "train_augmentations": AUGMENTATIONS}
        return Folder("pictures", root=tmp_path / "images", **parts, **loader)

    kept = Kept(tmp_path / "kept")
    whole, _ = fit(data(), tmp_path / "whole", callbacks=[kept])
    resumed, _ = fit(data(), tmp_path / "resumed", ckpt_path=kept.folder / "last-1-6.ckpt")
    assert_equal(resumed, whole)


def test_loaders_with_workers_are_seeded_from_the_first_epoch_on(folder, tmp_path):
    runs = []
    for run in range(2):
        torch.manual_seed(run)  # before the loader is built
        runs.append(fit(phantom(folder, num_workers=1), tmp_path / str(run), max_epochs=1)[0])
    assert_equal(*runs)


class Stop(Callback):
    """Ends the training after a step, as a limit of time does, or by an error."""

    def __init__(self, step, error=None):
        self.step, self.error = step, error

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            if self.error:
                raise self.error
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("callbacks", "trainer"),
    [
        ([], {"max_epochs": 2, "check_val_every_n_epoch": 50}),
        ([], {"max_epochs": -1, "max_steps": 6}),
        ([Stop(6)], {"check_val_every_n_epoch": 50}),
    ],
)
def test_a_run_without_a_validation_ends_with_weights_thresholds_and_a_fitted_scorer(
    folder, tmp_path, callbacks, trainer
):
    model = MemMCMAE(**TINY_MEMMC, seed=0, scorer=MahalanobisScorer(**FOUR_MASKS))
    fit(phantom(folder), tmp_path, callbacks=callbacks, model=model, **trainer)
    assert sorted(path.name for path in weights(tmp_path).iterdir()) == ["model.ckpt", "thresholds.json"]
    saved = MemMCMAE.load_from_checkpoint(weights(tmp_path) / "model.ckpt")
    assert saved.model.scorer.is_fitted
    assert torch.isfinite(saved.post_processor.image_threshold)
    readable = json.loads((weights(tmp_path) / "thresholds.json").read_text())
    assert readable["image_threshold"] == saved.post_processor.image_threshold.item()
    assert readable["promised_false_alarm_rate"] == saved.post_processor.promise[0].item()
    assert (readable["checkpoint"], readable["global_step"]) == ("model.ckpt", model.trainer.global_step)
    assert_equal(saved, model)


@pytest.mark.parametrize(("data", "trainer"), [({}, {"limit_val_batches": 0}), ({"val_split_mode": "none"}, {})])
def test_a_run_without_validation_images_says_what_it_lacks(folder, tmp_path, caplog, data, trainer):
    model, _ = fit(phantom(folder, **data), tmp_path, max_epochs=1, **trainer)
    assert "no thresholds" in caplog.text
    assert_equal(MemMCMAE.load_from_checkpoint(weights(tmp_path) / "model.ckpt"), model)


def interrupted(folder, tmp_path, step, **trainer):
    """A run that broke off after some step; its last.ckpt."""
    with pytest.raises(RuntimeError, match="power cut"):
        fit(phantom(folder), tmp_path, callbacks=[Stop(step, RuntimeError("power cut"))], **trainer)
    return weights(tmp_path) / "last.ckpt"


def test_what_is_finished_or_longer_is_refused(folder, tmp_path):
    last = interrupted(folder, tmp_path / "a", 6)
    with pytest.raises(ValueError, match=r"run of 12 steps .* would have 16 steps .* start a new run"):
        fit(phantom(folder), tmp_path / "b", ckpt_path=last, max_epochs=4)
    other = MemMCMAE(**TINY_MEMMC, lr=3e-3, warmup_epochs=1)
    with pytest.raises(ValueError, match=r"lr 0\.0015\), and this run would have .* lr 0\.003"):
        fit(phantom(folder), tmp_path / "b", ckpt_path=last, model=other)
    fit(phantom(folder), tmp_path / "a", ckpt_path=last)
    finished = weights(tmp_path / "a") / "model.ckpt"
    with pytest.raises(ValueError, match="finished: all its 12 steps"):
        fit(phantom(folder), tmp_path / "b", ckpt_path=finished)
    with pytest.raises(ValueError, match="would have 16 steps"):
        fit(phantom(folder), tmp_path / "b", ckpt_path=finished, max_epochs=4)


@pytest.mark.parametrize("argument", [{"weight_decay": 0.3}, {"optimizer": "adam"}, {"mask_ratio": 0.5}])
def test_other_arguments_than_those_of_the_run_are_refused(folder, tmp_path, argument):
    last = interrupted(folder, tmp_path / "a", 6)
    other = MemMCMAE(**TINY_MEMMC, seed=1, warmup_epochs=1, picture_every=1, **argument)
    ((name, value),) = argument.items()
    with pytest.raises(ValueError, match=rf"belongs to a run with {name}=.* \(here {value!r}\)\. Resume"):
        fit(phantom(folder), tmp_path / "b", ckpt_path=last, model=other)


def test_latest_leads_to_weights(folder, tmp_path):
    latest = tmp_path / "MemMCMAE" / "Phantom" / "latest"
    last = interrupted(folder, tmp_path, 2)
    assert latest.resolve().name == "v0"
    with pytest.raises(ValueError, match="would have"):
        fit(phantom(folder), tmp_path, ckpt_path=last, max_epochs=9)
    assert latest.resolve().name == "v0"
    interrupted(folder, tmp_path, 3, ckpt_path=last)
    assert latest.resolve().name == "v2"
    assert (latest / "weights" / "lightning" / "last.ckpt").is_file()
    copied = json.loads((latest / "weights" / "lightning" / "thresholds.json").read_text())
    assert (copied["checkpoint"], copied["image_threshold"]) == ("last.ckpt", None)  # before the first validation


def test_a_checkpoint_within_an_accumulated_step_is_refused(folder, tmp_path):
    kept = Kept(tmp_path / "kept")
    trainer = {"accumulate_grad_batches": 3, "val_check_interval": 0.5}
    data = phantom(folder, train_batch_size=2)  # eight batches an epoch, validated after four: one after a step
    fit(data, tmp_path / "a", callbacks=[kept], **trainer)
    with pytest.raises(ValueError, match=r"within a step of accumulated batches.*last\.ckpt"):
        fit(data, tmp_path / "b", ckpt_path=kept.folder / "model-0-1.ckpt", **trainer)


def test_a_checkpoint_without_random_states_says_what_differs(folder, tmp_path, caplog):
    last = interrupted(folder, tmp_path / "a", 6)
    old = torch.load(last, weights_only=True)
    old.pop("memmc_random_states")
    torch.save(old, tmp_path / "old.ckpt")
    _, engine = fit(phantom(folder), tmp_path / "b", ckpt_path=tmp_path / "old.ckpt")
    assert engine.trainer.global_step == 12
    assert "random states of 0 processes" in caplog.text


def test_last_checkpoint_stays_where_the_trainer_keeps_others(folder, tmp_path):
    best = fit(phantom(folder), tmp_path / "best", max_epochs=1)[1].trainer.checkpoint_callback
    monitor = type(best)(dirpath=tmp_path / "kept", filename="model", monitor="train_loss_epoch", every_n_epochs=2)
    model, _ = fit(phantom(folder), tmp_path / "a", callbacks=[monitor], max_epochs=3)
    saved = MemMCMAE.load_from_checkpoint(tmp_path / "kept" / "last.ckpt")
    assert_equal(saved, model)


def test_minutes_between_checkpoints(folder, tmp_path):
    for minutes, expected in ((0, 4), (60, 1)):
        kept = Kept(tmp_path / str(minutes))
        model = MemMCMAE(**TINY_MEMMC, checkpoint_minutes=minutes)
        fit(phantom(folder), tmp_path, callbacks=[kept], model=model, max_epochs=1, limit_val_batches=0)
        assert len(list(kept.folder.glob("last-*"))) == min(expected, 3)  # the fourth step ends the training
    with pytest.raises(ValueError, match="checkpoint_minutes must be at least 0"):
        MemMCMAE(**TINY_MEMMC, checkpoint_minutes=-1)


def test_anomalibs_train_is_warned_that_it_tests_the_old_file(folder, tmp_path, caplog):
    last = interrupted(folder, tmp_path, 6)
    kept = shutil.copy(last, tmp_path)
    model = MemMCMAE(**TINY_MEMMC, seed=0, warmup_epochs=1)
    engine = Engine(default_root_dir=tmp_path, **TRAINER)
    engine.train(model, datamodule=phantom(folder), ckpt_path=kept)
    assert "and not the weights that it ended with" in caplog.text
