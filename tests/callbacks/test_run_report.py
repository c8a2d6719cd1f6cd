import json
import logging
import re

import pytest
from anomalib.data import Folder
from anomalib.engine import Engine
from helpers.brightness import Brightness
from helpers.images import TINY_PHANTOM, save_frame
from helpers.models import TINY_MEMMC
from helpers.reports import text
from helpers.runs import TRAINER, weights

from anomalib_memmc import MemMCMAE, Phantom
from anomalib_memmc.callbacks import PredictionTable, RunReport
from anomalib_memmc.reporting.report.collector import Collector
from anomalib_memmc.scoring import ReconstructionScorer


@pytest.fixture
def data(tmp_path):
    return Phantom(**TINY_PHANTOM, root=tmp_path / "phantom")


def memmc(**arguments):
    scorer = ReconstructionScorer(num_masks=2)
    return MemMCMAE(**TINY_MEMMC, scorer=scorer, seed=0, warmup_epochs=0, visualizer=False, **arguments)


def engine(tmp_path, **trainer):
    return Engine(default_root_dir=tmp_path / "results", **{**TRAINER, "max_epochs": 1, **trainer})


def folder(tmp_path):
    return tmp_path / "results" / "MemMCMAE" / "Phantom" / "latest"


def test_a_training_and_its_test_end_with_a_report(tmp_path, data, capsys):
    own = engine(tmp_path)
    own.fit(memmc(), datamodule=data)
    own.trainer.test(own.model, datamodule=data)
    words = text((folder(tmp_path) / "report.html").read_text())
    assert "MemMCMAE on Phantom" in words
    assert "of 4 test images were called anomalous" in words
    assert "training 12 0 0 validation 4 0 0 test 2 2 2" in words
    assert "1 epochs, 3 steps, 4 images a batch on each of 1 devices" in words
    assert "model 0" in words
    assert "brightness of the image" in words
    assert "Not here: the learnt threshold" not in words
    assert re.search(r"Report: .*report\.html", capsys.readouterr().out)
    sizes = json.loads((folder(tmp_path) / "report" / "test.json").read_text())["data"]["parts"]
    assert [part["masks"] for part in sizes] == [0, 0, 2]


def test_a_test_of_a_checkpoint_knows_its_training(tmp_path, data):
    engine(tmp_path).fit(memmc(), datamodule=data)
    assert not (folder(tmp_path) / "report.html").exists()
    checkpoint = weights(tmp_path / "results") / "model.ckpt"
    elsewhere = Engine(default_root_dir=tmp_path / "other", **TRAINER)
    elsewhere.test(memmc(), datamodule=data, ckpt_path=checkpoint)
    (report,) = (tmp_path / "other").rglob("report.html")
    assert "1 epochs, 3 steps" in text(report.read_text())


def test_weights_of_another_training_get_none_of_its_facts(tmp_path, data):
    engine(tmp_path).fit(memmc(), datamodule=data)
    other = memmc()
    engine(tmp_path).test(other, datamodule=data)  # anomalib tests in the folder of the last training
    assert "its facts are not beside the checkpoint" in text((folder(tmp_path) / "report.html").read_text())


def test_no_report_where_none_is_wanted(tmp_path, data):
    own = engine(tmp_path)
    own.fit(memmc(report=False), datamodule=data)
    own.trainer.test(own.model, datamodule=data)
    assert (folder(tmp_path) / "predictions.csv").is_file()
    assert not (folder(tmp_path) / "report.html").exists()


@pytest.mark.parametrize("place", ["add", "gathered", "write"])
def test_trouble_costs_no_results(tmp_path, data, caplog, monkeypatch, place):
    def fail(*_, **__):
        msg = "no space left"
        raise OSError(msg)

    if place == "write":
        monkeypatch.setattr("anomalib_memmc.callbacks.run_report.write_report", fail)
    else:
        monkeypatch.setattr(Collector, place, fail)
    own = engine(tmp_path)
    own.fit(memmc(), datamodule=data)
    with caplog.at_level(logging.ERROR):
        (metrics,) = own.trainer.test(own.model, datamodule=data)
    assert "image_AUROC" in metrics
    assert "no space left" in caplog.text
    assert (folder(tmp_path) / "predictions.csv").is_file()
    assert (folder(tmp_path) / "report.html").is_file() == (place != "write")
    if place != "write":
        assert "test.json is missing" in (folder(tmp_path) / "report.html").read_text()


def test_an_old_table_is_not_reported(tmp_path, data, caplog, monkeypatch):
    own = engine(tmp_path)
    own.fit(memmc(), datamodule=data)
    (folder(tmp_path) / "predictions.csv").write_text("an earlier test")
    monkeypatch.setattr("anomalib_memmc.callbacks.run_report._CLOCK", -1e9)
    with caplog.at_level(logging.WARNING):
        own.trainer.test(own.model, datamodule=data)
    assert "the test left no predictions.csv" in caplog.text
    assert not (folder(tmp_path) / "report.html").exists()


def test_any_model_and_any_data_of_anomalib(tmp_path):
    folders = [tmp_path / "images" / kind for kind in ("normal", "sick")]
    for number in range(16):
        save_frame(folders[number % 2] / f"{number}.png", number)
    data = Folder("frames", folders[0], abnormal_dir=folders[1], num_workers=0, val_split_mode="same_as_test")

    class Reported(Brightness):
        def configure_callbacks(self):
            return [PredictionTable(), *super().configure_callbacks(), RunReport()]

    own = engine(tmp_path)
    own.fit(Reported(), datamodule=data)
    own.test(own.model, datamodule=data)
    (report,) = (tmp_path / "results").rglob("report.html")
    words = text(report.read_text())
    assert "Reported on frames" in words
    assert "frames does not check its images" in words
    assert "Not here: IoU, since the test has no masks" in words
    assert "Truth: anomalous" in words
