"""Out of memory: the error names the settings that help."""

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer

TRAINING = r"train_batch_size.*accumulate_grad_batches.*recompute.*precision.*2\.00 GiB"
SCORING = r"chunk_size.*eval_batch_size.*2\.00 GiB"


def no_memory(*_args, **_kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class NeedsTooMuch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        no_memory()


@pytest.fixture
def batch():
    return ImageBatch(image=torch.rand(2, 3, 32, 32))


@pytest.fixture
def model():
    return MemMCMAE(**TINY_MEMMC)


def test_in_the_forward_pass_of_training(model, batch, monkeypatch):
    monkeypatch.setattr(model.model.network, "predict", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match=TRAINING):
        model.training_step(batch)


def test_in_the_backward_pass(model):
    loss = NeedsTooMuch.apply(torch.ones((), requires_grad=True))
    with pytest.raises(torch.OutOfMemoryError, match=TRAINING):
        model.backward(loss)


@pytest.mark.parametrize("step", ["validation_step", "test_step", "predict_step"])
def test_in_scoring(model, batch, monkeypatch, step):
    monkeypatch.setattr(model.model, "score", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match=SCORING):
        getattr(model.eval(), step)(batch, 0)


def test_in_scoring_normal_images(tmp_path, monkeypatch):
    model = MemMCMAE(**TINY_MEMMC, scorer=MahalanobisScorer(num_masks=4))
    monkeypatch.setattr(model.model.scorer, "fit", no_memory)
    engine = Engine(default_root_dir=tmp_path, max_epochs=1, accelerator="cpu", logger=False)
    with pytest.raises(torch.OutOfMemoryError, match=SCORING):
        engine.fit(model, datamodule=Phantom(root=tmp_path, **TINY_PHANTOM))


def test_other_errors_keep_their_words(model, batch, monkeypatch):
    def wrong(*_args):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(model.model.network, "predict", wrong)
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        model.training_step(batch)
