"""Accumulated batches: the steps, the learning rates and the gradients of one large batch."""

import math

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from helpers.models import TINY_MEMMC
from lightning.pytorch import Callback
from torch.utils.data import DataLoader, IterableDataset

from anomalib_memmc import MemMCMAE
from anomalib_memmc.model import torch_model


class Steps(Callback):
    """Notes the learning rate and the gradients of every step of the optimizer."""

    def __init__(self):
        self.rates, self.gradients = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.gradients):
            self.gradients.append({name: p.grad.clone() for name, p in pl_module.model.named_parameters()})


def collate(images):
    return ImageBatch(image=torch.stack(images))


def fit(folder, images, batch_size, accumulate, model=None, **trainer):
    """Train on images in their order; lr is 0 where no model is given, so that only the batches differ."""
    steps = Steps()
    arguments = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 1, **trainer}
    engine = Engine(
        default_root_dir=folder, callbacks=[steps], accumulate_grad_batches=accumulate, limit_val_batches=0, **arguments
    )
    model = MemMCMAE(**TINY_MEMMC, lr=0, seed=0) if model is None else model
    engine.fit(model, train_dataloaders=DataLoader(images, batch_size=batch_size, collate_fn=collate))
    return steps, engine.trainer


@pytest.fixture
def eleven():
    return list(torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def same_masks(monkeypatch):
    """Every image sees the same mask, whatever its batch."""

    def indices(images, patches, ratio):
        order = torch.randperm(patches, generator=torch.Generator().manual_seed(1)).expand(images, -1)
        return order[:, : patches // 4], order[:, patches // 4 :]

    monkeypatch.setattr(torch_model, "random_indices", indices)


@pytest.mark.parametrize(
    ("count", "batch_size", "accumulate"),
    [
        (11, 2, 2),  # the last step has a batch of 2 and one of 1
        (11, 1, 4),  # the last step has three batches
        (9, 2, 2),  # the last step has one batch of 1
        (8, 2, 2),
    ],
)
def test_steps_have_the_gradients_and_the_loss_of_one_large_batch(
    eleven, same_masks, tmp_path, count, batch_size, accumulate
):
    images = eleven[:count]
    expected, large = fit(tmp_path, images, 4, 1)
    steps, small = fit(tmp_path, images, batch_size, accumulate)
    assert len(steps.gradients) == len(expected.gradients) == math.ceil(count / 4)
    for gradients, of_large in zip(steps.gradients, expected.gradients, strict=True):
        torch.testing.assert_close(gradients, of_large, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(small.callback_metrics["train_loss_epoch"], large.callback_metrics["train_loss_epoch"])


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (2, 2), (1, 4)])
def test_warm_up_and_cosine_count_steps_of_the_optimizer(eleven, tmp_path, batch_size, accumulate):
    model = MemMCMAE(**TINY_MEMMC, lr=1e-3, warmup_epochs=2)
    steps, trainer = fit(tmp_path, eleven, batch_size, accumulate, model, max_epochs=4)
    warmup = [1e-3 * (step + 1) / 7 for step in range(6)]  # 3 steps an epoch
    cosine = [1e-3 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert trainer.global_step == 12
    assert steps.rates == pytest.approx(warmup + cosine)


def test_max_steps_alone_end_the_training(eleven, tmp_path):
    model = MemMCMAE(**TINY_MEMMC, lr=1e-3, warmup_epochs=1)
    steps, _ = fit(tmp_path, eleven, 2, 2, model, max_epochs=-1, max_steps=6)
    assert steps.rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert len(steps.rates) == 6


def test_warm_up_needs_epochs_of_a_known_length(eleven, tmp_path):
    class Endless(IterableDataset):
        def __iter__(self):
            yield from eleven

    with pytest.raises(ValueError, match="limit_train_batches"):
        fit(tmp_path, Endless(), 2, 1, max_epochs=-1, max_steps=6)
