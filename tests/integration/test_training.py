"""Training through anomalib's engine: schedule, seeds, precision, what overrides what, and what failures say."""

from copy import copy

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from helpers.images import TINY_PHANTOM
from helpers.models import FOUR_MASKS, TINY_MEMMC
from lightning.pytorch import Callback, callbacks
from torchvision.transforms.v2 import Compose, Normalize, RandomErasing, Resize

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer, ReconstructionScorer

TINY = TINY_MEMMC


def four_masks(**arguments):
    return ReconstructionScorer(**{**FOUR_MASKS, **arguments})


class Rates(Callback):
    """Notes the learning rate before each step and the loss after it."""

    def __init__(self):
        self.rates, self.losses = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    return Phantom(root=tmp_path_factory.mktemp("phantom"), **TINY_PHANTOM)


def fit(datamodule, folder, model, **trainer):
    notes = Rates()
    arguments = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 2, **trainer}
    engine = Engine(default_root_dir=folder, callbacks=[notes], **arguments)
    engine.fit(model, datamodule=datamodule)
    return engine, notes


def test_warm_up_and_cosine_are_counted_in_steps(datamodule, tmp_path):
    _, notes = fit(datamodule, tmp_path, MemMCMAE(**TINY, lr=1e-3, warmup_epochs=1), max_epochs=4)  # 3 steps an epoch
    rates = torch.tensor(notes.rates)
    assert len(rates) == 12
    assert torch.allclose(rates[:4], 1e-3 * torch.tensor([0.25, 0.5, 0.75, 1.0]))
    assert (rates[3:].diff() < 0).all()
    assert rates[-1] < 0.05e-3


def test_linear_scaling_multiplies_by_the_batch(datamodule, tmp_path):
    model = MemMCMAE(**TINY, lr=1e-3, lr_scaling="linear", warmup_epochs=0)
    _, notes = fit(datamodule, tmp_path, model, accumulate_grad_batches=2)
    assert notes.rates[0] == pytest.approx(1e-3 * 4 * 2 / 256)


@pytest.mark.parametrize(("name", "expected"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_optimizer_and_what_is_not_decayed(datamodule, tmp_path, name, expected):
    model = MemMCMAE(**TINY, optimizer=name, weight_decay=0.1)
    engine, _ = fit(datamodule, tmp_path, model, max_epochs=1)
    (optimizer,) = engine.trainer.optimizers
    assert type(optimizer) is expected
    assert optimizer.defaults["betas"] == (0.9, 0.95)
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    memory = {id(p) for key, p in model.model.named_parameters() if "memory_" in key or key.endswith("bias")}
    assert memory <= {id(p) for p in free["params"]}
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.model.parameters()))


def test_a_seed_repeats_a_run_and_leaves_the_callers_random_state_alone(datamodule, tmp_path):
    state = torch.get_rng_state()
    models = [MemMCMAE(**TINY, seed=3) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    losses = [fit(datamodule, tmp_path / str(i), model)[1].losses for i, model in enumerate(models)]
    assert losses[0] == losses[1]
    other = MemMCMAE(**TINY, seed=4)
    assert not torch.equal(
        other.model.network.patch_embed.weight, MemMCMAE(**TINY, seed=3).model.network.patch_embed.weight
    )


def test_only_max_epochs_of_the_model_overrides_the_trainer(datamodule, tmp_path):
    assert MemMCMAE(**TINY).trainer_arguments == {}
    engine, notes = fit(datamodule, tmp_path, MemMCMAE(**TINY, max_epochs=1), max_epochs=5)
    assert engine.trainer.current_epoch == 1
    assert len(notes.losses) == 3


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_trains_and_scores_in_float32(datamodule, tmp_path, precision):
    model = MemMCMAE(**TINY)
    engine, notes = fit(datamodule, tmp_path, model, precision=precision)
    assert torch.isfinite(torch.tensor(notes.losses)).all()
    (predictions,) = engine.predict(model, dataloaders=None, datamodule=datamodule)
    assert predictions.anomaly_map.dtype == torch.float32
    assert torch.isfinite(predictions.anomaly_map).all()


def test_a_loss_that_is_not_finite_says_what_to_do(datamodule):
    model = MemMCMAE(**TINY)
    batch = ImageBatch(image=torch.full((2, 3, 32, 32), float("nan")))
    with pytest.raises(RuntimeError, match=r"training loss is nan at step 0.*lr.*precision"):
        model.training_step(batch)


def test_a_checkpoint_of_another_shape_names_the_argument(datamodule, tmp_path):
    engine, _ = fit(datamodule, tmp_path, MemMCMAE(**TINY), max_epochs=1)
    checkpoint = engine.trainer.checkpoint_callback.best_model_path
    other = MemMCMAE(**{**TINY, "encoder_depth": 3, "memory_slots": 8})
    with pytest.raises(ValueError, match=r"encoder_depth=2 \(here 3\); memory_slots=4 \(here 8\).*--config"):
        Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False).test(
            other, datamodule=datamodule, ckpt_path=checkpoint
        )


