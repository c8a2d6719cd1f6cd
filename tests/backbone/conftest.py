"""A MemMC-MAE that was trained for a moment, and its checkpoint."""

from pathlib import Path

import pytest
from anomalib.engine import Engine
from helpers.images import TINY_PHANTOM
from helpers.models import TINY_MEMMC

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.scoring import ReconstructionScorer, SquaredErrorMap


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """The model, its data and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    datamodule = Phantom(root=folder / "data", **TINY_PHANTOM)
    scorer = ReconstructionScorer(SquaredErrorMap(), num_masks=1)
    model = MemMCMAE(**TINY_MEMMC, in_channels=1, scorer=scorer, seed=0)
    engine = Engine(default_root_dir=folder, max_epochs=1, accelerator="cpu", devices=1, logger=False)
    engine.fit(model, datamodule=datamodule)
    return model, datamodule, Path(engine.trainer.checkpoint_callback.best_model_path)
