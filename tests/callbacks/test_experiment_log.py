"""Where metrics go: into the run's folder, or to the logger that a trainer has."""

import pandas as pd
import pytest
from anomalib.engine import Engine
from helpers.models import TINY_MEMMC
from lightning.pytorch.loggers import CSVLogger

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.callbacks import experiment_log


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train and test a tiny model; the run's folder."""
    monkeypatch.setattr(experiment_log, "find_spec", lambda _: None)  # no TensorBoard
    monkeypatch.chdir(tmp_path)
    sizes = {"image_size": 32, "num_train": 8, "num_test_normal": 2, "num_test_anomalous": 2, "num_val_normal": 2}

    def run(logger=None, epochs=2, **arguments):
        engine = Engine(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            logger=logger,
            default_root_dir=tmp_path / "results",
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        engine.train(MemMCMAE(**TINY_MEMMC, **arguments), datamodule=Phantom(num_workers=0, **sizes))
        return tmp_path / "results" / "MemMCMAE" / "Phantom" / "latest"

    return run


def test_without_a_logger_losses_and_metrics_are_in_the_runs_folder(train, recwarn):
    table = pd.read_csv(train() / "logs" / "metrics.csv")
    assert table["train_loss_epoch"].count() == 2
    assert table["train_loss_step"].count() == table["lr"].count() == table["step"].max()
    assert table["image_AUROC"].count() == 1  # the test's
    assert not [str(each.message) for each in recwarn if "logging interval" in str(each.message)]


def test_two_trainings_have_their_own(train):
    first, second = train().resolve(), train(epochs=1).resolve()
    assert first != second
    epochs = [pd.read_csv(folder / "logs" / "metrics.csv")["train_loss_epoch"].count() for folder in (first, second)]
    assert epochs == [2, 1]


def test_a_logger_of_the_trainer_is_kept_alone(train, tmp_path):
    folder = train(logger=CSVLogger(tmp_path / "mine", name="", version="a"))
    assert (tmp_path / "mine" / "a" / "metrics.csv").is_file()
    assert not (folder / "logs").exists()


def test_it_can_be_left_out(train):
    assert not (train(log_metrics=False) / "logs").exists()


def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_log, "find_spec", lambda name: name == "tensorboard")
    made = []
    monkeypatch.setattr(experiment_log, "TensorBoardLogger", lambda *args, **kwargs: made.append((args, kwargs)))
    experiment_log.run_loggers(tmp_path)
    assert made == [((str(tmp_path),), {"name": "logs", "version": ""})]