def test_a_checkpoint_of_the_same_shape_but_another_computation_is_refused(datamodule, tmp_path, caplog):
    engine, _ = fit(datamodule, tmp_path, MemMCMAE(**TINY, scorer=four_masks()), max_epochs=1)
    checkpoint = engine.trainer.checkpoint_callback.best_model_path
    tester = Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False)
    for changed in ({"encoder_heads": 4}, {"cross_residual": True}, {"normalize": "imagenet"}):
        with pytest.raises(ValueError, match=next(iter(changed))):
            tester.test(MemMCMAE(**{**TINY, **changed}), datamodule=datamodule, ckpt_path=checkpoint)
    tester.test(MemMCMAE(**TINY, scorer=four_masks(mask_seed=5)), datamodule=datamodule, ckpt_path=checkpoint)
    assert "mask_seed=0 (here 5)" in caplog.text


def test_the_path_of_pretrained_weights_is_not_needed_again(datamodule, tmp_path):
    source = MemMCMAE(**TINY).model.network
    weights = {
        f"blocks.{key[15:]}": value for key, value in source.state_dict().items() if key.startswith("encoder.blocks")
    }
    weights = {key: value for key, value in weights.items() if "memory" not in key}
    weights |= {"patch_embed.proj.weight": source.patch_embed.weight, "patch_embed.proj.bias": source.patch_embed.bias}
    path = tmp_path / "mae.pth"
    torch.save({"model": weights}, path)
    model = MemMCMAE(**TINY, pretrained=path)
    assert torch.equal(model.model.network.patch_embed.weight, source.patch_embed.weight)
    engine, _ = fit(datamodule, tmp_path, model, max_epochs=1)
    path.unlink()
    MemMCMAE.load_from_checkpoint(engine.trainer.checkpoint_callback.best_model_path)


def test_a_normalising_pre_processor_is_refused():
    transform = Compose([Resize((32, 32)), Normalize(mean=[0.5] * 3, std=[0.2] * 3)])
    with pytest.raises(ValueError, match="normalize='imagenet'"):
        MemMCMAE(**TINY, pre_processor=PreProcessor(transform=transform))


def test_size_that_the_patch_does_not_divide_is_refused_at_construction():
    with pytest.raises(ValueError, match="60 x 64 is not a multiple of patch_size 16"):
        MemMCMAE(image_size=(60, 64))


def test_training_without_an_end_is_refused(datamodule, tmp_path):
    with pytest.raises(ValueError, match="max_epochs"):
        fit(datamodule, tmp_path, MemMCMAE(**TINY), max_epochs=-1)


@pytest.mark.parametrize(
    ("name", "arguments"), [("EMAWeightAveraging", {}), ("StochasticWeightAveraging", {"swa_lrs": 1e-3})]
)
def test_averaging_of_weights_is_refused(datamodule, tmp_path, name, arguments):
    if not hasattr(callbacks, name):
        pytest.skip(f"{name} needs a newer Lightning")
    engine = Engine(default_root_dir=tmp_path, callbacks=[getattr(callbacks, name)(**arguments)], accelerator="cpu")
    with pytest.raises(ValueError, match=rf"{name}.*remove it from trainer\.callbacks"):
        engine.fit(MemMCMAE(**TINY, max_epochs=1), datamodule=datamodule)


SEEDED = {**TINY, "seed": 0}


def distances(**arguments):
    return MahalanobisScorer(**{**FOUR_MASKS, **arguments})


def normal_cells(model, datamodule):
    """Root errors of the training images as a validation sees them, one by one."""
    dataset = copy(datamodule.train_data)
    dataset.augmentations = None
    images = model.pre_processor.transform(torch.stack([item.image for item in dataset]))
    return torch.cat([model.model.scorer.cells(model.model(image[None]).anomaly_map) for image in images])


@pytest.mark.parametrize("trainer", [{}, {"limit_val_batches": 0}, {"check_val_every_n_epoch": 2, "max_epochs": 3}])
def test_mahalanobis_knows_the_normal_images_under_the_last_weights(datamodule, tmp_path, trainer):
    model = MemMCMAE(**SEEDED, scorer=distances())
    fit(datamodule, tmp_path, model, **trainer)
    model.eval()
    assert model.model.scorer.is_fitted
    with torch.no_grad():
        torch.testing.assert_close(
            model.model.scorer.mean, normal_cells(model, datamodule).mean(dim=0), rtol=1e-4, atol=1e-5
        )


def test_mahalanobis_ignores_training_augmentations(datamodule, tmp_path):
    measured = []
    for augmentations in (None, RandomErasing(p=1.0, scale=(0.5, 0.5))):
        datamodule.train_augmentations = augmentations
        model = MemMCMAE(**SEEDED, scorer=distances(), lr=0)
        fit(datamodule, tmp_path, model, max_epochs=1)
        measured.append(model.model.scorer.mean)
        assert ("RandomErasing" in repr(datamodule.train_data.augmentations)) == (augmentations is not None)
    datamodule.train_augmentations = None
    torch.testing.assert_close(*measured)


def test_mahalanobis_is_in_the_checkpoint_and_refuses_other_masks(datamodule, tmp_path):
    model = MemMCMAE(**SEEDED, scorer=distances())
    engine, _ = fit(datamodule, tmp_path, model)
    checkpoint = engine.trainer.checkpoint_callback.best_model_path
    loaded = MemMCMAE.load_from_checkpoint(checkpoint, weights_only=True).model.scorer
    torch.testing.assert_close(loaded.whitening, model.model.scorer.whitening)
    tester = Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False)
    with pytest.raises(ValueError, match=r"measured with other scoring.*num_masks=4 \(here 8\)"):
        tester.test(MemMCMAE(**SEEDED, scorer=distances(num_masks=8)), datamodule=datamodule, ckpt_path=checkpoint)
