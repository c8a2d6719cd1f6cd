import pytest
import torch
from anomalib.engine import Engine
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import ReconstructionScorer, SquaredErrorMap


@pytest.fixture(scope="package")
def grey(tmp_path_factory):
    """A grey model with thresholds, and the file of its checkpoint."""
    folder = tmp_path_factory.mktemp("grey")
    sizes = {"image_size": 32, "num_train": 24, "num_test_normal": 2, "num_test_anomalous": 2, "num_val_normal": 4}
    data = Phantom(kind="radiograph", root=folder / "data", num_workers=0, **sizes)
    scorer = ReconstructionScorer(SquaredErrorMap(), num_masks=2, mask_sampler="complementary")
    torch.manual_seed(0)
    model = MemMCMAE(**{**TINY_MEMMC, "in_channels": 1}, scorer=scorer)
    engine = Engine(
        max_epochs=1, accelerator="cpu", devices=1, default_root_dir=folder / "results", enable_progress_bar=False
    )
    engine.fit(model, datamodule=data)
    return model.eval(), engine.trainer.checkpoint_callback.best_model_path


@pytest.fixture(scope="package")
def root(grey, tmp_path_factory):
    """Folder with the exports of the model, all of them by the engine, from the checkpoint."""
    model, checkpoint = grey
    folder = tmp_path_factory.mktemp("exports")
    for kind in ("torch", "onnx", "openvino"):
        Engine(accelerator="cpu", devices=1).export(model, kind, export_root=folder / "results", ckpt_path=checkpoint)
    return folder
