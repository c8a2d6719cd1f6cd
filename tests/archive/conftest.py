"""A tiny trained checkpoint and its images, shared by all tests of the folder."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import FOUR_MASKS, TINY_MEMMC

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import MahalanobisScorer

DATA = {**TINY_PHANTOM, "num_train": 60, "num_val_normal": 24, "num_test_normal": 20, "num_test_anomalous": 10}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Checkpoint, its model's arguments, the data module, and the predictions of a test."""
    folder = tmp_path_factory.mktemp("archive")
    datamodule = Phantom(root=folder / "images", **DATA)
    arguments = {**TINY_MEMMC, "seed": 0}
    model = MemMCMAE(**arguments, scorer=MahalanobisScorer(**FOUR_MASKS))
    engine = Engine(
        default_root_dir=folder, max_epochs=1, devices=1, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    engine.train(model, datamodule=datamodule)
    (predictions,) = folder.rglob("predictions.csv")
    return SimpleNamespace(
        checkpoint=Path(engine.trainer.checkpoint_callback.best_model_path),
        arguments=arguments,
        datamodule=datamodule,
        folder=datamodule.folder,
        predictions=pd.read_csv(predictions),
    )
